//! The logical node around the right side of an `ASOF JOIN`: its rows as they are.

use datafusion::common::{DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use std::fmt;

/// The join above it takes of these rows the latest one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct AsOfNode {
    pub(crate) input: LogicalPlan,
}

impl AsOfNode {
    /// Whether a plan is the right side of an `ASOF JOIN`.
    pub(crate) fn is_in(plan: &LogicalPlan) -> bool {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => Self::is_in(&alias.input),
            LogicalPlan::Projection(projection) => Self::is_in(&projection.input),
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<Self>(),
            _ => false,
        }
    }
}

impl UserDefinedLogicalNodeCore for AsOfNode {
    fn name(&self) -> &str {
        "AsOf"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsOf")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input }),
            Err(_) => plan_err!("the right side of an ASOF JOIN is one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
