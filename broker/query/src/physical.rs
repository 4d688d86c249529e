//! What DataFusion's own operators lack here: some take memory that nobody counts, and some compute for long
//! without letting others have a turn.

use crate::scan::BATCH_ROWS;
use crate::unfolded;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::{TryStreamExt, stream};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What is kept of a batch takes its own memory, and that of its copy where all batches are made one.
const COPIES: usize = 2;

/// The same plan within bounds: what OVER keeps is counted as memory of the query, lists are unfolded in pieces, and
/// that and joins without an equality let others have a turn.
pub(crate) fn bounded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let bounded = plan.transform_up(|node| {
        let any: &dyn Any = &*node;
        if any.is::<WindowAggExec>() || any.is::<BoundedWindowAggExec>() {
            let held = node.children().into_iter();
            let held = held.map(|c| Passing::over(What::Held, c.clone()));
            let held: Vec<_> = held.collect();
            let recomputed = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            let over = node.replace_children(held, recomputed)?;
            return Ok(Transformed::yes(Passing::over(What::Sliced, over)));
        }
        if let Some(unnest) = any.downcast_ref::<UnnestExec>() {
            let lists = What::Unfolded(unnest.list_column_indices().into());
            let pieces = Passing::over(lists, unnest.input().clone());
            let recomputed = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            let unfolded = node.replace_children(vec![pieces], recomputed)?;
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(unfolded))));
        }
        if any.is::<CrossJoinExec>() || any.is::<NestedLoopJoinExec>() {
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node))));
        }
        Ok(Transformed::no(node))
    });
    bounded.map(|b| b.data)
}

/// What happens to batches that are passed on.
#[derive(Clone, Debug)]
enum What {
    /// They count as memory for as long as they are read.
    Held,
    /// They are passed on in slices: what is computed over one that has all rows could take any memory.
    Sliced,
    /// They are passed on in pieces that do not become too much where these lists are unfolded.
    Unfolded(Arc<[ListUnnest]>),
}

/// Passes batches on.
#[derive(Debug)]
struct Passing {
    what: What,
    input: Arc<dyn ExecutionPlan>,
}

impl Passing {
    fn over(what: What, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { what, input })
    }
}

impl DisplayAs for Passing {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl ExecutionPlan for Passing {
    fn name(&self) -> &'static str {
        "Passing"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::over(self.what.clone(), children.swap_remove(0)))
    }

    // Deprecated, and still asked for.
    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::over(self.what.clone(), children.swap_remove(0)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let batches = self.input.execute(partition, context.clone())?;
        let schema = batches.schema();
        match &self.what {
            What::Held => {
                let held = MemoryConsumer::new("OVER").register(context.memory_pool());
                let counted = batches.and_then(move |batch| {
                    let counted = held.try_grow(batch.get_array_memory_size() * COPIES);
                    std::future::ready(counted.map(|()| batch))
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
            }
            What::Sliced => {
                let sliced = batches.map_ok(|batch| stream::iter(slices(batch).map(Ok)));
                let sliced = sliced.try_flatten();
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, sliced)))
            }
            What::Unfolded(lists) => {
                let lists = lists.clone();
                let pieces = batches.and_then(move |batch| {
                    let pieces = unfolded::pieces(&batch, &lists);
                    std::future::ready(pieces.map(|p| stream::iter(p.into_iter().map(Ok))))
                });
                let pieces = pieces.try_flatten();
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, pieces)))
            }
        }
    }
}

fn slices(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    let starts = (0..rows).step_by(BATCH_ROWS);
    starts.map(move |from| batch.slice(from, BATCH_ROWS.min(rows - from)))
}
