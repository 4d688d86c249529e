//! Window functions in FROM: `TUMBLE(stream, time, INTERVAL '1' MINUTE)` and the others.

mod count;
mod dedup;
mod unnest;

use super::asof::AsOfNode;
use super::window::{WindowKind, WindowNode};
use super::{history, literal, rewrite};
use datafusion::common::{Column, DFSchema, Result, Span, plan_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, ObjectName, Spanned, TableFactor,
};
use std::sync::Arc;

/// Most windows that one row may be in.
pub(crate) const WINDOWS_PER_ROW_MAX: i64 = 1_500;

/// Plans the window functions; leaves everything else to DataFusion.
#[derive(Debug)]
pub(super) struct WindowFunctions {
    /// The rows are there: windows are columns like any other.
    pub(super) over_history: bool,
}

impl RelationPlanner for WindowFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if let Some(plan) = self.rewritten(&relation, context)? {
            let planned = PlannedRelation::new(plan, None);
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        let TableFactor::Table {
            name,
            alias,
            args: Some(args),
            ..
        } = &relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let function = name.to_string().to_lowercase();
        let plain: Vec<SqlExpr> = args.args.iter().filter_map(plain).cloned().collect();
        if plain.len() < args.args.len() {
            let form = "write the arguments one after the other, without names";
            return at(
                plan_err!("{name} is called in a way that is not known: {form}"),
                name,
            );
        }
        let own = match &function[..] {
            "dedup" | "count_window" if self.over_history => {
                let text = "needs rows in the order in which they come: add EMIT CHANGES, or deploy a pipeline";
                return at(plan_err!("{name} {text}"), name);
            }
            "dedup" => Some(dedup::plan(name, &plain, context)?),
            "count_window" => Some(count::plan(name, &plain, context)?),
            _ => None,
        };
        if let Some(plan) = own {
            let planned = PlannedRelation::new(plan, alias.clone());
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        let names: &[&str] = match &function[..] {
            "tumble" => &["size"],
            "hop" => &["slide", "size"],
            "cumulate" => &["step", "size"],
            "session" => &["gap"],
            "unnest" => {
                let form = "write FROM stream CROSS JOIN UNNEST(list) AS name(element)";
                return at(plan_err!("UNNEST stands behind a stream: {form}"), name);
            }
            _ => {
                let known = "there are TUMBLE, HOP, CUMULATE, SESSION, COUNT_WINDOW and DEDUP";
                return at(
                    plan_err!("there is no function '{name}' in FROM: {known}"),
                    name,
                );
            }
        };
        if plain.len() != names.len() + 2 {
            let form = format!("{}(stream, time, {})", name, names.join(", "));
            return at(plan_err!("write {form}"), name);
        }
        let plan = self.plan(&function, plain, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan,
            alias.clone(),
        ))))
    }
}

impl WindowFunctions {
    /// What [`rewrite`] has put there.
    fn rewritten(
        &self,
        relation: &TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Option<LogicalPlan>> {
        if let Some(side) = rewrite::marked(relation) {
            let input = context.plan(side.clone())?;
            let node = Arc::new(AsOfNode { input });
            return Ok(Some(LogicalPlan::Extension(Extension { node })));
        }
        let Some(unnested) = rewrite::unnested(relation) else {
            return Ok(None);
        };
        let node = unnest::plan(unnested, context)?;
        let plan = match self.over_history {
            true => history::unnested(&node)?,
            false => LogicalPlan::Extension(Extension {
                node: Arc::new(node),
            }),
        };
        Ok(Some(plan))
    }

    fn plan(
        &self,
        function: &str,
        args: Vec<SqlExpr>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let first = args[0].clone();
        let node = node(function, args, context)?;
        if self.over_history {
            return at(history::windows(node), &first);
        }
        Ok(LogicalPlan::Extension(Extension {
            node: Arc::new(node),
        }))
    }
}

/// Puts the place of `item` to an error.
fn at<T>(result: Result<T>, item: &impl Spanned) -> Result<T> {
    result.map_err(|error| {
        let span = Span::try_from_sqlparser_span(item.span());
        let text = error.strip_backtrace();
        error.with_diagnostic(datafusion::common::Diagnostic::new_error(text, span))
    })
}

fn plain(arg: &FunctionArg) -> Option<&SqlExpr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn node(
    function: &str,
    mut args: Vec<SqlExpr>,
    context: &mut dyn RelationPlannerContext,
) -> Result<WindowNode> {
    let bounds = args.split_off(2);
    let mut lengths = Vec::new();
    for bound in bounds {
        lengths.push(length_ms(&bound, context)?);
    }
    let kind = match (function, &lengths[..]) {
        ("tumble", &[size_ms]) => WindowKind::Tumble { size_ms },
        ("hop", &[slide_ms, size_ms]) => WindowKind::Hop { slide_ms, size_ms },
        ("cumulate", &[step_ms, size_ms]) => WindowKind::Cumulate { step_ms, size_ms },
        ("session", &[gap_ms]) => WindowKind::Session { gap_ms },
        _ => return plan_err!("window function '{function}' has other arguments"),
    };
    at(check(kind), &args[0])?;
    let input = input(&args[0], context)?;
    let time = time_column(&args[1], &input, context)?;
    at(WindowNode::new(input, kind, Some(time)), &args[0])
}

/// Milliseconds of an interval over 0.
fn length_ms(arg: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
    let expr = context.sql_to_expr(arg.clone(), &DFSchema::empty())?;
    match literal::of_expr(&expr) {
        Ok(Some(ms)) if ms > 0 => Ok(ms),
        Ok(_) => at(plan_err!("expected an INTERVAL '...' over 0"), arg),
        Err(text) => at(plan_err!("{text}"), arg),
    }
}

/// The second argument: a column of the input.
fn time_column(
    arg: &SqlExpr,
    input: &LogicalPlan,
    context: &mut dyn RelationPlannerContext,
) -> Result<Column> {
    match context.sql_to_expr(arg.clone(), input.schema())? {
        Expr::Column(time) => Ok(Column::new(time.relation, time.name)),
        _ => at(plan_err!("expected the name of a time column"), arg),
    }
}

fn check(kind: WindowKind) -> Result<()> {
    let (part_ms, size_ms, what) = match kind {
        WindowKind::Hop { slide_ms, size_ms } => (slide_ms, size_ms, "slide"),
        WindowKind::Cumulate { step_ms, size_ms } => (step_ms, size_ms, "step"),
        _ => return Ok(()),
    };
    if size_ms % part_ms != 0 {
        return plan_err!("the size of a window must be a multiple of the {what}");
    }
    if size_ms / part_ms > WINDOWS_PER_ROW_MAX {
        return plan_err!(
            "a row would be in {} windows, over the limit of {WINDOWS_PER_ROW_MAX}: make the {what} \
             longer",
            size_ms / part_ms
        );
    }
    Ok(())
}

/// The first argument: a stream, a WITH query, or a query in parentheses.
fn input(arg: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let name = match arg {
        SqlExpr::Identifier(name) => ObjectName::from(vec![name.clone()]),
        SqlExpr::CompoundIdentifier(names) => ObjectName::from(names.clone()),
        SqlExpr::Subquery(query) => {
            return context.plan(TableFactor::Derived {
                lateral: false,
                subquery: query.clone(),
                alias: None,
                sample: None,
            });
        }
        _ => return at(plan_err!("expected the name of a stream"), arg),
    };
    context.plan(TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}
