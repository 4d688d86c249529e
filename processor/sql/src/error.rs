//! Why a statement is refused, and where in its text.

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Location;
use flowstone_wire::{ErrorCode, Failure};

/// A statement that is refused. Lines and columns begin with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Line of what is wrong.
    pub line: u64,
    /// Column of what is wrong, in characters.
    pub column: u64,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The result of everything that can refuse a statement.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error at a place.
    pub fn at(place: Location, message: impl Into<String>) -> Self {
        Self {
            line: place.line.max(1),
            column: place.column.max(1),
            message: message.into(),
        }
    }

    /// What DataFusion says of a query that begins at `query`.
    pub fn planning(error: &DataFusionError, query: Location) -> Self {
        let place = error
            .diagnostic()
            .and_then(|d| d.span)
            .map_or(query, |span| Location {
                line: span.start.line,
                column: span.start.column,
            });
        Self::at(place, first_line(error))
    }

    /// What sqlparser says, which has the place at the end of its text.
    pub(crate) fn parsing(text: &str, fallback: Location) -> Self {
        let Some((message, place)) = text.rsplit_once(" at Line: ") else {
            return Self::at(fallback, text);
        };
        let mut numbers = place.split(", Column: ").map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(line)), Some(Ok(column))) => Self::at(Location { line, column }, message),
            _ => Self::at(fallback, message),
        }
    }
}

/// The message without what DataFusion puts before and behind it.
fn first_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    // The rules that were at work stand before what they found.
    let found = text.rsplit("caused by\n").next().unwrap_or_default();
    let text = found.lines().next().unwrap_or_default();
    let known = [
        "Error during planning: ",
        "Schema error: ",
        "This feature is not implemented: ",
    ];
    let mut text = text;
    while let Some(rest) = known.iter().find_map(|k| text.strip_prefix(k)) {
        text = rest;
    }
    text.into()
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(ErrorCode::InvalidRequest, error.to_string())
    }
}
