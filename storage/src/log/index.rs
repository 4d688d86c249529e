//! Where the batches of each partition stand in the hot log: runs of adjacent batches.
//!
//! Batches of one partition that stand next to each other share a run of up to 64 KiB, so the index
//! is small where one partition is busy, and as fine as it must be where many take turns.

use flowstone_wire::{BatchHeader, Lsn, Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A run is closed at this size: reading from its middle walks the headers before.
const RUN_BYTES: u32 = 64 << 10;

/// Adjacent batches of one partition in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset behind the last record.
    pub next_offset: Offset,
    /// LSN of the first batch.
    pub first_lsn: Lsn,
    /// LSN behind the last batch.
    pub next_lsn: Lsn,
    /// First LSN of the segment.
    pub segment: Lsn,
    /// Where in the segment it starts.
    pub position: u64,
    /// Its bytes.
    pub bytes: u32,
    /// Largest record timestamp, milliseconds since 1970.
    pub max_timestamp: i64,
}

impl Run {
    /// Takes the batch in, if it stands directly behind this run.
    fn extend(&mut self, header: &BatchHeader, segment: Lsn, position: u64) -> bool {
        let adjacent = self.segment == segment
            && self.position + u64::from(self.bytes) == position
            && self.next_lsn == header.lsn
            && self.bytes < RUN_BYTES;
        if adjacent {
            self.next_offset = header.next_offset();
            self.next_lsn = header.lsn.next();
            self.bytes += header.size;
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp());
        }
        adjacent
    }
}

/// The runs of every partition, oldest first.
#[derive(Debug, Default)]
pub(crate) struct HotIndex {
    partitions: BTreeMap<PartitionId, VecDeque<Run>>,
}

impl HotIndex {
    #[inline]
    pub(crate) fn add(&mut self, header: &BatchHeader, segment: Lsn, position: u64) {
        let runs = self.partitions.entry(header.partition).or_default();
        if runs
            .back_mut()
            .is_some_and(|last| last.extend(header, segment, position))
        {
            return;
        }
        runs.push_back(Run {
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            first_lsn: header.lsn,
            next_lsn: header.lsn.next(),
            segment,
            position,
            bytes: header.size,
            max_timestamp: header.max_timestamp(),
        });
    }

    pub(crate) fn add_run(&mut self, partition: PartitionId, run: Run) {
        self.partitions.entry(partition).or_default().push_back(run);
    }

    /// Runs from the one that holds `offset` on.
    pub(crate) fn from(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> impl Iterator<Item = &Run> {
        self.partitions
            .get(&partition)
            .into_iter()
            .flat_map(move |runs| {
                let at = runs.partition_point(|r| r.next_offset <= offset);
                runs.range(at..)
            })
    }

    /// The runs of one partition.
    pub(crate) fn runs(&self, partition: PartitionId) -> impl DoubleEndedIterator<Item = &Run> {
        self.partitions.get(&partition).into_iter().flatten()
    }

    /// All runs that stand in one segment.
    pub(crate) fn of_segment(&self, segment: Lsn) -> Vec<(PartitionId, Vec<Run>)> {
        let of = |runs: &VecDeque<Run>| -> Vec<Run> {
            let at = runs.partition_point(|r| r.segment < segment);
            runs.range(at..)
                .take_while(|r| r.segment == segment)
                .copied()
                .collect()
        };
        let all = self.partitions.iter().map(|(p, runs)| (*p, of(runs)));
        all.filter(|(_, runs)| !runs.is_empty()).collect()
    }

    /// Forgets all runs in segments before this one.
    pub(crate) fn drop_before(&mut self, segment: Lsn) {
        self.partitions.retain(|_, runs| {
            let keep = runs.partition_point(|r| r.segment < segment);
            runs.drain(..keep);
            !runs.is_empty()
        });
    }

    /// Forgets all runs in segments from this one on.
    pub(crate) fn drop_from(&mut self, segment: Lsn) {
        self.partitions.retain(|_, runs| {
            let keep = runs.partition_point(|r| r.segment < segment);
            runs.truncate(keep);
            !runs.is_empty()
        });
    }

    /// Forgets the runs of one partition.
    pub(crate) fn drop_partition(&mut self, partition: PartitionId) {
        self.partitions.remove(&partition);
    }
}
