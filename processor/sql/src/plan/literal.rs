//! Constants in statements: intervals.

use super::provider::Provider;
use crate::error::{Error, Result};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use datafusion::sql::sqlparser::tokenizer::Location;

/// Milliseconds of an interval; `None` if the expression is something else.
pub(crate) fn interval_ms(expr: &SqlExpr, place: Location) -> Result<Option<i64>> {
    let provider = Provider::new(&[]);
    let planner = SqlToRel::new(&provider);
    let expr = planner
        .sql_to_expr(expr.clone(), &DFSchema::empty(), &mut PlannerContext::new())
        .map_err(|e| Error::planning(&e, place))?;
    match of_expr(&expr) {
        Ok(ms) => Ok(ms),
        Err(text) => Err(Error::at(place, text)),
    }
}

/// Milliseconds of a planned interval; `None` if the expression is something else, an error if its
/// length is not fixed or not in whole milliseconds.
pub(super) fn of_expr(expr: &Expr) -> std::result::Result<Option<i64>, String> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = expr else {
        return Ok(None);
    };
    if interval.months != 0 {
        return Err("months differ in length: give the interval in days or less".into());
    }
    if interval.nanoseconds % 1_000_000 != 0 {
        return Err("the interval is not in whole milliseconds: round it".into());
    }
    let days_ms = i64::from(interval.days) * 86_400_000;
    Ok(Some(days_ms + interval.nanoseconds / 1_000_000))
}
