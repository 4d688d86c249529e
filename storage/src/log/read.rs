//! Reading: from an offset to slices of the mapping, adjacent ones merged.

use super::index::Run;
use super::{SegmentInfo, ShardLog};
use crate::layout;
use bytes::Bytes;
use flowstone_wire::{BatchHeader, Lsn, Offset, PartitionId, batch};
use std::path::PathBuf;

/// How much a read may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// At most so many bytes; the first batch is given whatever its size.
    pub max_bytes: usize,
    /// No batch behind this LSN.
    pub upto: Lsn,
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Whole batches, back to back, in order of their offsets.
    pub slices: Vec<Bytes>,
    /// Offset behind the last record; where nothing was found, the offset that was asked for.
    pub next_offset: Offset,
    /// LSN of the first batch, 0 if there is none.
    pub first_lsn: Lsn,
}

impl Found {
    /// Bytes of all slices.
    pub fn len(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}

/// A stretch of a segment that is being put together.
struct Stretch {
    segment: Lsn,
    start: u64,
    end: u64,
}

impl ShardLog {
    /// Reads whole batches of a partition, from the one that holds `offset`.
    ///
    /// The slices point into the mapping; nothing is copied, and checksums are the reader's to check.
    pub fn read(&self, partition: PartitionId, offset: Offset, limits: ReadLimits) -> Found {
        let mut found = Found {
            next_offset: offset,
            ..Found::default()
        };
        let mut stretch: Option<Stretch> = None;
        let mut left = limits.max_bytes as u64;
        for run in self.index.from(partition, offset) {
            if run.first_lsn > limits.upto || (left == 0 && stretch.is_some()) {
                break;
            }
            let Some((start, end, next)) =
                self.part_of(run, offset, limits, left, stretch.is_none())
            else {
                break;
            };
            if found.first_lsn.0 == 0 {
                found.first_lsn = run.first_lsn;
            }
            found.next_offset = next;
            left = left.saturating_sub(end - start);
            match &mut stretch {
                Some(s) if s.segment == run.segment && s.end == start => s.end = end,
                _ => {
                    self.push(&mut found, stretch.take());
                    stretch = Some(Stretch {
                        segment: run.segment,
                        start,
                        end,
                    });
                }
            }
            if end < run.position + u64::from(run.bytes) {
                break;
            }
        }
        self.push(&mut found, stretch);
        found
    }

    fn push(&self, found: &mut Found, stretch: Option<Stretch>) {
        let Some(s) = stretch else { return };
        if let Some(segment) = self.segment_at(s.segment) {
            found
                .slices
                .push(segment.map.slice(s.start, s.end - s.start));
        }
    }

    /// The part of a run that is asked for, as start, end and the offset behind it; `None` if not even
    /// its first batch may be given. A run that is wanted whole is not looked into.
    fn part_of(
        &self,
        run: &Run,
        offset: Offset,
        limits: ReadLimits,
        left: u64,
        is_first: bool,
    ) -> Option<(u64, u64, Offset)> {
        let whole_end = run.position + u64::from(run.bytes);
        let from_start = offset <= run.base_offset;
        let visible = Lsn(run.next_lsn.0 - 1) <= limits.upto;
        if from_start && visible && u64::from(run.bytes) <= left {
            return Some((run.position, whole_end, run.next_offset));
        }
        let map = &self.segment_at(run.segment)?.map;
        let (mut at, mut start, mut result) = (run.position, None, None);
        while at < whole_end {
            let header = BatchHeader::decode(&map.slice(at, HEADER)).ok()?;
            let end = at + u64::from(header.size);
            if header.lsn > limits.upto {
                break;
            }
            if header.next_offset() > offset {
                let start = *start.get_or_insert(at);
                if end - start > left && !(is_first && start == at) {
                    break;
                }
                result = Some((start, end, header.next_offset()));
            }
            at = end;
        }
        result
    }

    fn segment_at(&self, first_lsn: Lsn) -> Option<&super::Segment> {
        if self.active.first_lsn == first_lsn {
            return Some(&self.active);
        }
        let at = self
            .sealed
            .binary_search_by_key(&first_lsn, |s| s.first_lsn)
            .ok()?;
        self.sealed.get(at)
    }

    /// The offset of the first record at or after `timestamp` in the hot log, looking no further than
    /// `upto`.
    pub fn find_time(&self, partition: PartitionId, timestamp: i64, upto: Lsn) -> Option<Offset> {
        let hit = |r: &&Run| r.max_timestamp >= timestamp && r.first_lsn <= upto;
        let run = self.index.runs(partition).find(hit)?;
        let map = &self.segment_at(run.segment)?.map;
        batch::find_time(&map.slice(run.position, u64::from(run.bytes)), timestamp)
    }

    /// The first offset of a partition in the hot log.
    pub fn hot_start(&self, partition: PartitionId) -> Option<Offset> {
        self.index.runs(partition).next().map(|r| r.base_offset)
    }

    /// The runs of a partition in the hot log, oldest first.
    pub fn hot_runs(&self, partition: PartitionId) -> impl Iterator<Item = &Run> {
        self.index.runs(partition)
    }

    /// The runs that a settler needs for one sealed segment.
    pub fn runs_of(&self, segment: &SegmentInfo) -> Vec<(PartitionId, Vec<Run>)> {
        self.index.of_segment(segment.first_lsn)
    }

    /// Forgets a deleted partition. Its bytes go with their segments.
    pub fn forget_partition(&mut self, partition: PartitionId) {
        self.index.drop_partition(partition);
    }

    /// Takes the sealed segments that end at or before `upto` out of the log and returns their files,
    /// oldest first, to be removed in this order. Slices given out stay valid.
    pub fn release(&mut self, upto: Lsn) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        while self
            .sealed
            .front()
            .is_some_and(|s| s.next_lsn.0 <= upto.0 + 1)
        {
            let Some(gone) = self.sealed.pop_front() else {
                break;
            };
            paths.push(self.dir.join(layout::index_name(gone.first_lsn)));
            paths.push(self.dir.join(layout::segment_name(gone.first_lsn)));
        }
        let first = self.sealed.front().unwrap_or(&self.active).first_lsn;
        self.index.drop_before(first);
        paths
    }
}

const HEADER: u64 = flowstone_wire::batch::HEADER_BYTES as u64;
