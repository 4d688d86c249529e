//! What stands in FROM, over rows that are there: the bounds of windows are columns like any other, and so are the
//! elements of lists.

use super::unnest::UnnestNode;
use super::window::{WINDOW_END, WINDOW_START, WindowKind, WindowNode};
use crate::stream::TIMESTAMP;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result, ScalarValue, UnnestOptions, plan_err};
use datafusion::functions_nested::expr_fn::cardinality;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, col, ident, lit, when,
};

/// Name of the numbers of the windows that a row is in.
const NUMBERS: &str = "flowstone_windows";

/// The rows with the bounds of each window that they are in; a row without a time is in none.
pub(super) fn windows(node: WindowNode) -> Result<LogicalPlan> {
    let Some(time) = node.time.clone().map(Expr::Column) else {
        return plan_err!("windows of so many rows need the order in which they come");
    };
    let data_type = time.get_type(node.input.schema())?;
    let is_time = match &data_type {
        DataType::Timestamp(_, zone) => {
            matches!(zone.as_deref(), None | Some("+00:00" | "UTC" | "Z"))
        }
        _ => false,
    };
    if !is_time {
        return plan_err!("windows take a TIMESTAMP, and {time} is {data_type}");
    }
    let ms = cast(cast(time.clone(), TIMESTAMP), DataType::Int64);
    // The multiple of `step` that a time is not before.
    let floor = |step: i64| {
        let rest = (ms.clone() % lit(step) + lit(step)) % lit(step);
        ms.clone() - rest
    };
    let rows = LogicalPlanBuilder::from(node.input.clone()).filter(time.is_not_null())?;
    let number = || col(format!("{NUMBERS}.column1"));
    let (rows, start, end) = match node.kind {
        WindowKind::Tumble { size_ms } => (rows, floor(size_ms), floor(size_ms) + lit(size_ms)),
        WindowKind::Hop { slide_ms, size_ms } => {
            let start = floor(slide_ms) - number() * lit(slide_ms);
            let end = start.clone() + lit(size_ms);
            (each(rows, size_ms / slide_ms)?, start, end)
        }
        WindowKind::Cumulate { step_ms, size_ms } => {
            let end = floor(size_ms) + (number() + lit(1_i64)) * lit(step_ms);
            let rows = each(rows, size_ms / step_ms)?.filter(end.clone().gt(ms.clone()))?;
            (rows, floor(size_ms), end)
        }
        WindowKind::Session { .. } | WindowKind::Count { .. } => {
            return plan_err!(
                "SESSION needs rows in the order of their time: add EMIT CHANGES, or deploy a pipeline"
            );
        }
    };
    let columns = node.input.schema().columns().into_iter().map(Expr::Column);
    let bounds = [(start, WINDOW_START), (end, WINDOW_END)];
    let bounds = bounds.map(|(bound, name)| cast(bound, TIMESTAMP).alias(name));
    rows.project(columns.chain(bounds))?.build()
}

/// Each row `count` times, with a number from 0 on.
fn each(rows: LogicalPlanBuilder, count: i64) -> Result<LogicalPlanBuilder> {
    let numbers = (0..count).map(|n| vec![lit(n)]).collect();
    let numbers = LogicalPlanBuilder::values(numbers)?.alias(NUMBERS)?;
    rows.cross_join(numbers.build()?)
}

/// The rows with an element each of a list.
pub(super) fn unnested(node: &UnnestNode) -> Result<LogicalPlan> {
    // No name of a column has it: '@' stands for what is ours.
    const ELEMENT: &str = "@element";
    let columns = || {
        let columns = node.input.schema().columns();
        columns.into_iter().map(Expr::Column)
    };
    let mut list = node.list.clone();
    if node.outer {
        // A list without elements keeps its row, as one that is null does.
        let nothing = ScalarValue::try_new_null(&list.get_type(node.input.schema())?)?;
        let is_empty = cardinality(list.clone()).eq(lit(0_u64));
        list = when(is_empty, lit(nothing)).otherwise(list)?;
    }
    let options = UnnestOptions::new().with_preserve_nulls(node.outer);
    let (relation, name) = node.names.clone();
    LogicalPlanBuilder::from(node.input.clone())
        .project(columns().chain([list.alias(ELEMENT)]))?
        .unnest_columns_with_options(vec![Column::from_name(ELEMENT)], options)?
        .project(columns().chain([ident(ELEMENT).alias_qualified(Some(relation), name)]))?
        .build()
}
