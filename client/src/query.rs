//! Queries of SQL that are asked once.

use crate::client::Client;
use crate::error::Error;
use crate::transport::Route;
use bytes::Bytes;
use flowstone_wire::native::{
    QueryColumn, QueryKind, QueryStarted, QueryStatistics, ReadQuery, StartQuery, StopQuery,
};

/// How long one request waits for rows, in milliseconds.
const WAIT_MS: u32 = 2_000;

impl Client {
    /// Asks a query: streams, then one `SELECT` or `INFER SCHEMA FOR`. `from_start` lets a query that
    /// follows what comes begin with what is there.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::InvalidRequest`](crate::ErrorCode::InvalidRequest) what it
    /// does not understand, with line and column, and with
    /// [`ErrorCode::Busy`](crate::ErrorCode::Busy) where too many queries run.
    pub async fn query(&self, text: &str, from_start: bool) -> Result<Query, Error> {
        let request = StartQuery {
            text: text.to_owned(),
            from_start,
        };
        let (started, _) = self.call(Route::Any, &request, Bytes::new()).await?;
        Ok(Query {
            client: self.clone(),
            started,
            is_over: false,
            statistics: QueryStatistics::default(),
        })
    }
}

/// A query at work. One that is not read for a minute ends by itself.
#[derive(Debug)]
pub struct Query {
    client: Client,
    started: QueryStarted,
    is_over: bool,
    statistics: QueryStatistics,
}

impl Query {
    /// What it gives.
    pub fn kind(&self) -> QueryKind {
        self.started.kind
    }

    /// The columns of its rows.
    pub fn columns(&self) -> &[QueryColumn] {
        &self.started.columns
    }

    /// What it took until the last rows came.
    pub fn statistics(&self) -> &QueryStatistics {
        &self.statistics
    }

    /// The next rows, JSON objects with a line feed behind each; empty where none came for a while,
    /// `None` at the end.
    ///
    /// # Errors
    /// Why the query cannot go on, and as [`Client::call`]. It is over then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let request = ReadQuery {
            id: self.started.id,
            wait_ms: WAIT_MS,
        };
        // Rows of an answer that got lost would be missing: nothing goes on behind a failure.
        self.is_over = true;
        let (rows, lines) = self.client.call(Route::Any, &request, Bytes::new()).await?;
        self.is_over = rows.is_end;
        self.statistics = rows.statistics;
        Ok((!rows.is_end || !lines.is_empty()).then_some(lines))
    }

    /// Ends it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn stop(self) -> Result<(), Error> {
        let request = StopQuery {
            id: self.started.id,
        };
        let stopped = self.client.call(Route::Any, &request, Bytes::new());
        stopped.await.map(|((), _)| ())
    }
}
