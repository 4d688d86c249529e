//! `DEDUP(stream, time, interval, key, ...)` in FROM.

use super::{at, input, length_ms, time_column};
use crate::plan::dedup::DedupNode;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ObjectName};
use std::sync::Arc;

pub(super) fn plan(
    name: &ObjectName,
    args: &[SqlExpr],
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let [stream, time, interval, keys @ ..] = args else {
        return at(
            plan_err!("write {name}(stream, time, interval, key, ...)"),
            name,
        );
    };
    if keys.is_empty() {
        let form = format!("write {name}(stream, time, interval, key, ...)");
        return at(plan_err!("{form}: a row is the first of its key"), name);
    }
    let interval_ms = length_ms(interval, context)?;
    let input = input(stream, context)?;
    let time = time_column(time, &input, context)?;
    let mut planned = Vec::new();
    for key in keys {
        planned.push(context.sql_to_expr(key.clone(), input.schema())?);
    }
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(DedupNode {
            input,
            time,
            interval_ms,
            keys: planned,
        }),
    }))
}
