//! Plans that would take without bound: refused before they are optimized, which computes constants.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Most nodes of a plan. Queries of `WITH` that are named twice are there twice.
const NODES_MAX: usize = 2_000;
/// To so many characters a text may be filled up.
const FILLED_MAX: i64 = 10_000;

/// Functions whose results are as large as a number says: they are not there.
pub(super) const LEFT_OUT: [&str; 9] = [
    "repeat",
    "range",
    "generate_series",
    "gen_series",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "space",
];

/// Checks a plan, with the queries inside of its expressions.
///
/// # Errors
/// What is too large.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut nodes = 0;
    plan.apply_with_subqueries(|node| {
        nodes += 1;
        if nodes > NODES_MAX {
            return plan_err!("the query has more than {NODES_MAX} parts: ask for less at a time");
        }
        node.apply_expressions(|expr| expr.apply(filled))
    })?;
    Ok(())
}

/// `lpad` and `rpad` make as many characters as they are told.
fn filled(expr: &Expr) -> Result<TreeNodeRecursion> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else {
        return Ok(TreeNodeRecursion::Continue);
    };
    let is_short = |arg: &Expr| matches!(arg, Expr::Literal(ScalarValue::Int64(Some(n)), _) if *n <= FILLED_MAX);
    let name = func.name();
    if matches!(name, "lpad" | "rpad") && !args.get(1).is_some_and(is_short) {
        return plan_err!("{name} takes a number of characters up to {FILLED_MAX}, as it is");
    }
    Ok(TreeNodeRecursion::Continue)
}
