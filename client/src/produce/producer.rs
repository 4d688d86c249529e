//! The handle of a producer.

use super::shared::Shared;
use super::ticket::{Receipt, Ticket};
use crate::error::Error;
use crate::record::Record;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Sends records to one topic. Clones share everything; when the last one is dropped, records that
/// are not acknowledged are given up ([`Producer::close`] waits for them).
///
/// Records of one partition keep the order in which they were handed in. While the producer is
/// idempotent, as it is by default, each is stored once, however often connections break. A batch
/// that fails for good leaves a gap in the numbers that the broker holds batches against: the
/// batches behind it are sent under a new producer id, and those of them that may already be stored
/// under the old one fail too, rather than being stored twice.
#[derive(Clone, Debug)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl Producer {
    pub(crate) fn new(shared: Arc<Shared>, sender: JoinHandle<()>) -> Self {
        let inner = Arc::new(Inner { shared, sender });
        Self { inner }
    }

    /// Sends a record and waits until it is acknowledged at the level that was asked for.
    ///
    /// # Errors
    /// As [`Producer::enqueue`] and [`Ticket::wait`].
    pub async fn send(&self, record: Record<'_>) -> Result<Receipt, Error> {
        self.enqueue(record).await?.wait().await
    }

    /// Adds a record to its batch and returns at once; waits only while the buffer is full.
    ///
    /// Gives way to other tasks now and then, as every async call should. If the future is dropped
    /// before it is done, the record was not added.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the record is over a limit or names a partition that does not exist;
    /// [`Error::Closed`].
    #[inline]
    pub async fn enqueue(&self, record: Record<'_>) -> Result<Ticket, Error> {
        self.inner.shared.enqueue(&record).await
    }

    /// Sends what waits, whatever the linger, and waits until every record that was handed in before
    /// has an outcome.
    ///
    /// # Errors
    /// The first error among the batches that had no outcome when it was called.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut first_error = Ok(());
        for outcome in self.inner.shared.hurry() {
            if let (Err(error), Ok(())) = (outcome.wait().await, &first_error) {
                first_error = Err(error.clone());
            }
        }
        first_error
    }

    /// Takes no more records, also from clones, and waits as [`Producer::flush`] does.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), Error> {
        self.inner.shared.budget.close();
        let flushed = self.flush().await;
        self.inner.sender.abort();
        flushed
    }

    /// Number of partitions of the topic.
    pub fn partitions(&self) -> u32 {
        self.inner.shared.topic.partitions.len() as u32
    }

    #[cfg(test)]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.inner.shared.budget.taken_bytes()
    }
}
