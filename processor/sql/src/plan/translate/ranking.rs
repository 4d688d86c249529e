//! `row_number() OVER (PARTITION BY ... ORDER BY ...)`, wanted up to a number: within windows, by `window_start`
//! and `window_end`, or for ever.

use super::column::Meaning;
use super::{Build, Built, unaliased};
use crate::cell::{is_orderable, is_storable};
use crate::operator::rank::{Rank, nullable};
use crate::operator::top::Top;
use crate::operator::{Operator, WindowColumns};
use crate::plan::scalar;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator as Op, Window};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Most rows of each group that can be wanted.
const FIRST_MAX: u64 = 1_000;

/// A filter that wants the first rows: the ranking beneath it, and how many.
pub(super) fn wanted(filter: &datafusion::logical_expr::Filter) -> Option<(&Window, u64)> {
    let (column, first) = bound(&filter.predicate)?;
    let window = beneath(&filter.input, column)?;
    Some((window, first))
}

/// `column <= n`, `column < n` or `column = 1`.
fn bound(expr: &Expr) -> Option<(&Column, u64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return None;
    };
    let Expr::Column(column) = left.as_ref() else {
        return None;
    };
    let Expr::Literal(value, _) = right.as_ref() else {
        return None;
    };
    let number = match value {
        ScalarValue::UInt64(Some(n)) => *n,
        ScalarValue::Int64(Some(n)) => u64::try_from(*n).ok()?,
        _ => return None,
    };
    match op {
        Op::LtEq => Some((column, number)),
        Op::Lt => Some((column, number.checked_sub(1)?)),
        Op::Eq if number == 1 => Some((column, 1)),
        _ => None,
    }
}

/// The ranking that a column comes from, with nothing but names between.
fn beneath<'p>(plan: &'p LogicalPlan, column: &Column) -> Option<&'p Window> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let at = plan.schema().index_of_column(column).ok()?;
            beneath(&alias.input, &alias.input.schema().columns()[at])
        }
        LogicalPlan::Projection(projection) => {
            let at = plan.schema().index_of_column(column).ok()?;
            match unaliased(&projection.expr[at]) {
                Expr::Column(column) => beneath(&projection.input, column),
                _ => None,
            }
        }
        LogicalPlan::Window(window) => {
            let at = plan.schema().index_of_column(column).ok()?;
            (at == window.input.schema().fields().len()).then_some(window)
        }
        _ => None,
    }
}

