//! Fetching from one partition, trying again where the connection or the broker comes back.

use super::fetch::{self, Fetched};
use crate::backoff::Backoff;
use crate::client::{Client, RETRY_FOR};
use crate::error::Error;
use crate::transport::Route;
use bytes::Bytes;
use flowstone_wire::error::Retry;
use flowstone_wire::native::{Fetch, FindOffset, Partition, Place};
use flowstone_wire::{ErrorCode, Failure, Offset};
use std::sync::Arc;
use tokio::time::Instant;

/// A partition that is read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) topic: Arc<str>,
    /// Index of the partition in the topic.
    pub(crate) index: u32,
    pub(crate) place: Partition,
    pub(crate) max_bytes: u32,
    pub(crate) wait_ms: u32,
}

impl Source {
    /// Fetches from `offset`, for up to 30 seconds of trouble.
    ///
    /// # Errors
    /// The last one; an offset out of range says what the range is.
    pub(crate) async fn fetch(&self, offset: Offset) -> Result<Fetched, Error> {
        let mut backoff = Backoff::new(u64::from(self.place.id.0));
        let started = Instant::now();
        loop {
            let request = Fetch {
                partition: self.place.id,
                offset,
                max_bytes: self.max_bytes,
                wait_ms: self.wait_ms,
            };
            let call = self
                .client
                .call_pieces(self.route(), &request, Bytes::new());
            let failure = match call.await {
                Ok((bounds, pieces)) => {
                    return Ok(fetch::cut(self.place.id, offset, bounds, pieces));
                }
                Err(failure) => failure,
            };
            if failure.code == ErrorCode::OffsetOutOfRange {
                return Err(self.out_of_range(offset).await);
            }
            if !comes_back(failure.code) || started.elapsed() >= RETRY_FOR {
                return Err(failure.into());
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// The offset of a place in the partition.
    ///
    /// # Errors
    /// As [`Client::call`], after up to 30 seconds of trouble.
    pub(crate) async fn find(&self, place: Place) -> Result<Offset, Error> {
        let request = FindOffset {
            partition: self.place.id,
            place,
        };
        let found = self.client.call_retrying(self.route(), &request).await;
        Ok(found?.0)
    }

    fn route(&self) -> Route {
        Route::Shard(self.place.shard)
    }

    async fn out_of_range(&self, offset: Offset) -> Error {
        let bounds = match self.find(Place::Start).await {
            Ok(start) => self.find(Place::End).await.map(|end| (start, end)),
            Err(error) => Err(error),
        };
        let (start, end) = match bounds {
            Ok(bounds) => bounds,
            Err(error) => return error,
        };
        Error::Refused(Failure::new(
            ErrorCode::OffsetOutOfRange,
            format!(
                "offset {offset} of topic '{}' partition {} is outside {start} to {end}; \
                 seek to one between them",
                self.topic, self.index
            ),
        ))
    }
}

/// Whether the connection or the broker is expected back.
fn comes_back(code: ErrorCode) -> bool {
    use ErrorCode::{Disconnected, LeadershipLost, Timeout};
    matches!(code, Disconnected | Timeout | LeadershipLost) || code.retry() == Retry::Later
}
