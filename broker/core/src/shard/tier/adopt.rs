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

/// How rows and files change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Adoption {
    pub(super) dropped: Vec<SegmentId>,
    pub(super) put: Vec<(SettledMeta, Option<Tiered>)>,
}

/// A segment and its copy.
type Known = (SettledMeta, Option<Tiered>);
/// A segment of the tier.
type Entry = (SettledMeta, Tiered);

impl Partition {
    /// Whether every offset of a segment that is kept is in the tier, whatever the segments there are.
    pub(in crate::shard) fn is_in_tier(&self, meta: &SettledMeta) -> bool {
        self.copy_of(meta.id()).is_some() || self.is_covered(meta)
    }

    /// Notes that the tier has these offsets.
    pub(super) fn note_in_tier(&mut self, first: Offset, next: Offset) {
        add_range(&mut self.in_tier, first, next);
    }

    /// Whether a segment that is kept has a local file.
    pub(in crate::shard) fn has_file(&self, meta: &SettledMeta) -> bool {
        is_local(&self.copy_of(meta.id()))
    }

    /// Segments with a local file, oldest first.
    pub(super) fn local(&self) -> impl Iterator<Item = &SettledMeta> {
        self.settled.iter().filter(|m| self.has_file(m))
    }

    /// What of a segment is in the tier only and must be found there, from an offset on.
    pub(super) fn missed(&self, entries: &[Entry], from: Offset) -> Option<&SettledMeta> {
        let ranges = ranges(entries);
        let remote = self.settled.iter().filter(|m| !self.has_file(m));
        let mut kept = remote.filter(|m| m.next_offset > from);
        kept.find(|m| !is_within(&ranges, m.first_offset.max(from), m.next_offset))
    }

    /// Takes over what the tier has, and lets go of up to `due` of the oldest local files for it. Entries
    /// are in order, and each is to be believed; while a settling is under way what it begins with stays.
    /// `None` where that cannot be done now.
    pub(super) fn adopt(
        &mut self,
        entries: &[Entry],
        due: usize,
        settling: bool,
    ) -> Option<Adoption> {
        let compact = self.config.as_ref().is_some_and(|c| c.compact);
        let below = entries.partition_point(|(m, _)| m.next_offset <= self.stored_start);
        let entries = &entries[below..];
        self.in_tier = if compact { Vec::new() } else { ranges(entries) };
        let known = |m: &SettledMeta| (m.clone(), self.copy_of(m.id()));
        let before: Vec<Known> = self.settled.iter().map(known).collect();
        let now = match compact {
            true => self.adopted_compact(entries),
            false => self.adopted(entries, due, settling)?,
        };
        self.settled = now.iter().map(|(meta, _)| meta.clone()).collect();
        let copies = now.iter();
        let copies = copies.filter_map(|(m, t)| Some((m.first_offset, (*t)?)));
        self.tiered = copies.collect();
        Some(changes(&before, &now))
    }

    /// All local files stay, with the copies of those that are the same in the tier.
    fn adopted_compact(&self, entries: &[Entry]) -> Vec<Known> {
        let of = |meta: &SettledMeta| match self.has_file(meta) {
            false => (meta.clone(), self.copy_of(meta.id())),
            true => {
                let same = entry_at(entries, meta).filter(|(m, _)| m == meta);
                let local = true;
                (meta.clone(), same.map(|(_, t)| Tiered { local, ..*t }))
            }
        };
        self.settled.iter().map(of).collect()
    }

