//! A histogram of microseconds: eight buckets for every power of two, bounded and cheap.

use crate::Now;
use crate::shard::Shard;

/// Buckets per power of two; the error of a quantile is below one of them, 12.5 %.
const SUB: u64 = 8;
/// 2^36 us is 19 hours; what takes longer counts as that.
const BUCKETS: usize = 37 * SUB as usize;

/// How long things took.
#[derive(Debug)]
pub(super) struct Latency {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    /// When the batches were appended that the steps since the last look at the clock have dealt with.
    begun: Vec<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
            begun: Vec::new(),
        }
    }
}

fn bucket(us: u64) -> usize {
    if us < SUB {
        return us as usize;
    }
    let power = u64::from(us.ilog2());
    let sub = (us >> (power - 3)) - SUB;
    (((power - 2) * SUB + sub) as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let (power, sub) = (bucket as u64 / SUB, bucket as u64 % SUB);
    if power == 0 {
        sub
    } else {
        ((SUB + sub + 1) << (power - 1)) - 1
    }
}

impl Latency {
    /// A step has dealt with a batch that was appended then; it ends when [`Self::ended`] says so.
    #[inline]
    pub(super) fn begun(&mut self, appended_us: u64) {
        self.begun.push(appended_us);
    }

    /// What has begun is done.
    fn ended(&mut self, now_us: u64) {
        let mut begun = std::mem::take(&mut self.begun);
        for appended_us in begun.drain(..) {
            self.note(now_us.saturating_sub(appended_us));
        }
        self.begun = begun;
    }

    #[inline]
    fn note(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
        self.total += 1;
    }

    /// The value below which this share of all values lies, in microseconds; 0 if there are none.
    pub(super) fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper_bound(i) as f64;
            }
        }
        0.0
    }
}

impl Shard {
    /// Tells what the time is behind a step, once what it has given out is written: how long pipelines take is
    /// the time from the append of a record to this. What is not told has ended when the tasks run next.
    pub fn ended(&mut self, now: Now) {
        if std::mem::take(&mut self.tasks.unended) {
            let running = self.tasks.running.iter_mut().flatten();
            running.for_each(|r| r.latency.ended(now.mono_us));
        }
    }

    /// Whether there is somebody who wants to know.
    pub fn has_to_end(&self) -> bool {
        self.tasks.unended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_monotone_and_hold_their_bound() {
        for us in (0..5000).chain([1 << 20, (1 << 30) + 7, u64::MAX]) {
            let b = bucket(us);
            assert!(b < BUCKETS);
            if b < BUCKETS - 1 {
                assert!(us <= upper_bound(b), "{us}");
                assert!(b == 0 || us > upper_bound(b - 1), "{us}");
            }
        }
    }

    #[test]
    fn quantiles_are_near() {
        let mut l = Latency::default();
        (1..=1000).for_each(|us| l.note(us));
        assert!(
            (500.0..570.0).contains(&l.quantile_us(0.5)),
            "{}",
            l.quantile_us(0.5)
        );
        assert!((990.0..1120.0).contains(&l.quantile_us(0.99)));
        assert_eq!(Latency::default().quantile_us(0.5), 0.0);
    }
}
