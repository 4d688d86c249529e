//! How many bytes of snapshots go in a second, over all peers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Gives out times to send at. What was not used is not saved up.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_s: u64,
    /// When the next bytes may go.
    next: Mutex<Option<Instant>>,
}

impl Rate {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        let bytes_per_s = bytes_per_s.max(1);
        let next = Mutex::new(None);
        Self { bytes_per_s, next }
    }

    /// How long to wait before so many bytes are sent.
    pub(crate) fn wait(&self, bytes: usize, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.unwrap_or(now).max(now);
        let takes_us = bytes as u64 * 1_000_000 / self.bytes_per_s;
        *next = Some(at + Duration::from_micros(takes_us));
        at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_those_before_them_and_idle_time_is_not_saved() {
        let rate = Rate::new(1_000_000);
        let start = Instant::now();
        assert_eq!(rate.wait(500_000, start), Duration::ZERO);
        assert_eq!(rate.wait(500_000, start), Duration::from_millis(500));
        let later = start + Duration::from_secs(10);
        assert_eq!(rate.wait(1_000_000, later), Duration::ZERO);
        assert_eq!(rate.wait(1, later), Duration::from_secs(1));
    }
}
