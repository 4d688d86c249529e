//! Statements: what a file of SQL says, before it is planned.
//!
//! ```text
//! file      := statement (';' statement)* [';']
//! statement := CREATE STREAM name '(' column, ... [, WATERMARK FOR column AS expr] ')'
//!                [WITH '(' option '=' value, ... ')']
//!            | CREATE TABLE name '(' column, ..., PRIMARY KEY '(' column ')' ')' [WITH '(' ... ')']
//!            | CREATE PIPELINE name [WITH '(' ... ')'] AS query [emit]
//!            | query [emit]
//!            | INFER SCHEMA FOR topic [WITH '(' records = n ')']
//! emit      := EMIT CHANGES | EMIT EVERY interval
//!            | EMIT ON WINDOW CLOSE [ALLOW LATENESS interval]
//! ```
//!
//! The text is cut into tokens once; `EMIT` is a reserved word and ends the query before it, so the
//! query itself is parsed by sqlparser as it stands.

mod chain;
mod cursor;
mod dialect;
mod emit;
mod infer;
mod options;
mod pipeline;
mod refuse;
mod stream;

pub use emit::Emit;
pub use infer::InferStatement;
pub use options::Options;
pub use pipeline::{PipelineStatement, QueryStatement};
pub use stream::{
    ColumnSource, ColumnStatement, PrimaryKeyStatement, StreamStatement, WatermarkStatement,
};

use crate::error::{Error, Result};
use cursor::Cursor;
pub use cursor::name_of;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use dialect::Flowstone;
pub(crate) use refuse::is_unnest;

/// Most bytes of one file.
pub const TEXT_BYTES_MAX: usize = 256 << 10;
/// Most statements of one file.
pub const STATEMENTS_MAX: usize = 256;

/// The place where a text begins.
pub(crate) const START: Location = Location { line: 1, column: 1 };

/// One statement.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "statements are few and short-lived"
)]
pub enum Statement {
    /// A topic seen as rows: a stream or, where it has a primary key, a table.
    CreateStream(StreamStatement),
    /// A query that runs for ever and writes a topic.
    CreatePipeline(PipelineStatement),
    /// A query by itself.
    Query(QueryStatement),
    /// The question which columns a topic may have.
    InferSchema(InferStatement),
}

/// A statement with its own text.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its text, without what stands around it.
    pub text: String,
    /// Where it begins in the file.
    pub start: Location,
}

/// Reads the statements of a file.
///
/// # Errors
/// The first thing that is not understood, with its place.
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "the text has {} bytes, over the limit of {TEXT_BYTES_MAX}",
            text.len()
        );
        return Err(Error::at(START, message));
    }
    let mut tokens = Vec::new();
    Tokenizer::new(&Flowstone, text)
        .tokenize_with_location_into_buf(&mut tokens)
        .map_err(|e| Error::at(e.location, e.message))?;
    let mut parsed = Vec::new();
    for part in tokens.split(|t| t.token == Token::SemiColon) {
        let part: Vec<TokenWithSpan> = part
            .iter()
            .filter(|t| !matches!(t.token, Token::Whitespace(_)))
            .cloned()
            .collect();
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            continue;
        };
        if parsed.len() == STATEMENTS_MAX {
            let message = format!("a file has at most {STATEMENTS_MAX} statements: split it");
            return Err(Error::at(first.span.start, message));
        }
        let (start, end) = (first.span.start, last.span.end);
        let text = cut(text, start, end).to_string();
        parsed.push(Parsed {
            statement: statement(part)?,
            text,
            start,
        });
    }
    Ok(parsed)
}

fn statement(tokens: Vec<TokenWithSpan>) -> Result<Statement> {
    chain::check(&tokens)?;
    let mut cursor = Cursor::new(tokens);
    if cursor.take_word("INFER") {
        return Ok(Statement::InferSchema(infer::parse(cursor)?));
    }
    if !cursor.take_word("CREATE") {
        return Ok(Statement::Query(pipeline::query(cursor)?));
    }
    if cursor.take_word("STREAM") {
        Ok(Statement::CreateStream(stream::parse(cursor, false)?))
    } else if cursor.take_word("TABLE") {
        Ok(Statement::CreateStream(stream::parse(cursor, true)?))
    } else if cursor.take_word("PIPELINE") {
        Ok(Statement::CreatePipeline(pipeline::parse(cursor)?))
    } else {
        Err(cursor.expected("STREAM, TABLE or PIPELINE"))
    }
}

/// The part of a text between two places.
fn cut(text: &str, start: Location, end: Location) -> &str {
    let byte_of = |place: Location| {
        let mut at = 0;
        for _ in 1..place.line {
            at += text[at..].find('\n').map_or(text.len() - at, |n| n + 1);
        }
        let rest = text[at..]
            .char_indices()
            .nth(place.column.saturating_sub(1) as usize);
        rest.map_or(text.len(), |(n, _)| at + n)
    };
    text.get(byte_of(start)..byte_of(end)).unwrap_or(text)
}