impl Build<'_> {
    /// A ranking of which the first rows are wanted; without a number it is refused.
    pub(super) fn rank(&mut self, plan: &Window) -> Result<Built> {
        let Some(first) = self.wanted.take() else {
            return plan_err!(
                "OVER is supported as row_number() with a filter on it: rank <= 10, in a query around it"
            );
        };
        if first == 0 || first > FIRST_MAX {
            return plan_err!("the first {first} rows are wanted: give 1 to {FIRST_MAX}");
        }
        let call = match &plan.window_expr[..] {
            [one] => match unaliased(one) {
                Expr::WindowFunction(call) if call.fun.name() == "row_number" => call,
                _ => return plan_err!("OVER is supported with row_number() only"),
            },
            _ => return plan_err!("a query has one OVER"),
        };
        let input = self.plan_inside(&plan.input)?;
        input.columns.no_session("a ranking")?;
        let ranking = ranking(call, plan.input.schema(), &input.columns)?;
        self.gathers |= ranking.window.is_some() || !ranking.has_key;
        match ranking.window {
            Some(window) => self.rank_windows(ranking, window, input, first as usize),
            None => self.rank_for_ever(ranking, input, first as usize),
        }
    }

    /// Windows are ranked once, when they close.
    fn rank_windows(
        &mut self,
        ranking: Ranking,
        (start, end): (usize, usize),
        input: Built,
        first: usize,
    ) -> Result<Built> {
        if input.updating {
            return plan_err!(
                "ranking windows that change is not supported: EMIT ON WINDOW CLOSE, or rank without their bounds"
            );
        }
        let rank = Rank {
            groups: ranking.groups,
            window: WindowColumns {
                start,
                end,
                lateness_ms: self.emit.lateness_ms,
            },
            order: ranking.order,
            first,
            schema: ranking.schema,
            input: ranking.input,
        };
        let mut meanings = input.columns.meanings.clone();
        meanings.push(Meaning::default());
        for meaning in &mut meanings {
            *meaning = Meaning {
                time: meaning.ended || meaning.end,
                began: meaning.began || meaning.start,
                ended: meaning.ended || meaning.end,
                ..Meaning::default()
            };
        }
        let node = self.add(Operator::Rank(Box::new(rank)), &[input.node])?;
        Ok(Built {
            node,
            columns: super::Columns {
                meanings,
                window: None,
            },
            updating: false,
        })
    }

    /// Ranks that may be other rows with each row that comes.
    fn rank_for_ever(&mut self, ranking: Ranking, input: Built, first: usize) -> Result<Built> {
        if !self.emit.changes {
            return plan_err!(
                "a ranking without a window never ends: write EMIT CHANGES, or PARTITION BY both window_start and \
                 window_end"
            );
        }
        if self.emit.every_ms.is_some() && !self.inside {
            // One row may move all ranks behind it: what is held back would be all of them, as they were and are.
            return plan_err!(
                "EMIT EVERY of a ranking without a window is not supported: EMIT CHANGES"
            );
        }
        if self.emit.ttl_ms.is_some() {
            return plan_err!(
                "state_ttl_ms would take rows away from under a ranking: leave it out"
            );
        }
        for (order, _) in &ranking.order {
            let data_type = order.data_type(&ranking.input)?;
            if !is_orderable(&data_type) {
                return plan_err!("ORDER BY of type {data_type} is not supported here");
            }
        }
        if ranking.input.fields().is_empty() {
            return plan_err!("a ranking needs a column: ORDER BY one");
        }
        let meanings = vec![Meaning::default(); ranking.schema.fields().len()];
        let top = Top {
            groups: ranking.groups,
            order: ranking.order,
            first,
            updating: input.updating,
            schema: ranking.schema,
            input: ranking.input,
            gone: None,
        };
        let node = self.add(Operator::Top(Box::new(top)), &[input.node])?;
        Ok(Built {
            node,
            columns: super::Columns {
                meanings,
                window: None,
            },
            updating: true,
        })
    }
}

/// What a ranking says.
struct Ranking {
    /// What rows are ranked by, without the bounds of windows.
    groups: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns with these bounds.
    window: Option<(usize, usize)>,
    /// The key of the record is among what rows are ranked by.
    has_key: bool,
    order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// The columns of the input.
    input: SchemaRef,
    /// Those and the rank.
    schema: SchemaRef,
}

fn ranking(call: &WindowFunction, schema: &DFSchema, columns: &super::Columns) -> Result<Ranking> {
    let (mut start, mut end, mut groups) = (None, None, Vec::new());
    let mut has_key = false;
    for expr in &call.params.partition_by {
        match columns.shown(expr, schema) {
            Some((at, m)) if m.start || m.began => start = Some(at),
            Some((at, m)) if m.end || m.ended => end = Some(at),
            shown => {
                has_key |= shown.is_some_and(|(_, m)| m.key);
                groups.push(scalar::key(expr, schema)?);
            }
        }
    }
    if start.is_some() != end.is_some() {
        return plan_err!(
            "PARTITION BY both window_start and window_end: a ranking ends with its window"
        );
    }
    let mut order = Vec::new();
    for sort in &call.params.order_by {
        let options = SortOptions {
            descending: !sort.asc,
            nulls_first: sort.nulls_first,
        };
        order.push((scalar::physical(&sort.expr, schema)?, options));
    }
    let input = nullable(schema.as_arrow());
    if let Some(field) = input.fields().iter().find(|f| !is_storable(f.data_type())) {
        return plan_err!("a ranking cannot keep column '{}'", field.name());
    }
    let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("rank", DataType::UInt64, true));
    Ok(Ranking {
        groups,
        window: start.zip(end),
        has_key,
        order,
        schema: Arc::new(Schema::new(fields)),
        input,
    })
}
