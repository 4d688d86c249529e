//! `CREATE PIPELINE name AS query` and the query by itself.

use super::cursor::Cursor;
use super::refuse::{self, Over};
use super::{Emit, Options, emit, options};
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::Location;

/// A query that runs for ever.
#[derive(Clone, Debug)]
pub struct PipelineStatement {
    /// Its name, which is also that of the topic it writes.
    pub name: String,
    /// Where the name stands.
    pub place: Location,
    /// What is set with `WITH`.
    pub options: Options,
    /// What it computes.
    pub query: QueryStatement,
}

/// A query and when it gives out results.
#[derive(Clone, Debug)]
pub struct QueryStatement {
    /// The query as sqlparser has read it.
    pub query: Box<Query>,
    /// Where it begins.
    pub place: Location,
    /// When it gives out results.
    pub emit: Emit,
}

pub(super) fn parse(mut cursor: Cursor) -> Result<PipelineStatement> {
    let (name, span) = cursor.name()?;
    let place = span.start;
    flowstone_wire::name::check("pipeline", &name).map_err(|f| Error::at(place, f.message))?;
    let options = options::parse(&mut cursor)?;
    cursor.expect_word("AS")?;
    Ok(PipelineStatement {
        name,
        place,
        options,
        query: read(cursor, true)?,
    })
}

/// A query by itself: without EMIT it reads what is there.
pub(super) fn query(cursor: Cursor) -> Result<QueryStatement> {
    read(cursor, false)
}

fn read(mut cursor: Cursor, of_pipeline: bool) -> Result<QueryStatement> {
    let mut part = cursor.query_part();
    let place = part.place();
    if !(part.is_word("SELECT") || part.is_word("WITH") || part.is_word("(")) {
        let known = "CREATE STREAM, CREATE TABLE, CREATE PIPELINE, INFER SCHEMA or a query";
        return Err(part.expected(known));
    }
    let query = part.part(|p| p.parse_query())?;
    part.finish()?;
    let emit = emit::parse(&mut cursor)?;
    cursor.finish()?;
    let over = match emit {
        Emit::Unsaid if !of_pipeline => Over::History,
        _ => Over::Streams,
    };
    refuse::all_queries(&query, over, place)?;
    Ok(QueryStatement { query, place, emit })
}
