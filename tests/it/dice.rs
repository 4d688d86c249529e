//! Chance that can be repeated: numbers from a seed.

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice of this seed; `FLOWSTONE_SEED` is added to it, for other runs of the same test.
    pub(crate) fn new(seed: u64) -> Self {
        let other = std::env::var("FLOWSTONE_SEED").map_or(0, |s| s.parse().unwrap());
        Self(seed.wrapping_add(other))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// How often a test kills a broker: `FLOWSTONE_KILLS`, or `default`.
pub(crate) fn kills(default: u64) -> u64 {
    std::env::var("FLOWSTONE_KILLS").map_or(default, |s| s.parse().unwrap())
}
