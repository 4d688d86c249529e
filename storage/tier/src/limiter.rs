//! A bound on bytes per second. The time is an argument.

use std::time::Duration;

/// A bucket that fills with `bytes_per_s` tokens a second and holds those of one second.
///
/// What is taken beyond its level is owed: the taker waits until the debt is gone, so that one piece
/// may be larger than the bucket.
#[derive(Debug)]
pub struct TokenBucket {
    bytes_per_s: u64,
    /// Nanoseconds of filling that are there; negative while something is owed.
    level_ns: i128,
    /// When the level was right.
    at: Duration,
}

const SECOND_NS: i128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket. Zero bytes per second are taken as one.
    pub fn new(bytes_per_s: u64, now: Duration) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            level_ns: SECOND_NS,
            at: now,
        }
    }

    /// Takes `bytes` and says how long to wait before they are sent.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let passed_ns = now.saturating_sub(self.at).as_nanos() as i128;
        self.at = self.at.max(now);
        self.level_ns = (self.level_ns + passed_ns).min(SECOND_NS);
        self.level_ns -= i128::from(bytes) * SECOND_NS / i128::from(self.bytes_per_s);
        let owed_ns = (-self.level_ns).max(0);
        Duration::from_nanos(u64::try_from(owed_ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_second_ahead(
            rate in 1u64..1 << 30, takes in proptest::collection::vec((0u64..1 << 24, 0u64..5_000), 1..60),
        ) {
            let (mut now, mut sent) = (Duration::from_secs(7), 0u128);
            let start = now;
            let mut bucket = TokenBucket::new(rate, now);
            for (bytes, pause_ms) in takes {
                now += bucket.take(bytes, now);
                sent += u128::from(bytes);
                let allowed = u128::from(rate) * ((now - start).as_nanos() + SECOND_NS as u128) / SECOND_NS as u128;
                prop_assert!(sent <= allowed + 2 + u128::from(rate) / 1_000_000_000, "{sent} of {allowed}");
                now += Duration::from_millis(pause_ms);
            }
        }
    }

    #[test]
    fn it_does_not_wait_below_the_rate_nor_longer_than_needed() {
        let mut bucket = TokenBucket::new(1000, Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.take(500, Duration::ZERO), Duration::from_millis(500));
        assert_eq!(bucket.take(0, Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(bucket.take(500, Duration::from_secs(1)), Duration::ZERO);
    }
}
