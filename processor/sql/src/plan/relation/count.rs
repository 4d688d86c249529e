//! `COUNT_WINDOW(stream, rows [, slide])` in FROM.

use super::{at, input};
use crate::plan::window::{WindowKind, WindowNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ObjectName};
use std::sync::Arc;

/// Most rows of a count window.
const ROWS_MAX: i64 = 1_000_000_000;
/// Most count windows that one row may be in.
const WINDOWS_PER_ROW_MAX: u64 = 100;

pub(super) fn plan(
    name: &ObjectName,
    args: &[SqlExpr],
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let (stream, rows, slide) = match args {
        [stream, rows] => (stream, rows, rows),
        [stream, rows, slide] => (stream, rows, slide),
        _ => return at(plan_err!("write {name}(stream, rows [, slide])"), name),
    };
    let count = number(rows, context)?;
    let step = number(slide, context)?;
    if step > count {
        let text =
            "rows between two windows would be in none: slide is at most the rows of a window";
        return at(plan_err!("{text}"), slide);
    }
    if count.div_ceil(step) > WINDOWS_PER_ROW_MAX {
        let error = plan_err!(
            "a row would be in {} windows, over the limit of {WINDOWS_PER_ROW_MAX}: make the slide longer",
            count.div_ceil(step)
        );
        return at(error, slide);
    }
    let kind = WindowKind::Count {
        rows: count,
        slide: step,
    };
    let input = input(stream, context)?;
    let node = at(WindowNode::new(input, kind, None), stream)?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    }))
}

/// A whole number over 0.
fn number(arg: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<u64> {
    match context.sql_to_expr(arg.clone(), &DFSchema::empty())? {
        Expr::Literal(ScalarValue::Int64(Some(n)), _) if (1..=ROWS_MAX).contains(&n) => {
            Ok(n as u64)
        }
        _ => at(
            plan_err!("expected a number of rows, from 1 to {ROWS_MAX}"),
            arg,
        ),
    }
}
