//! From a query to operators.
//!
//! ```text
//! syntax tree --SqlToRel--> logical plan --analyzer, optimizer--> logical plan --translate--> operators
//!                  |
//!                  +-- TUMBLE, HOP, CUMULATE, SESSION, COUNT_WINDOW, DEDUP: a node of ours, by a relation planner
//! ```
//!
//! Planning is synchronous and knows nothing but the streams it is given. What it says and what it
//! refuses is decided here; nothing is planned when records flow.

mod aggregate;
mod asof;
mod bounded;
mod dedup;
mod history;
pub(crate) mod literal;
mod optimize;
mod provider;
mod relation;
mod rewrite;
mod scalar;
mod translate;
mod unnest;
mod window;

pub use provider::Lookup;
pub(crate) use translate::{EmitRules, Scan, Translated, translate};
pub(crate) use window::WindowKind;

use crate::error::{Error, Result};
use crate::statement::QueryStatement;
use crate::stream::Stream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use provider::Provider;

/// The logical plan of a query over what is there, for DataFusion to optimize and to execute.
///
/// # Errors
/// What is not understood, with its place.
pub fn over_history(query: &QueryStatement, tables: &Lookup<'_>) -> Result<LogicalPlan> {
    let provider = Provider::over_history(tables);
    let options = parser_options();
    let mut rewritten = query.query.clone();
    rewrite::joins(&mut rewritten);
    SqlToRel::new_with_options(&provider, options)
        .sql_statement_to_plan(SqlStatement::Query(rewritten))
        .and_then(bounded::bound)
        .map_err(|e| Error::planning(&e, query.place))
}

/// The optimized logical plan of a query over these streams.
pub(crate) fn logical(query: &QueryStatement, streams: &[Stream]) -> Result<LogicalPlan> {
    let provider = Provider::new(streams);
    let options = parser_options();
    let mut rewritten = query.query.clone();
    rewrite::joins(&mut rewritten);
    let plan = SqlToRel::new_with_options(&provider, options)
        .sql_statement_to_plan(SqlStatement::Query(rewritten))
        .and_then(bounded::bound)
        .map_err(|e| Error::planning(&e, query.place))?;
    optimize::optimize(plan).map_err(|e| Error::planning(&e, query.place))
}

/// Texts are texts with offsets, those of CAST as well: views are not stored.
fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_collect_spans(true)
        .with_map_string_types_to_utf8view(false)
}
