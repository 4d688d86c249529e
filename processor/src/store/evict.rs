//! Letting go of entries that a store outside has, and taking them in again.
//!
//! ```text
//! changed --take_dirty--> on its way --stored--> can be let go --evict--> outside only
//!    ^                                                                        |
//!    +--------------- put, delete <-- in memory <--------- admit -------------+
//! ```

use super::{Store, cost};
use crate::spilled::{Missed, Place};
use std::collections::BTreeSet;

/// Gaps with fewer entries between them than this are one.
const APART: usize = 8;

/// What the store outside has.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Keys that it was given, and may not have yet.
    on_its_way: BTreeSet<(u16, Vec<u8>)>,
    /// Where to look next for what can be let go.
    hand: (u16, Vec<u8>),
    /// What was let go is taken to be as much as this.
    entries: usize,
    bytes: usize,
}

impl Outside {
    pub(super) fn on_its_way(&mut self, keys: BTreeSet<(u16, Vec<u8>)>) {
        self.on_its_way.extend(keys);
    }

    fn took(&mut self, entries: usize, bytes: usize) {
        self.entries += entries;
        self.bytes += bytes;
    }

    fn gave(&mut self, bytes: usize) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Neighbours that are let go.
struct Run {
    first: Vec<u8>,
    last: Vec<u8>,
    /// Entries behind the last one that stay.
    kept: usize,
}

impl Store {
    /// From now on the store outside has what [`Self::take_dirty`] gives, and nothing that is not in memory
    /// or in a gap.
    pub(crate) fn spill(&mut self) {
        self.outside.get_or_insert_default();
    }

    pub(crate) fn spills(&self) -> bool {
        self.outside.is_some()
    }

    /// What is outside only, as far as it was counted.
    pub(crate) fn outside_bytes(&self) -> usize {
        self.outside.as_ref().map_or(0, |outside| outside.bytes)
    }

    /// Whether memory is ahead of what is certainly outside.
    pub(super) fn has_changed(&self, node: u16, key: &[u8]) -> bool {
        let Some(outside) = &self.outside else {
            return true;
        };
        let key = (node, key.to_vec());
        self.dirty.contains(&key) || outside.on_its_way.contains(&key)
    }

    /// The store outside has all that it was given.
    pub(crate) fn stored(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.on_its_way.clear();
        }
    }

    /// Entries that were not loaded: all of a stage from the first key to the last one.
    pub(crate) fn leave_out(
        &mut self,
        node: u16,
        (first, last): (&[u8], &[u8]),
        (entries, bytes): (usize, usize),
    ) {
        let spilled = &mut self.stages[usize::from(node)].spilled;
        spilled.open(first.to_vec(), last.to_vec().behind());
        let outside = self.outside.get_or_insert_default();
        outside.took(entries, bytes + entries * super::ENTRY_COST_BYTES);
    }

    /// Whether something was needed that is not in memory.
    #[inline]
    pub(crate) fn has_missed(&self) -> bool {
        self.stages.iter().any(|stage| stage.spilled.has_missed())
    }

    pub(crate) fn take_missed(&mut self) -> Vec<(u16, Missed<Vec<u8>>)> {
        let stages = self.stages.iter_mut().zip(0u16..);
        let missed = stages.flat_map(|(stage, node)| {
            let missed = stage.spilled.take_missed();
            missed.map(move |missed| (node, missed))
        });
        missed.collect()
    }

    /// Forgets what was read of gaps where that is much; what is needed of it is read again.
    pub(crate) fn trim(&mut self) {
        self.stages
            .iter_mut()
            .for_each(|stage| stage.spilled.trim());
    }

    /// Takes in an entry that the store outside had, unless memory knows better.
    pub(crate) fn admit(&mut self, node: u16, key: &[u8], value: &[u8]) {
        let known = self.stages[usize::from(node)].entries.contains_key(key);
        if known || self.has_changed(node, key) {
            return;
        }
        self.load(node, key, value);
        if let Some(outside) = &mut self.outside {
            outside.gave(cost(key, value));
        }
    }

    /// All entries of a range were given to [`Self::admit`].
    pub(crate) fn learn(&mut self, node: u16, from: Vec<u8>, to: Vec<u8>) {
        self.stages[usize::from(node)].spilled.learn(from, to);
    }

    /// A change of something that may be outside only: how much of it there is can be estimated only.
    pub(super) fn note_blind(&mut self, node: u16, key: &[u8]) {
        let stage = &self.stages[usize::from(node)];
        if stage.spilled.is_empty() || stage.entries.contains_key(key) {
            return;
        }
        let key = key.to_vec();
        let is_outside = stage.spilled.is_unknown(&key) && !self.has_changed(node, &key);
        if let Some(outside) = self.outside.as_mut().filter(|_| is_outside) {
            outside.gave(outside.bytes / outside.entries.max(1));
        }
    }

    /// Lets go of entries that are outside as well and were not used for the longest time, about so many
    /// bytes of them.
    pub(crate) fn evict(&mut self, most_bytes: usize) {
        let Some(mut outside) = self.outside.take() else {
            return;
        };
        let upto = self.size_bytes().saturating_sub(most_bytes);
        let start = outside.hand.clone();
        // The first round finds what was not used since the last one, the second one all the rest.
        for _ in 0..2 * self.stages.len() + 1 {
            self.evict_stage(&mut outside, upto);
            if self.size_bytes() <= upto {
                break;
            }
            let next = outside.hand.0 + 1;
            let next = if usize::from(next) < self.stages.len() {
                next
            } else {
                0
            };
            outside.hand = (next, Vec::new());
        }
        if self.size_bytes() > upto {
            outside.hand = start;
        }
        self.outside = Some(outside);
    }

    /// From the hand on to the end of its stage.
    fn evict_stage(&mut self, outside: &mut Outside, upto: usize) {
        let node = outside.hand.0;
        let from = std::mem::take(&mut outside.hand.1);
        let stage = &mut self.stages[usize::from(node)];
        let (mut runs, mut gone): (Vec<Run>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let mut freed = 0;
        for (key, slot) in stage.entries.range(from..) {
            if self.sizes.total() - freed <= upto {
                outside.hand.1.clone_from(key);
                break;
            }
            let is_used = slot.used.replace(false);
            let stays = slot.dirty || is_used;
            let id = (node, if stays { Vec::new() } else { key.clone() });
            if stays || outside.on_its_way.contains(&id) {
                if let Some(run) = runs.last_mut() {
                    run.kept += 1;
                }
                continue;
            }
            freed += cost(key, &slot.value);
            match runs.last_mut().filter(|run| run.kept < APART) {
                Some(run) => {
                    run.last.clone_from(key);
                    run.kept = 0;
                }
                None => runs.push(Run {
                    first: key.clone(),
                    last: key.clone(),
                    kept: 0,
                }),
            }
            gone.push(id.1);
        }
        outside.took(gone.len(), freed);
        for key in &gone {
            if let Some(slot) = stage.entries.remove(key) {
                self.sizes.sub(node, key, cost(key, &slot.value));
            }
        }
        for run in runs {
            stage.spilled.open(run.first, run.last.behind());
        }
    }
}
