//! Which entries of an ordered map may lie in the store outside only.
//!
//! ```text
//!            gap: the store may have entries here that are not in memory
//! ---+-------+----------------------+------>  keys
//!            |  known: was read     |         what is in memory, or has changed since the store
//!            |    +-----------+     |         took changes, is known wherever it is
//!            +----+-----------+-----+
//! ```
//!
//! What is needed and not known is *missed*: the unit of work that needs it is undone, the task asks
//! for all that the unit has missed, and the unit runs again when that is there.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Most ranges that one unit notes as missed; the others are missed again by the next attempt.
const MISSED_MAX: usize = 4096;
/// Most parts of gaps that are remembered as read from one unit to the next.
const KNOWN_MAX: usize = 1 << 14;

/// A place in the order of a map.
pub(crate) trait Place: Ord + Clone {
    /// The next one.
    fn behind(&self) -> Self;
}

impl Place for Vec<u8> {
    fn behind(&self) -> Self {
        [&self[..], &[0]].concat()
    }
}

#[cfg(test)]
impl Place for i64 {
    fn behind(&self) -> Self {
        self + 1
    }
}

/// A range that was missed: from here to before there, and how many entries of it are enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missed<K> {
    pub(crate) from: K,
    pub(crate) to: K,
    pub(crate) most: usize,
}

/// Gaps of a map.
#[derive(Debug)]
pub(crate) struct Spilled<K> {
    /// From each place to before another one; apart from each other.
    gaps: BTreeMap<K, K>,
    /// Parts of gaps that were read, until something is let go.
    known: BTreeMap<K, K>,
    missed: RefCell<BTreeMap<K, (K, usize)>>,
}

impl<K> Default for Spilled<K> {
    fn default() -> Self {
        Self {
            gaps: BTreeMap::new(),
            known: BTreeMap::new(),
            missed: RefCell::default(),
        }
    }
}

/// The range that a place is in.
fn around<'m, K: Ord>(ranges: &'m BTreeMap<K, K>, at: &K) -> Option<(&'m K, &'m K)> {
    let (from, to) = ranges.range(..=at).next_back()?;
    (at < to).then_some((from, to))
}

/// Adds a range to ranges that lie apart.
fn join<K: Place>(ranges: &mut BTreeMap<K, K>, mut from: K, mut to: K) {
    if let Some((start, end)) = ranges.range(..=&from).next_back()
        && *end >= from
    {
        from = start.clone();
    }
    while let Some((start, end)) = ranges.range(&from..=&to).next() {
        to = to.max(end.clone());
        let start = start.clone();
        ranges.remove(&start);
    }
    ranges.insert(from, to);
}

impl<K: Place> Spilled<K> {
    /// Whether there is no gap.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Whether it cannot be told from memory what is at a place.
    pub(crate) fn is_unknown(&self, at: &K) -> bool {
        around(&self.gaps, at).is_some() && around(&self.known, at).is_none()
    }

    /// The first part from `from` on, and before `end`, of which it cannot be told what is there.
    pub(crate) fn first_unknown(&self, from: &K, end: Option<&K>) -> Option<(K, K)> {
        let mut at = from.clone();
        loop {
            let (start, to) = match around(&self.gaps, &at) {
                Some((_, to)) => (at, to.clone()),
                None => {
                    let (start, to) = self.gaps.range(&at..).next()?;
                    (start.clone(), to.clone())
                }
            };
            if end.is_some_and(|end| *end <= start) {
                return None;
            }
            match around(&self.known, &start) {
                Some((_, upto)) => at = upto.clone(),
                None => {
                    let next = self.known.range(&start..&to).next();
                    let to = next.map_or(to, |(known, _)| known.clone());
                    let to = end.map_or(to.clone(), |end| to.min(end.clone()));
                    return Some((start, to));
                }
            }
        }
    }

