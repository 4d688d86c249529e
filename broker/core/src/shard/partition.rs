//! What a shard knows of a partition.

use super::Shard;
use super::fetch::Want;
use super::tier::Looks;
use crate::input::PartitionConfig;
use crate::output::{Outbox, Output};
use flowstone_storage::settled::{SegmentId, SettledMeta, Source, Tiered};
use flowstone_wire::native::Visibility;
use flowstone_wire::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A partition of the shard.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// `None` until the catalog says that it exists: what recovery found of it is kept till then.
    pub(super) config: Option<PartitionConfig>,
    /// First offset that is kept. `start <= committed`.
    pub(super) start: Offset,
    /// The start that the state store has: what lies before it can go. `stored_start <= start`.
    pub(super) stored_start: Offset,
    /// Behind the last durable record. `committed <= written`.
    pub(super) committed: Offset,
    /// Behind the last record in the page cache. `written <= next`.
    pub(super) written: Offset,
    /// Behind the last record that has a place in the log.
    pub(super) next: Offset,
    /// Settled segments, oldest first. They may overlap with the hot log, which is read first.
    pub(super) settled: VecDeque<SettledMeta>,
    /// Copies of settled segments in the tier, by first offset. One counts where its generation is the
    /// segment's.
    pub(super) tiered: BTreeMap<Offset, Tiered>,
    /// The tier has something that is not wanted any more.
    pub(super) tier_stale: bool,
    /// Since when it has had settled segments without a copy, milliseconds since 1970; counted anew after
    /// a start.
    pub(super) waits_since_ms: Option<i64>,
    /// The answer to a job for the tier is awaited.
    pub(super) tier_out: bool,
    /// Where there are several copies: what the tier has, as far as this one knows. In order, apart from
    /// each other; none of a compacted topic.
    pub(super) in_tier: Vec<(Offset, Offset)>,
    pub(super) looks: Looks,
    /// Damage that an operator has accepted: first offset and the one behind the last.
    pub(super) gaps: BTreeMap<Offset, Offset>,
    /// Long polls.
    pub(super) waiting: Vec<Want>,
    /// Whether its row in the state store is out of date.
    pub(super) dirty: bool,
    /// Indexes of the tasks that read it.
    pub(super) tasks: Vec<usize>,
}

/// The row of a partition in the state store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionRow {
    pub(super) start: Offset,
    pub(super) next: Offset,
}

impl Partition {
    /// Up to where its readers see.
    pub(super) fn visible(&self) -> Offset {
        match self.config.as_ref().map(|c| c.visibility) {
            Some(Visibility::Written) => self.written,
            _ => self.committed,
        }
    }

    /// Whether readers wait for the disk.
    pub(super) fn waits_for_disk(&self) -> bool {
        !self.waiting.is_empty()
            && self
                .config
                .as_ref()
                .is_some_and(|c| c.visibility == Visibility::Committed)
    }

    /// The settled segment that holds `offset`, or the next one behind it.
    pub(super) fn settled_at(&self, offset: Offset) -> Option<&SettledMeta> {
        let at = self.settled.partition_point(|m| m.next_offset <= offset);
        self.settled.get(at)
    }

    /// The copy of a settled segment in the tier, if it has one.
    pub(super) fn copy_of(&self, id: SegmentId) -> Option<Tiered> {
        let tiered = self.tiered.get(&id.first_offset)?;
        (tiered.generation == id.generation).then_some(*tiered)
    }

    /// Where a settled segment is read from.
    pub(super) fn source_of(&self, id: SegmentId) -> Source {
        let remote = self.copy_of(id).filter(|t| !t.local);
        Source { id, remote }
    }

    /// The offset, or the end of the accepted gaps that it lies in.
    pub(super) fn behind_gap(&self, mut offset: Offset) -> Offset {
        loop {
            let gap = self.gaps.range(..=offset).next_back();
            match gap {
                // Another one may begin where it ends.
                Some((_, end)) if *end > offset => offset = *end,
                _ => return offset,
            }
        }
    }

    /// Bytes of its settled segments.
    pub(super) fn settled_bytes(&self) -> u64 {
        self.settled.iter().map(|m| m.bytes).sum()
    }

    pub(super) fn row(&self) -> PartitionRow {
        PartitionRow {
            start: self.start,
            next: self.next,
        }
    }
}

impl Shard {
    pub(super) fn open_partition(&mut self, id: PartitionId, config: PartitionConfig) {
        self.partitions.entry(id).or_default().config = Some(config);
    }

    /// Forgets a deleted partition; its bytes in the hot log go with their segments.
    pub(super) fn close_partition(&mut self, id: PartitionId, out: &mut Outbox) {
        let Some(gone) = self.partitions.remove(&id) else {
            return;
        };
        for want in gone.waiting {
            out.reply(want.ticket, Err(super::unknown_partition(id)));
        }
        self.polls.retain(|_, p| *p != id);
        let settled: Vec<_> = gone.settled.iter().map(SettledMeta::id).collect();
        if !settled.is_empty() {
            out.push(Output::DropSettled(settled));
        }
        self.log.forget_partition(id);
        self.producers.forget_partition(id);
        self.groups.forget_partition(id);
        self.materializer.removed_partition(id);
    }

    /// Closes what recovery found and the catalog does not know, of the partitions with numbers below this
    /// one: a log may know of partitions before the catalog of its node does. To be called when every
    /// partition that exists was opened; nothing is settled before.
    pub fn close_unknown(&mut self, below: PartitionId, out: &mut Outbox) {
        let unknown: Vec<_> = self
            .partitions
            .iter()
            .filter(|(id, p)| p.config.is_none() && **id < below)
            .map(|(id, _)| *id)
            .collect();
        for id in unknown {
            self.close_partition(id, out);
        }
        self.knows_all = true;
    }
}
