//! Plans that would take without bound: refused before they are optimized, which computes constants, or given
//! functions that look at what they would make before they make it.

mod growing;
mod joined;
mod made;
mod size;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use growing::Growing;

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

/// The same plan, with the queries inside of its expressions, whose functions make no more than there is room for.
///
/// # Errors
/// What is too large.
pub(super) fn bound(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut nodes = 0;
    plan.apply_with_subqueries(|node| {
        nodes += 1;
        if nodes > NODES_MAX {
            return plan_err!("the query has more than {NODES_MAX} parts: ask for less at a time");
        }
        node.apply_expressions(|expr| expr.apply(check))
    })?;
    let bounded = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(growing)?;
            Ok(expr.update_data(|e| name.restore(e)))
        })
    });
    bounded.map(|b| b.data)
}

fn check(expr: &Expr) -> Result<TreeNodeRecursion> {
    match expr {
        Expr::ScalarFunction(call) => filled(call)?,
        Expr::Cast(cast) => not_fixed(cast.field.data_type())?,
        Expr::TryCast(cast) => not_fixed(cast.field.data_type())?,
        _ => {}
    }
    Ok(TreeNodeRecursion::Continue)
}

/// `lpad` and `rpad` make as many characters as they are told.
fn filled(ScalarFunction { func, args }: &ScalarFunction) -> Result<()> {
    let literal = |arg: &Expr| matches!(arg, Expr::Literal(ScalarValue::Int64(Some(n)), _) if *n <= FILLED_MAX);
    let name = func.name();
    if matches!(name, "lpad" | "rpad") && !args.get(1).is_some_and(literal) {
        return plan_err!("{name} takes a number of characters up to {FILLED_MAX}, as it is");
    }
    let fixed = |arg: &Expr| arg.to_string().contains("Fixed");
    if matches!(name, "arrow_cast" | "arrow_try_cast") && args.iter().skip(1).any(fixed) {
        return plan_err!("{name} to a type of a fixed size is not supported");
    }
    Ok(())
}

/// A null of a list of a fixed size takes as much as a whole one.
fn not_fixed(to: &DataType) -> Result<()> {
    match to {
        DataType::FixedSizeList(..) | DataType::FixedSizeBinary(_) => {
            plan_err!("CAST to {to} is not supported: leave the size out")
        }
        DataType::List(field) | DataType::LargeList(field) => not_fixed(field.data_type()),
        _ => Ok(()),
    }
}

/// Puts the function that looks first in the place of one whose result may be larger than what it is made of.
fn growing(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarFunction(call) if growing::grows(call.func.name()) => {
            let func = Growing::around(call.func);
            let call = ScalarFunction::new_udf(func, call.args);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::StringConcat,
            right,
        }) => {
            let func = Growing::around(joined::function());
            let call = ScalarFunction::new_udf(func, vec![*left, *right]);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}
