//! Pauses between tries: 10 ms, doubling to 1 s, spread a little so that clients do not march in step.

use std::time::Duration;

const FIRST_PAUSE_MS: u64 = 10;
const LONGEST_PAUSE_MS: u64 = 1_000;
/// The pause is lengthened by up to one part in this many.
const SPREAD: u64 = 4;

/// The pauses of one thing that is tried again.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    tries: u32,
    /// Differs between things that would otherwise pause in step.
    counter: u64,
}

impl Backoff {
    /// Pauses for the thing with this number.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            tries: 0,
            counter: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// How long to pause before the next try.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let whole_ms = (FIRST_PAUSE_MS << self.tries.min(7)).min(LONGEST_PAUSE_MS);
        self.tries = self.tries.saturating_add(1);
        self.counter = self.counter.wrapping_add(1);
        let spread_us = mix(self.counter) % (whole_ms * 1_000 / SPREAD);
        Duration::from_millis(whole_ms) + Duration::from_micros(spread_us)
    }

    /// It worked: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The finaliser of `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_start_again() {
        let mut backoff = Backoff::new(7);
        let mut shortest_ms = FIRST_PAUSE_MS;
        for _ in 0..20 {
            let pause = backoff.next_pause();
            assert!(pause >= Duration::from_millis(shortest_ms), "{pause:?}");
            assert!(
                pause * 4 <= Duration::from_millis(shortest_ms * 5),
                "{pause:?}"
            );
            shortest_ms = (shortest_ms * 2).min(LONGEST_PAUSE_MS);
        }
        backoff.reset();
        assert!(backoff.next_pause() < Duration::from_millis(13));
    }
}
