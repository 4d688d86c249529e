//! Lists do not become texts by CAST: the text of a list is longer than its elements, and a list of the characters of a
//! text is longer than the text.

use crate::plan::optimize::analyzed;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

/// Checks the casts that are said and those that the types ask for.
///
/// # Errors
/// A list that becomes a text.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    // What cannot be analyzed is refused where it is planned, with its place.
    let Ok(plan) = analyzed(plan.clone()) else {
        return Ok(());
    };
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| expr.apply(|e| cast(e, &schema)))
    })?;
    Ok(())
}

fn cast(expr: &Expr, schema: &DFSchema) -> Result<TreeNodeRecursion> {
    let (from, to) = match expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            (&**expr, Some(field.data_type()))
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if matches!(func.name(), "arrow_cast" | "arrow_try_cast") && !args.is_empty() =>
        {
            (&args[0], None)
        }
        _ => return Ok(TreeNodeRecursion::Continue),
    };
    let Ok(from) = from.get_type(schema) else {
        return Ok(TreeNodeRecursion::Continue);
    };
    let keeps = to.is_some_and(|to| to.is_nested() && depth(to) >= depth(&from));
    if from.is_nested() && !keeps {
        return plan_err!("a list does not become a single value by CAST: take array_to_string");
    }
    Ok(TreeNodeRecursion::Continue)
}

/// Lists in lists.
fn depth(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(element) | DataType::LargeList(element) => 1 + depth(element.data_type()),
        _ => 0,
    }
}
