//! What a query took so far, counted where it happens.

use flowstone_wire::native::QueryStatistics;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What a query took so far; read while it runs.
#[derive(Debug, Default)]
pub struct Counters {
    rows: AtomicU64,
    records_read: AtomicU64,
    bytes_read: AtomicU64,
    unreadable: AtomicU64,
    late: AtomicU64,
    expired: AtomicU64,
    first_unreadable: Mutex<Option<String>>,
}

impl Counters {
    /// The counts as they are now.
    pub fn statistics(&self) -> QueryStatistics {
        let first = self.first_unreadable.lock();
        QueryStatistics {
            rows: self.rows.load(Relaxed),
            records_read: self.records_read.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
            first_unreadable: first.unwrap_or_else(PoisonError::into_inner).clone(),
            late: self.late.load(Relaxed),
            expired: self.expired.load(Relaxed),
        }
    }

    pub(crate) fn add_rows(&self, count: usize) {
        self.rows.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn add_records(&self, count: usize) {
        self.records_read.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn add_bytes(&self, count: usize) {
        self.bytes_read.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn add_late(&self, count: usize) {
        self.late.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn add_expired(&self, count: u64) {
        self.expired.fetch_add(count, Relaxed);
    }

    /// Counts a record that cannot be read; `why` is asked for the first one.
    pub(crate) fn add_unreadable(&self, why: impl FnOnce() -> String) {
        if self.unreadable.fetch_add(1, Relaxed) == 0 {
            let mut first = self
                .first_unreadable
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *first = Some(why());
        }
    }
}
