//! Waiting times that grow, and differ between nodes: a seed says how.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LAST: Duration = Duration::from_millis(1000);

/// How long to wait before the next try.
#[derive(Debug)]
pub(crate) struct Backoff {
    state: u64,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            tries: 0,
        }
    }

    /// It has worked: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Between one half and the whole of a time that doubles with each try.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(10)).min(LAST);
        self.tries = self.tries.saturating_add(1);
        let half_us = whole.as_micros() as u64 / 2;
        self.state = mix(self.state);
        Duration::from_micros(half_us + self.state % half_us.max(1))
    }
}

/// The next number of a sequence (Steele, Lea and Flood 2014, SplitMix64).
pub(crate) fn mix(state: u64) -> u64 {
    let next = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    next ^ (next >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_the_same_for_a_seed() {
        let mut one = Backoff::new(1);
        let mut same = Backoff::new(1);
        let mut other = Backoff::new(2);
        let waits: Vec<Duration> = (0..20).map(|_| one.next_wait()).collect();
        assert!(waits.iter().all(|w| *w == same.next_wait()));
        assert!(waits.iter().any(|w| *w != other.next_wait()));
        assert!(waits[0] <= FIRST && waits[19] <= LAST && waits[19] >= LAST / 2);
        one.reset();
        assert!(one.next_wait() <= FIRST);
    }
}
