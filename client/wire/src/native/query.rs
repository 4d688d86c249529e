//! Queries of SQL that are asked once: started, read piece by piece, and stopped.
//!
//! Who asks pulls: nothing is computed far ahead of what was read. A query that nobody reads for a
//! while ends by itself.

use super::Request;
use serde::{Deserialize, Serialize};

/// Asks a query. It belongs to the node that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartQuery {
    /// Statements: streams, then the one query.
    pub text: String,
    /// A query that follows what comes begins with what is there.
    pub from_start: bool,
}
request!(StartQuery = 22 -> QueryStarted);

/// A query that was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStarted {
    /// Its number, for [`ReadQuery`] and [`StopQuery`].
    pub id: u64,
    /// What it gives.
    pub kind: QueryKind,
    /// The columns of its rows.
    pub columns: Vec<QueryColumn>,
}

/// What a query gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryKind {
    /// Rows, with an end.
    Rows,
    /// Rows as they come, for ever.
    Changes,
    /// A statement, as the only value of one row.
    Statement,
}

/// A column of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryColumn {
    /// Its name; no two are the same.
    pub name: String,
    /// Its type, as Arrow names it.
    pub data_type: String,
}

/// Asks for the next rows; they come in the payload as JSON objects, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadQuery {
    /// The query.
    pub id: u64,
    /// How long to wait for rows, in milliseconds, at most [`QUERY_WAIT_MS_MAX`].
    pub wait_ms: u32,
}
request!(ReadQuery = 23 -> QueryRows);

/// Longest wait for the next rows of a query, in milliseconds.
pub const QUERY_WAIT_MS_MAX: u32 = 5_000;

/// What stands beside the next rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRows {
    /// There are no more; the query is forgotten.
    pub is_end: bool,
    /// What it took so far.
    pub statistics: QueryStatistics,
}

/// What a query took so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStatistics {
    /// Rows that it gave.
    pub rows: u64,
    /// Records that were read from topics.
    pub records_read: u64,
    /// Bytes of batches that were read from topics.
    pub bytes_read: u64,
    /// Records that could not be read as rows; they are not part of the result.
    pub unreadable: u64,
    /// Which was the first of them, and why.
    pub first_unreadable: Option<String>,
    /// Records that came after their window was closed; they are not part of the result.
    pub late: u64,
    /// Offsets that expired after the query began and before it had read them.
    pub expired: u64,
}

/// Ends a query; one that has ended already is fine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopQuery {
    /// The query.
    pub id: u64,
}
request!(StopQuery = 24 -> ());
