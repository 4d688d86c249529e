//! Reading: from an offset to slices of the mapping, adjacent ones merged.

use super::damage::{LostOffsets, next_batch};
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
    /// Whole batches, back to back, in order of their offsets without a gap, their checksums proven.
    pub slices: Vec<Bytes>,
    /// Offset behind the last record; where nothing was found, the offset that was asked for.
    pub next_offset: Offset,
    /// LSN of the first batch, 0 if there is none.
    pub first_lsn: Lsn,
    /// Where nothing was found because of it: what is damaged at the offset that was asked for.
    pub lost: Option<LostOffsets>,
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

/// A stretch of a segment, whole batches of one partition as the index has it.
#[derive(Clone, Copy)]
struct Stretch {
    segment: Lsn,
    start: u64,
    end: u64,
    next_offset: Offset,
}

impl ShardLog {
    /// Reads whole batches of a partition, from the one that holds `offset`.
    ///
    /// The slices point into the mapping; nothing is copied. They end where something is damaged.
    pub fn read(&self, partition: PartitionId, offset: Offset, limits: ReadLimits) -> Found {
        let mut found = Found {
            next_offset: offset,
            ..Found::default()
        };
        let stretches = self.stretches(partition, offset, limits, &mut found.lost);
        for stretch in stretches {
            if !self.prove(partition, stretch, limits.upto, &mut found) {
                break;
            }
        }
        if found.is_empty() {
            found.next_offset = offset;
        } else {
            found.lost = None;
        }
        found
    }

    /// What is to be read, adjacent runs put together, up to the first gap; a gap at the start is lost.
    fn stretches(
        &self,
        partition: PartitionId,
        offset: Offset,
        limits: ReadLimits,
        lost: &mut Option<LostOffsets>,
    ) -> Vec<Stretch> {
        let mut all: Vec<Stretch> = Vec::new();
        let (mut left, mut next) = (limits.max_bytes as u64, offset);
        for run in self.index.from(partition, offset) {
            if run.first_lsn > limits.upto || (left == 0 && !all.is_empty()) {
                break;
            }
            if run.base_offset > next {
                *lost = Some(LostOffsets {
                    partition,
                    from: next,
                    to: run.base_offset,
                    what: format!("the log goes on with LSN {}", run.first_lsn),
                });
                break;
            }
            let Some(part) = self.part_of(run, offset, limits, left, all.is_empty()) else {
                break;
            };
            left = left.saturating_sub(part.end - part.start);
            next = part.next_offset;
            match all.last_mut() {
                Some(s) if s.segment == part.segment && s.end == part.start => {
                    (s.end, s.next_offset) = (part.end, part.next_offset);
                }
                _ => all.push(part),
            }
            if part.end < run.position + u64::from(run.bytes) {
                break;
            }
        }
        all
    }

    /// Adds the batches of a stretch, each proven. Returns whether all of it was taken.
    fn prove(
        &self,
        partition: PartitionId,
        stretch: Stretch,
        upto: Lsn,
        found: &mut Found,
    ) -> bool {
        let Some(segment) = self.segment_at(stretch.segment) else {
            return false;
        };
        let len = stretch.end - stretch.start;
        let bytes = match segment.map.fetch(stretch.start, len) {
            Ok(bytes) => bytes,
            Err(e) => {
                let path = self.dir.join(layout::segment_name(stretch.segment));
                found.lost = Some(LostOffsets {
                    partition,
                    from: found.next_offset,
                    to: stretch.next_offset,
                    what: format!("'{}' cannot be read: {e}", path.display()),
                });
                return false;
            }
        };
        let (mut start, mut at) = (0, 0);
        let mut whole = true;
        while at < bytes.len() || bytes.is_empty() {
            let header = match batch::verify(&bytes[at..]) {
                Ok(h) if h.lsn > upto => {
                    whole = false;
                    break;
                }
                Ok(h) if h.partition == partition && h.base_offset <= found.next_offset => h,
                other => {
                    let what = other.map_or_else(|e| e.to_string(), |h| format!("LSN {}", h.lsn));
                    let again = self.behind_damage(partition, stretch, at, found, what);
                    match again.filter(|_| at == start && found.is_empty()) {
                        Some(position) => {
                            (start, at) = (position, position);
                            continue;
                        }
                        None => {
                            whole = false;
                            break;
                        }
                    }
                }
            };
            if found.first_lsn.0 == 0 {
                found.first_lsn = header.lsn;
            }
            found.next_offset = header.next_offset();
            at += header.size as usize;
        }
        if at > start {
            found.slices.push(bytes.slice(start..at));
        }
        whole
    }

    /// Looks behind damage in a stretch: gives the position of the batch that holds the wanted offset,
    /// where it is there after all, and else notes what is lost.
    fn behind_damage(
        &self,
        partition: PartitionId,
        stretch: Stretch,
        at: usize,
        found: &mut Found,
        what: String,
    ) -> Option<usize> {
        let from = found.next_offset;
        let wanted = |h: &BatchHeader| h.partition == partition && h.next_offset() > from;
        let position = stretch.start + at as u64;
        let map = &self.segment_at(stretch.segment)?.map;
        let next = next_batch(map, position, stretch.end, wanted);
        if let Some((position, header)) = &next
            && header.base_offset <= from
        {
            return Some((position - stretch.start) as usize);
        }
        let path = self.dir.join(layout::segment_name(stretch.segment));
        found.lost = Some(LostOffsets {
            partition,
            from,
            to: next.map_or(stretch.next_offset, |(_, h)| h.base_offset),
            what: format!("'{}' at byte {position}: {what}", path.display()),
        });
        None
    }

    /// The part of a run that is asked for; `None` if not even its first batch may be given. A run that
    /// is wanted whole is not looked into.
    fn part_of(
        &self,
        run: &Run,
        offset: Offset,
        limits: ReadLimits,
        left: u64,
        is_first: bool,
    ) -> Option<Stretch> {
        let whole_end = run.position + u64::from(run.bytes);
        let part = |start, end, next_offset| Stretch {
            segment: run.segment,
            start,
            end,
            next_offset,
        };
        let from_start = offset <= run.base_offset;
        let visible = Lsn(run.next_lsn.0 - 1) <= limits.upto;
        if from_start && visible && u64::from(run.bytes) <= left {
            return Some(part(run.position, whole_end, run.next_offset));
        }
        let map = &self.segment_at(run.segment)?.map;
        if map.fetch(run.position, u64::from(run.bytes)).is_err() {
            // Whoever proves it says so.
            return Some(part(run.position, whole_end, run.next_offset));
        }
        let (mut at, mut start, mut result) = (run.position, None, None);
        while at < whole_end {
            let header = BatchHeader::decode(&map.slice(at, HEADER)).ok();
            let header = header.filter(|h| at + u64::from(h.size) <= whole_end);
            let Some(header) = header else {
                // Damaged: whoever proves it finds out where it goes on.
                return Some(part(start.unwrap_or(at), whole_end, run.next_offset));
            };
            let end = at + u64::from(header.size);
            if header.lsn > limits.upto {
                break;
            }
            if header.next_offset() > offset {
                let start = *start.get_or_insert(at);
                if end - start > left && !(is_first && start == at) {
                    break;
                }
                result = Some(part(start, end, header.next_offset()));
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
        match map.fetch(run.position, u64::from(run.bytes)) {
            Ok(bytes) => batch::find_time(&bytes, timestamp),
            // It is somewhere in there, and who reads there is told what is wrong.
            Err(_) => Some(run.base_offset),
        }
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
