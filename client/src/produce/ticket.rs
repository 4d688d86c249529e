//! What a caller holds of a record under way, and the outcome it waits for.

use super::budget::Taken;
use crate::error::Error;
use crate::transport::BoxFuture;
use flowstone_wire::Offset;
use std::future::IntoFuture;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Index of the partition in the topic.
    pub partition: u32,
    /// Offset of the record in its partition.
    pub offset: Offset,
    /// Whether the broker had stored it before and recognised a retry.
    pub duplicate: bool,
}

/// Where a batch was stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) base_offset: Offset,
    pub(crate) duplicate: bool,
}

/// The outcome of a batch, shared by all its tickets.
#[derive(Debug)]
pub(crate) struct Outcome {
    partition: u32,
    result: OnceLock<Result<Stored, Error>>,
    known: Notify,
}

impl Outcome {
    pub(crate) fn is_known(&self) -> bool {
        self.result.get().is_some()
    }

    /// Waits for the outcome.
    pub(crate) async fn wait(&self) -> &Result<Stored, Error> {
        loop {
            // Registered before the look, so that an outcome in between is not missed.
            let mut known = std::pin::pin!(self.known.notified());
            known.as_mut().enable();
            if let Some(result) = self.result.get() {
                return result;
            }
            known.await;
        }
    }
}

/// A record under way. Cheap; dropping it does not take the record back.
#[derive(Clone, Debug)]
#[must_use = "without waiting, errors are not noticed; flush reports them as well"]
pub struct Ticket {
    outcome: Arc<Outcome>,
    /// The record's place in its batch.
    index: u32,
}

impl Ticket {
    pub(crate) fn new(outcome: &Arc<Outcome>, index: u32) -> Self {
        Self {
            outcome: Arc::clone(outcome),
            index,
        }
    }

    /// Waits until the record is acknowledged at the level that the producer asked for.
    ///
    /// # Errors
    /// The batch's last error; [`Error::Closed`] if the producer went before the answer came.
    pub async fn wait(self) -> Result<Receipt, Error> {
        self.receipt(self.outcome.wait().await)
    }

    /// The result, if it is known already; errors as [`Ticket::wait`].
    pub fn try_wait(&self) -> Option<Result<Receipt, Error>> {
        self.outcome.result.get().map(|result| self.receipt(result))
    }

    fn receipt(&self, result: &Result<Stored, Error>) -> Result<Receipt, Error> {
        let stored = result.as_ref().map_err(Error::clone)?;
        let offset = stored.base_offset.0.saturating_add(u64::from(self.index));
        Ok(Receipt {
            partition: self.outcome.partition,
            offset: Offset(offset),
            duplicate: stored.duplicate,
        })
    }
}

impl IntoFuture for Ticket {
    type Output = Result<Receipt, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// As [`Ticket::wait`], which does not allocate.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

/// The duty to make the outcome of a batch known. Dropped without, the outcome is
/// [`Error::Closed`]: no ticket waits for ever. The batch's bytes go back to the budget with it.
#[derive(Debug)]
pub(crate) struct Completion {
    outcome: Arc<Outcome>,
    taken: Taken,
}

impl Completion {
    pub(crate) fn new(partition: u32, taken: Taken) -> Self {
        let outcome = Arc::new(Outcome {
            partition,
            result: OnceLock::new(),
            known: Notify::new(),
        });
        Self { outcome, taken }
    }

    pub(crate) fn outcome(&self) -> &Arc<Outcome> {
        &self.outcome
    }

    pub(crate) fn take_more(&mut self, bytes: usize) {
        self.taken.add(bytes);
    }

    /// Makes the outcome known.
    pub(crate) fn complete(self, result: Result<Stored, Error>) {
        self.make_known(result);
    }

    fn make_known(&self, result: Result<Stored, Error>) {
        if self.outcome.result.set(result).is_ok() {
            self.outcome.known.notify_waiters();
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.make_known(Err(Error::Closed));
    }
}
