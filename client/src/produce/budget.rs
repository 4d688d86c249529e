//! The bound of a producer's memory: bytes of records whose outcome is not known yet.

use crate::error::Error;
use std::sync::Arc;
use tokio::sync::{Semaphore, TryAcquireError};

/// Bytes that may still be taken. Those who wait are served in the order they came.
#[derive(Debug)]
pub(crate) struct Budget {
    free: Semaphore,
    limit_bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            free: Semaphore::new(limit_bytes),
            limit_bytes,
        }
    }

    /// Takes bytes for a record of `size_bytes`, waiting while there are too few, and returns how
    /// many it took: a record larger than the whole budget takes all of it.
    ///
    /// # Errors
    /// [`Error::Closed`].
    #[inline]
    pub(crate) async fn take(&self, size_bytes: usize) -> Result<usize, Error> {
        let size_bytes = size_bytes.min(self.limit_bytes);
        let permits = u32::try_from(size_bytes).unwrap_or(u32::MAX);
        match self.free.try_acquire_many(permits) {
            Ok(taken) => taken.forget(),
            Err(TryAcquireError::Closed) => return Err(Error::Closed),
            Err(TryAcquireError::NoPermits) => {
                let waited = self.free.acquire_many(permits).await;
                waited.map_err(|_| Error::Closed)?.forget();
            }
        }
        Ok(permits as usize)
    }

    /// Nothing is given any more.
    pub(crate) fn close(&self) {
        self.free.close();
    }

    #[cfg(test)]
    pub(crate) fn taken_bytes(&self) -> usize {
        self.limit_bytes - self.free.available_permits()
    }
}

/// Bytes taken from a budget; they go back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Taken {
    pub(crate) fn new(budget: &Arc<Budget>, bytes: usize) -> Self {
        Self {
            budget: Arc::clone(budget),
            bytes,
        }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.free.add_permits(self.bytes);
    }
}
