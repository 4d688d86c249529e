//! How many records are taken together.

/// Most records in one unit.
pub(super) const RECORDS_MAX: usize = 4096;
/// Behind a failure the size grows by this part of what was kept.
const GROWTH: usize = 8;

/// The size of the next unit. One that fails may hold a bad record, or just be too large for the limits of a unit; so
/// half is tried. If that is kept, size is what was wrong, and from there on it grows in small steps: doubling would
/// have every other unit done for nothing. Behind one record that was alone it doubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    most: usize,
    /// Up to here it doubles.
    safe: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            most: RECORDS_MAX,
            safe: RECORDS_MAX,
        }
    }

    /// Most records of the next unit.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// A unit of so many records, more than one, failed.
    pub(super) fn failed(&mut self, records: usize) {
        self.most = records.div_ceil(2);
        self.safe = match self.most {
            1 => RECORDS_MAX,
            half => half,
        };
    }

    /// A unit was kept.
    pub(super) fn kept(&mut self) {
        self.most = match self.most < self.safe {
            true => (self.most * 2).min(self.safe),
            false => (self.most + self.safe / GROWTH + 1).min(RECORDS_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that are done for nothing while so many are taken, if units over `limit` fail.
    fn wasted(pace: &mut Pace, records: usize, limit: usize) -> usize {
        let (mut left, mut wasted) = (records, 0);
        while left > 0 {
            let count = pace.most().min(left);
            if count > limit {
                wasted += count;
                pace.failed(count);
            } else {
                left -= count;
                pace.kept();
            }
        }
        wasted
    }

    #[test]
    fn units_that_are_too_large_are_rare() {
        for limit in [100, 700, 2_048, 4_000] {
            let wasted = wasted(&mut Pace::new(), 1_000_000, limit);
            assert!(wasted < 300_000, "{wasted} of a million, limit {limit}");
        }
    }

    #[test]
    fn behind_a_bad_record_it_is_soon_large_again() {
        let mut pace = Pace::new();
        while pace.most() > 1 {
            pace.failed(pace.most());
        }
        let mut units = 0;
        while pace.most() < RECORDS_MAX {
            pace.kept();
            units += 1;
        }
        assert_eq!(units, 12);
    }
}
