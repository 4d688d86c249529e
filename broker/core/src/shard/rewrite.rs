//! Rewriting settled segments: which, and when.
//!
//! A partition of a compacted topic is compacted when as much of it is dirty as is clean: then each
//! record is copied a bounded number of times. Of other partitions small neighbours are put together.
//!
//! Where the older segments are in the tier only, as after a restore, they stay as they are: what came after
//! them is compacted, and its tombstones stay, for what they delete may be in there.

use super::Shard;
use super::partition::Partition;
use crate::input::{Now, PartitionConfig};
use crate::output::{Outbox, Output};
use flowstone_storage::Error;
use flowstone_storage::settled::{Compaction, RewriteInput, Rewritten, SettledMeta};
use std::ops::Bound;

/// Bytes for the keys of one compaction.
const KEY_BYTES: usize = 64 << 20;
/// So many small neighbours are put together, and no more at once.
const MERGE_MIN: usize = 8;
const MERGE_MAX: usize = 64;
/// A segment is small below this part of a log segment.
pub(super) const SMALL_PART: u64 = 8;
/// After a rewriting that failed the next is tried this much later.
const RETRY_US: u64 = 60_000_000;

impl Shard {
    /// Asks for one rewriting, if there is something to gain.
    pub(super) fn ask_for_rewrite(&mut self, now: Now, out: &mut Outbox) {
        let busy =
            self.rewriting.is_some() || self.draining || self.fenced.is_some() || !self.knows_all;
        if busy || now.mono_us < self.rewrite_after_us {
            return;
        }
        // One that fails each time does not keep others from their turn.
        let behind = self.rewritten.map_or(Bound::Unbounded, Bound::Excluded);
        let first = self.partitions.range((behind, Bound::Unbounded));
        let mut order = first.chain(&self.partitions);
        let wanted = order.find_map(|(id, p)| Some((*id, self.rewrite_of(p, now)?)));
        if let Some((partition, input)) = wanted {
            self.rewriting = Some(partition);
            out.push(Output::Rewrite(input));
        }
    }

    /// What there is to gain in one partition.
    fn rewrite_of(&self, p: &Partition, now: Now) -> Option<RewriteInput> {
        let config = p.config.as_ref()?;
        let file_bytes = self.config.log.segment_bytes;
        let segments = if config.compact {
            to_compact(p)
        } else {
            to_merge(p, file_bytes / SMALL_PART)
        };
        let first = segments.first()?;
        let is_whole = p.settled.front() == Some(first);
        Some(RewriteInput {
            start: p.stored_start.max(first.first_offset),
            compaction: compaction(now, config, is_whole),
            compress: self.config.compress,
            file_bytes,
            min_free_bytes: self.config.log.min_free_bytes,
            segments,
        })
    }

    pub(super) fn rewritten(
        &mut self,
        now: Now,
        result: Result<Rewritten, Error>,
        out: &mut Outbox,
    ) {
        self.rewritten = self.rewriting.take();
        match result {
            Ok(done) => self.take_rewritten(done, out),
            Err(e) => {
                self.rewrite_after_us = now.mono_us + RETRY_US;
                out.push(Output::Report(format!(
                    "settled segments could not be rewritten, which is tried again: {e}"
                )));
            }
        }
        self.finish_drain(out);
    }

    fn take_rewritten(&mut self, done: Rewritten, out: &mut Outbox) {
        let partition = done.added.first().map(|m| m.partition);
        let found = partition.and_then(|id| self.partitions.get_mut(&id));
        match found {
            Some(p) => {
                p.settled.retain(|m| !done.removed.contains(&m.id()));
                for id in &done.removed {
                    if p.copy_of(*id).is_some() {
                        p.tiered.remove(&id.first_offset);
                        p.tier_stale = true;
                    }
                }
                p.settled.extend(done.added);
                p.settled.make_contiguous().sort_by_key(|m| m.first_offset);
                out.push(Output::DropSettled(done.removed));
            }
            // Deleted meanwhile, and the old segments with it.
            None => out.push(Output::DropSettled(
                done.added.iter().map(SettledMeta::id).collect(),
            )),
        }
    }
}

/// `is_whole`: nothing is older than what is compacted. Where something is, tombstones never go.
fn compaction(now: Now, config: &PartitionConfig, is_whole: bool) -> Option<Compaction> {
    config.compact.then_some(Compaction {
        now_ms: now.unix_ms,
        tombstone_ms: if is_whole {
            config.tombstone_ms
        } else {
            u64::MAX
        },
        key_bytes: KEY_BYTES,
    })
}

/// All segments with local files behind what is in the tier only, up to the first gap, where enough of them is dirty.
fn to_compact(p: &Partition) -> Vec<SettledMeta> {
    let remote = p.settled.iter().rposition(|m| !p.has_file(m));
    let segments = neighbours(p.settled.range(remote.map_or(0, |at| at + 1)..));
    let bytes = |dirty: bool| -> u64 {
        let of = segments.iter().filter(|m| m.clean_at_ms.is_none() == dirty);
        of.map(|m| m.bytes).sum()
    };
    let (dirty, clean) = (bytes(true), bytes(false));
    if dirty > 0 && dirty >= clean {
        segments
    } else {
        Vec::new()
    }
}

/// The first small neighbours of a partition, where there are enough.
fn to_merge(p: &Partition, small_bytes: u64) -> Vec<SettledMeta> {
    let mut at = 0;
    while at < p.settled.len() {
        // What the tier has stays as it is.
        let is_small = |m: &&SettledMeta| m.bytes < small_bytes && !p.is_in_tier(m);
        let small = p.settled.range(at..).take_while(is_small);
        let found = neighbours(small.take(MERGE_MAX));
        if found.len() >= MERGE_MIN {
            return found;
        }
        at += found.len().max(1);
    }
    Vec::new()
}

/// Segments up to the first gap between two of them.
fn neighbours<'a>(segments: impl Iterator<Item = &'a SettledMeta>) -> Vec<SettledMeta> {
    let mut all: Vec<SettledMeta> = Vec::new();
    for meta in segments {
        if all
            .last()
            .is_some_and(|last| last.next_offset != meta.first_offset)
        {
            break;
        }
        all.push(meta.clone());
    }
    all
}