    /// Notes that entries are needed.
    pub(crate) fn miss(&self, from: K, to: K, most: usize) {
        let mut missed = self.missed.borrow_mut();
        if missed.len() >= MISSED_MAX {
            return;
        }
        let (upto, enough) = missed.entry(from).or_insert_with(|| (to.clone(), most));
        *upto = to.max(upto.clone());
        *enough = most.max(*enough);
    }

    /// Whether something was missed since [`Self::take_missed`].
    #[inline]
    pub(crate) fn has_missed(&self) -> bool {
        !self.gaps.is_empty() && !self.missed.borrow().is_empty()
    }

    /// What was missed.
    pub(crate) fn take_missed(&mut self) -> impl Iterator<Item = Missed<K>> {
        let missed = std::mem::take(self.missed.get_mut()).into_iter();
        missed.map(|(from, (to, most))| Missed { from, to, most })
    }

    /// Entries from here to before there were let go.
    pub(crate) fn open(&mut self, from: K, to: K) {
        self.known.clear();
        join(&mut self.gaps, from, to);
    }

    /// All entries from here to before there are in memory.
    pub(crate) fn learn(&mut self, from: K, to: K) {
        if from >= to {
            return;
        }
        match around(&self.gaps, &from) {
            // A hole in a gap is not worth two gaps: nothing may be left of it.
            Some((start, end)) if *start < from && *end > to => {
                join(&mut self.known, from, to);
            }
            Some((start, end)) if *start < from => {
                let (start, end) = (start.clone(), end.clone());
                self.gaps.insert(start, from);
                self.learn(end, to);
            }
            _ => self.close_from(from, to),
        }
    }

    /// Forgets what was read of gaps where that is much. Not before the unit that has missed it is kept.
    pub(crate) fn trim(&mut self) {
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
    }

    /// The same; `from` is not inside a gap.
    fn close_from(&mut self, from: K, to: K) {
        while let Some((start, end)) = self.gaps.range(&from..&to).next() {
            let (start, end) = (start.clone(), end.clone());
            self.gaps.remove(&start);
            if end > to {
                self.gaps.insert(to.clone(), end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Open(i64, i64),
        Learn(i64, i64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let range = || (0i64..40, 1i64..12).prop_map(|(from, len)| (from, from + len));
        prop_oneof![
            1 => range().prop_map(|(from, to)| Op::Open(from, to)),
            2 => range().prop_map(|(from, to)| Op::Learn(from, to)),
        ]
    }

    proptest! {
        /// Against a set of places. Opening forgets what was read in gaps that stay, so more may be unknown
        /// than was opened; never less.
        #[test]
        fn nothing_that_was_let_go_is_taken_for_known(ops in prop::collection::vec(op(), 1..30)) {
            let mut spilled = Spilled::<i64>::default();
            let mut unknown = std::collections::BTreeSet::new();
            for op in ops {
                match op {
                    Op::Open(from, to) => {
                        spilled.open(from, to);
                        unknown.extend(from..to);
                    }
                    Op::Learn(from, to) => {
                        spilled.learn(from, to);
                        unknown.retain(|at| !(from..to).contains(at));
                        for at in from..to {
                            prop_assert!(!spilled.is_unknown(&at), "{at} was read");
                        }
                    }
                }
                for at in 0..60 {
                    prop_assert!(spilled.is_unknown(&at) || !unknown.contains(&at), "{at}");
                    let first = spilled.first_unknown(&at, Some(&55));
                    let expected = (at..55).find(|at| spilled.is_unknown(at));
                    prop_assert_eq!(first.as_ref().map(|f| f.0), expected);
                    if let Some((from, to)) = first {
                        prop_assert!(to > from && to <= 55);
                        prop_assert!((from..to).all(|at| spilled.is_unknown(&at)));
                    }
                }
                let ends: Vec<_> = spilled.gaps.iter().map(|(a, b)| (*a, *b)).collect();
                prop_assert!(ends.iter().all(|(a, b)| a < b));
                prop_assert!(ends.windows(2).all(|w| w[0].1 < w[1].0), "{ends:?}");
            }
        }
    }
}
