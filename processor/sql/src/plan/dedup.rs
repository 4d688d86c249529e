//! The logical node of `DEDUP(stream, time, interval, key, ...)`: some of the rows of its input.

use datafusion::common::{Column, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use std::fmt;

/// The first row of each key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct DedupNode {
    pub(crate) input: LogicalPlan,
    /// The column with the event time.
    pub(crate) time: Column,
    /// For how long a key is known, in milliseconds.
    pub(crate) interval_ms: i64,
    /// What makes rows equal; at least one.
    pub(crate) keys: Vec<Expr>,
}

impl UserDefinedLogicalNodeCore for DedupNode {
    fn name(&self) -> &str {
        "Dedup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        let time = std::iter::once(Expr::Column(self.time.clone()));
        time.chain(self.keys.iter().cloned()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dedup: {} ms of {}", self.interval_ms, self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        match (exprs.next(), <[LogicalPlan; 1]>::try_from(inputs)) {
            (Some(Expr::Column(time)), Ok([input])) => Ok(Self {
                input,
                time,
                interval_ms: self.interval_ms,
                keys: exprs.collect(),
            }),
            _ => plan_err!("DEDUP has one input and one time column"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let mut needed = output_columns.to_vec();
        for expr in self.expressions() {
            for column in expr.column_refs() {
                needed.push(schema.index_of_column(column).ok()?);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
