//! The network: delays, loss, doubles, and who cannot reach whom.
#![cfg(test)]

use super::rng::Rng;

/// How bad the network of a run is.
pub(super) struct Net {
    /// In percent.
    loss: u64,
    doubled: u64,
    /// How many messages in a hundred are late by much.
    late: u64,
    late_us: u64,
    /// How many in a hundred may overtake others.
    overtaking: u64,
    /// When the last message in order arrives.
    last_us: Vec<Vec<u64>>,
    /// `blocked[from][to]`; the catalog is the last one.
    blocked: Vec<Vec<bool>>,
}

impl Net {
    pub(super) fn new(ends: usize, rng: &mut Rng) -> Self {
        Self {
            loss: rng.pick(&[0, 0, 1, 5]),
            doubled: rng.pick(&[0, 1, 10]),
            late: rng.pick(&[0, 1, 3]),
            late_us: rng.pick(&[5_000, 50_000, 400_000]),
            overtaking: rng.pick(&[0, 2, 50]),
            last_us: vec![vec![0; ends]; ends],
            blocked: vec![vec![false; ends]; ends],
        }
    }

    /// When copies of a message that is sent now arrive; none if it is lost.
    pub(super) fn arrivals(
        &mut self,
        from: usize,
        to: usize,
        now_us: u64,
        rng: &mut Rng,
    ) -> [Option<u64>; 2] {
        if self.blocked[from][to] || rng.percent(self.loss) {
            return [None, None];
        }
        let mut arrival = |is_double| {
            let is_late = rng.percent(self.late);
            let at_us = now_us + rng.between(60, if is_late { self.late_us } else { 600 });
            if is_late || is_double || rng.percent(self.overtaking) {
                return at_us;
            }
            let last_us = &mut self.last_us[from][to];
            *last_us = at_us.max(*last_us);
            *last_us
        };
        let first = arrival(false);
        let second = arrival(true);
        [Some(first), rng.percent(self.doubled).then_some(second)]
    }

    /// Blocks some of the ways: around one end, between two sides, one direction only, or any.
    pub(super) fn part(&mut self, rng: &mut Rng) {
        let ends = self.blocked.len();
        let side: Vec<bool> = (0..ends).map(|_| rng.percent(50)).collect();
        let (one, kind) = (rng.index(ends), rng.below(5));
        for from in 0..ends {
            for to in (0..ends).filter(|to| *to != from) {
                self.blocked[from][to] |= match kind {
                    0 => from == one || to == one,
                    1 => side[from] != side[to],
                    2 => from == one,
                    3 => to == one,
                    _ => rng.percent(30),
                };
            }
        }
    }

    /// Blocks all ways of one end.
    pub(super) fn isolate(&mut self, one: usize) {
        for other in 0..self.blocked.len() {
            self.block(one, other);
        }
    }

    /// Blocks the ways between two ends.
    pub(super) fn block(&mut self, one: usize, other: usize) {
        if one != other {
            self.blocked[one][other] = true;
            self.blocked[other][one] = true;
        }
    }

    pub(super) fn heal(&mut self) {
        for row in &mut self.blocked {
            row.fill(false);
        }
    }

    /// Nothing bad happens any more.
    pub(super) fn calm(&mut self) {
        self.heal();
        (self.loss, self.doubled, self.late, self.overtaking) = (0, 0, 0, 0);
    }
}
