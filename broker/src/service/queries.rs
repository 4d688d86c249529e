//! Queries of SQL that are asked once.

use super::Service;
use crate::queries::{ChooseFormat, Running};
use crate::worker::unix_ms;
use bytes::Bytes;
use flowstone_query::{BoxFuture, Format, Options, Source};
use flowstone_wire::native::{
    Fetch, FindOffset, Place, QueryRows, QueryStarted, ReadQuery, StartQuery, Topic,
};
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};
use std::sync::Arc;
use std::time::Duration;

/// So long a query may take to begin.
const BEGIN: Duration = Duration::from_secs(20);

/// The topics of the cluster, as a node reaches them.
pub(super) struct Topics(pub(super) Arc<Service>);

impl Source for Topics {
    fn topic(&self, name: &str) -> Option<Topic> {
        self.0.catalog().topic(name).ok().cloned()
    }

    fn declared(&self, name: &str) -> Option<String> {
        self.0.catalog().streams().get(name).cloned()
    }

    fn find(&self, partition: PartitionId, place: Place) -> BoxFuture<Offset> {
        let service = self.0.clone();
        Box::pin(async move { service.find_offset(FindOffset { partition, place }).await })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<Vec<Bytes>> {
        let service = self.0.clone();
        Box::pin(async move { Ok(service.fetch_batches(fetch).await?.1) })
    }

    fn now_ms(&self) -> i64 {
        unix_ms()
    }
}

impl Service {
    /// Begins a query.
    ///
    /// # Errors
    /// As [`crate::queries::Queries::start`].
    pub(crate) async fn query(
        self: &Arc<Self>,
        text: String,
        options: Options,
        choose: ChooseFormat,
    ) -> Result<Running, Failure> {
        let topics = Arc::new(Topics(self.clone()));
        self.queries.start(topics, text, options, choose).await
    }

    /// Begins a query that is read by number.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(crate) async fn start_query(
        self: &Arc<Self>,
        request: StartQuery,
    ) -> Result<QueryStarted, Failure> {
        let options = Options {
            from_start: request.from_start,
        };
        let choose = Box::new(|_| Ok(Format::Lines));
        let begun = self.query(request.text, options, choose);
        // The peer takes a longer silence for a connection that is dead.
        let running = tokio::time::timeout(BEGIN, begun).await.map_err(|_| {
            let what = format!(
                "the query has not begun after {} s: a shard does not answer",
                BEGIN.as_secs()
            );
            Failure::new(ErrorCode::Timeout, what)
        })??;
        self.queries.cursors.keep(running, self.runtime())
    }

    /// The next rows of such a query.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub(crate) async fn read_query(
        &self,
        request: ReadQuery,
    ) -> Result<(QueryRows, Vec<Bytes>), Failure> {
        self.queries.cursors.read(request.id, request.wait_ms).await
    }
}