    fn adopted(&self, entries: &[Entry], due: usize, settling: bool) -> Option<Vec<Known>> {
        let local: Vec<_> = self.local().collect();
        let safe = local.iter().take_while(|m| self.is_covered(m)).count();
        let end = self.settled.back().map_or(Offset(0), |m| m.next_offset);
        // Settling begins behind what is settled.
        let upto = if settling { end } else { self.next };
        // As many as may go; more only where nothing else is in order.
        let order = (0..=due.min(safe)).rev().chain(due.min(safe) + 1..=safe);
        for gone in order {
            let kept = &local[gone..];
            let count = match kept.first() {
                Some(s) => entries.partition_point(|(m, _)| m.first_offset < s.first_offset),
                None => meeting(entries, end.max(self.stored_start), upto),
            };
            let remote = &entries[..count];
            let reach = remote.last().map(|(m, _)| m.next_offset);
            let fits = match kept.first() {
                Some(s) => reach.is_none_or(|r| r < s.next_offset),
                None => end <= self.stored_start || reach.is_some_and(|r| r >= end),
            };
            if fits {
                let local = false;
                let there = |(m, t): &Entry| (m.clone(), Some(Tiered { local, ..*t }));
                let here = kept.iter().map(|m| ((*m).clone(), same_copy(m, entries)));
                return Some(remote.iter().map(there).chain(here).collect());
            }
        }
        None
    }

    /// Whether other segments of the tier have all of it.
    fn is_covered(&self, meta: &SettledMeta) -> bool {
        let first = meta.first_offset.max(self.stored_start);
        is_within(&self.in_tier, first, meta.next_offset)
    }
}

/// How many entries go on without a gap behind `from`, and end before or at `upto`.
fn meeting(entries: &[Entry], from: Offset, upto: Offset) -> usize {
    let mut reach = from;
    let meets = |(meta, _): &&Entry| {
        let meets = meta.first_offset <= reach && meta.next_offset <= upto;
        reach = reach.max(meta.next_offset);
        meets
    };
    entries.iter().take_while(meets).count()
}

/// Whether a segment with this copy has a file here.
fn is_local(copy: &Option<Tiered>) -> bool {
    copy.is_none_or(|t| t.local)
}

/// The offsets of segments in order, those that meet put together.
fn ranges(entries: &[Entry]) -> Vec<(Offset, Offset)> {
    let mut all = Vec::new();
    for (meta, _) in entries {
        add_range(&mut all, meta.first_offset, meta.next_offset);
    }
    all
}

fn add_range(all: &mut Vec<(Offset, Offset)>, first: Offset, next: Offset) {
    match all.last_mut() {
        Some((_, to)) if first <= *to => *to = next.max(*to),
        _ => all.push((first, next)),
    }
}

fn is_within(ranges: &[(Offset, Offset)], first: Offset, next: Offset) -> bool {
    let has = |(from, to): &(Offset, Offset)| *from <= first && next <= *to;
    ranges.iter().any(has)
}

/// The entry that begins where a segment does.
fn entry_at<'a>(entries: &'a [Entry], meta: &SettledMeta) -> Option<&'a Entry> {
    let at = entries.binary_search_by_key(&meta.first_offset, |(m, _)| m.first_offset);
    entries.get(at.ok()?)
}

/// The copy in the tier of a local file with the same records.
fn same_copy(meta: &SettledMeta, entries: &[Entry]) -> Option<Tiered> {
    let range = |m: &SettledMeta| (m.id(), m.next_offset, m.records, m.last_lsn);
    let same = entry_at(entries, meta).filter(|(m, _)| range(m) == range(meta));
    same.map(|(_, t)| Tiered { local: true, ..*t })
}

/// How rows and files change; what was there and what is are both in order.
fn changes(before: &[Known], now: &[Known]) -> Adoption {
    let by_start = |all: &[Known], first: Offset| -> Option<usize> {
        let at = all.binary_search_by_key(&first, |(m, _)| m.first_offset);
        at.ok()
    };
    let stays = |(m, t): &&Known| {
        let at = by_start(now, m.first_offset).map(|at| &now[at]);
        at.is_some_and(|(other, o)| other.id() == m.id() && is_local(o) == is_local(t))
    };
    let is_new = |known: &&Known| {
        let at = by_start(before, known.0.first_offset);
        at.is_none_or(|at| before[at] != **known)
    };
    Adoption {
        dropped: before
            .iter()
            .filter(|k| !stays(k))
            .map(|(m, _)| m.id())
            .collect(),
        put: now.iter().filter(is_new).cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
