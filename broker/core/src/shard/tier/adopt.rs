//! Taking over what other leaders have put into the tier.
//!
//! Each copy of a shard settles by itself: its files end elsewhere than those that a leader before it has
//! uploaded.
//!
//! ```text
//! in the tier   |--a--|--b---|--c---|--d--|
//! files here       |---1---|---2---|---3---|--4--|
//! what is due      |---1---|---2---|
//! adopted       |--a--|--b---|--c---|           d is not needed, 1 and 2 go
//!                                  |---3---|--4--|
//! ```
//! What is read lies in the first segment that ends behind the offset, so what overlaps does no harm, as
//! long as segments are in order by where they begin and by where they end.

use crate::shard::partition::Partition;
use flowstone_storage::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::Offset;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// When the tier is asked what it has of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Looks {
    /// Before anything is written there: other leaders may have.
    pub(in crate::shard) must: bool,
    /// Local files could go for it.
    pub(in crate::shard) wanted: bool,
    /// Not before this, microseconds.
    pub(in crate::shard) after_us: u64,
    /// How long after the last look that is, microseconds.
    pub(super) pause_us: u64,
}

/// How rows and files change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Adoption {
    pub(super) dropped: Vec<SegmentId>,
    pub(super) put: Vec<(SettledMeta, Option<Tiered>)>,
}

/// A segment and its copy.
type Known = (SettledMeta, Option<Tiered>);

impl Partition {
    /// Whether every offset of a segment that is kept is in the tier, whatever the segments there are.
    pub(in crate::shard) fn is_in_tier(&self, meta: &SettledMeta) -> bool {
        self.copy_of(meta.id()).is_some() || self.is_covered(meta)
    }

    /// Notes that the tier has these offsets.
    pub(super) fn note_in_tier(&mut self, first: Offset, next: Offset) {
        match self.in_tier.last_mut() {
            Some((_, to)) if first <= *to => *to = next.max(*to),
            _ => self.in_tier.push((first, next)),
        }
    }

    fn has_file(&self, meta: &SettledMeta) -> bool {
        self.copy_of(meta.id()).is_none_or(|t| t.local)
    }

    /// Takes over what the tier has, and lets go of up to `due` of the oldest local files for it. Entries
    /// are in order, and each is to be believed.
    pub(super) fn adopt(&mut self, entries: &[(SettledMeta, Tiered)], due: usize) -> Adoption {
        let compact = self.config.as_ref().is_some_and(|c| c.compact);
        let wanted = |(m, _): &&(SettledMeta, Tiered)| m.next_offset > self.stored_start;
        let entries: Vec<_> = entries.iter().filter(wanted).cloned().collect();
        self.in_tier.clear();
        if !compact {
            for (meta, _) in &entries {
                self.note_in_tier(meta.first_offset, meta.next_offset);
            }
        }
        let known = |m: &SettledMeta| (m.clone(), self.copy_of(m.id()));
        let before: Vec<Known> = self.settled.iter().map(known).collect();
        let now = match compact {
            true => self.adopted_compact(&entries),
            false => self.adopted(&entries, due),
        };
        let Some(now) = now else {
            return Adoption::default();
        };
        self.settled = now
            .iter()
            .map(|(meta, _)| meta.clone())
            .collect::<VecDeque<_>>();
        let copies = now
            .iter()
            .filter_map(|(m, t)| Some((m.first_offset, (*t)?)));
        self.tiered = copies.collect::<BTreeMap<_, _>>();
        changes(&before, &now)
    }

    /// All local files stay, and the copies of those that are the same in the tier.
    fn adopted_compact(&self, entries: &[(SettledMeta, Tiered)]) -> Option<Vec<Known>> {
        let of = |meta: &SettledMeta| {
            let local = self.has_file(meta);
            let same = entries.iter().find(|(m, _)| m == meta);
            let copy = same.map(|(_, t)| Tiered { local, ..*t });
            (local || copy.is_some()).then(|| (meta.clone(), copy))
        };
        Some(self.settled.iter().filter_map(of).collect())
    }

    fn adopted(&self, entries: &[(SettledMeta, Tiered)], due: usize) -> Option<Vec<Known>> {
        let local: Vec<_> = self.settled.iter().filter(|m| self.has_file(m)).collect();
        let safe = local.iter().take_while(|m| self.is_covered(m)).count();
        // As many as may go; more only where nothing else is in order.
        let order = (0..=due.min(safe)).rev().chain(due.min(safe) + 1..=safe);
        for gone in order {
            let (kept, end) = (&local[gone..], local.last().map(|m| m.next_offset));
            let remote = match (kept.first(), end) {
                (Some(first), _) => {
                    entries.partition_point(|(m, _)| m.first_offset < first.first_offset)
                }
                (None, Some(end)) => entries.partition_point(|(m, _)| m.next_offset <= end),
                (None, None) => entries.partition_point(|(m, _)| m.next_offset <= self.next),
            };
            let reach = entries[..remote].last().map(|(m, _)| m.next_offset);
            let fits = match (kept.first(), end) {
                (Some(first), _) => reach.is_none_or(|r| r < first.next_offset),
                (None, Some(end)) => reach == Some(end),
                (None, None) => true,
            };
            if fits {
                let there = |(m, t): &(SettledMeta, Tiered)| {
                    (m.clone(), Some(Tiered { local: false, ..*t }))
                };
                let here = kept.iter().map(|m| ((*m).clone(), same_copy(m, entries)));
                return Some(entries[..remote].iter().map(there).chain(here).collect());
            }
        }
        None
    }

    /// Whether other segments of the tier have all of it.
    fn is_covered(&self, meta: &SettledMeta) -> bool {
        let first = meta.first_offset.max(self.stored_start);
        let has = |(from, to): &(Offset, Offset)| *from <= first && meta.next_offset <= *to;
        self.in_tier.iter().any(has)
    }
}

/// The copy in the tier of a local file with the same records.
fn same_copy(meta: &SettledMeta, entries: &[(SettledMeta, Tiered)]) -> Option<Tiered> {
    let range = |m: &SettledMeta| (m.id(), m.next_offset, m.records, m.last_lsn);
    let same = entries.iter().find(|(m, _)| range(m) == range(meta));
    same.map(|(_, t)| Tiered { local: true, ..*t })
}

fn changes(before: &[Known], now: &[Known]) -> Adoption {
    let local = |copy: &Option<Tiered>| copy.is_none_or(|t| t.local);
    let stays: BTreeSet<(SegmentId, bool)> = now.iter().map(|(m, t)| (m.id(), local(t))).collect();
    let gone = before
        .iter()
        .filter(|(m, t)| !stays.contains(&(m.id(), local(t))));
    let new = now.iter().filter(|known| !before.contains(known));
    Adoption {
        dropped: gone.map(|(m, _)| m.id()).collect(),
        put: new.cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
