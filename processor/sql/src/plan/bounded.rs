//! Plans that would take without bound: refused before they are optimized, which computes constants, or given
//! functions that look at what they would make before they make it.

mod casts;
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
/// Most bytes of a constant, which may stand in every row.
const LITERAL_BYTES_MAX: usize = 64 << 10;
/// To so many characters a text may be filled up.
const FILLED_MAX: i64 = 10_000;

/// Functions whose results are as large as a number says, or of a type that is not seen: they are not there.
pub(super) const LEFT_OUT: [&str; 11] = [
    "repeat",
    "range",
    "generate_series",
    "gen_series",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "space",
    // Of any type to any type.
    "cast_to_type",
    "try_cast_to_type",
];

/// What `arrow_cast` may make: single values of which it is known how large they are.
const CAST_TO: [&str; 13] = [
    "Boolean",
    "Int",
    "UInt",
    "Float",
    "Utf8",
    "LargeUtf8",
    "Binary",
    "LargeBinary",
    "Date",
    "Time",
    "Duration",
    "Decimal",
    "Null",
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
    casts::check(&plan)?;
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
        Expr::Literal(value, _) if value.size() > LITERAL_BYTES_MAX => {
            return plan_err!("a constant of more than {LITERAL_BYTES_MAX} bytes");
        }
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
    if matches!(name, "arrow_cast" | "arrow_try_cast") {
        let plain = |arg: &Expr| match arg {
            Expr::Literal(ScalarValue::Utf8(Some(name)), _) => {
                CAST_TO.iter().any(|known| name.starts_with(known))
            }
            _ => false,
        };
        if !args.get(1).is_some_and(plain) {
            return plan_err!("{name} takes a type of single values, such as 'Int64'");
        }
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
