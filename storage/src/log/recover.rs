//! Recovery: from whatever a crash left to a log that ends with a complete group.
//!
//! The segments are read in order. At every position the picture on the disk (what stands there,
//! whether the expected LSN was durable, what the next segment is) picks exactly one row of
//! [`super::recover_table::TABLE`]. Only what lies above the mark, or above what the state store has applied, is read;
//! the rest is taken from the index files. Running it again after a crash inside it is safe: it only
//! cuts, and it cuts the newest segment first.

use super::damage::Hole;
use super::idx_file::IndexFile;
use super::index::HotIndex;
use super::recover_holes::Behind;
use super::recover_table::{Next, Standing, Verdict, row_for};
use super::recover_tail::{Tail, segment};
use super::segment::Segment;
use super::{LogConfig, ShardLog};
use crate::disk::{Disk, DiskFile, Mapping, create_dir_durably};
use crate::error::Error;
use crate::layout;
use crate::mark::{Mark, MarkFound, MarkState};
use bytes::Bytes;
use flowstone_wire::limits::BATCH_BYTES_MAX;
use flowstone_wire::{BatchHeader, Epoch, Lsn, batch};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that recovery did and an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryNote {
    /// The mark file was lost; the state store's LSN was used instead.
    MarkLost,
    /// Bytes behind the last complete group were cut off.
    Cut {
        /// In this segment.
        path: PathBuf,
        /// From this position.
        position: u64,
        /// Before this LSN.
        lsn: Lsn,
    },
    /// A segment that was never durable was removed.
    Dropped {
        /// Its file.
        path: PathBuf,
    },
}

/// Read at once; a batch that starts in the front of it is whole.
const READ_AHEAD_BYTES: u64 = 4 * BATCH_BYTES_MAX as u64;

/// What recovery found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Letters of the rows that were used, in order, repeats of `a` left out.
    pub rows: String,
    /// What an operator may want to know.
    pub notes: Vec<RecoveryNote>,
    /// Bytes of segments that were read.
    pub scanned_bytes: u64,
    /// Durable batches that are lost.
    pub holes: Vec<Hole>,
}

/// A segment file that was found.
pub(super) struct FoundSegment {
    pub(super) first_lsn: Lsn,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

pub(super) struct Recovery<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    /// Everything up to here was durable for certain.
    pub(super) mark: Lsn,
    /// Everything up to here is in the state store and need not be visited.
    pub(super) applied: Lsn,
    /// Damage is taken as it is, whatever it costs.
    pub(super) accept_damage: bool,
    pub(super) found: Vec<FoundSegment>,
    index: HotIndex,
    pub(super) sealed: VecDeque<Segment>,
    pub(super) expected: Lsn,
    pub(super) epoch: Epoch,
    /// Batches of a group that is not complete yet, with their positions.
    pub(super) group: Vec<(BatchHeader, Bytes, u64)>,
    pub(super) result: Recovered,
    visit: &'a mut dyn FnMut(&BatchHeader, &Bytes),
}

impl ShardLog {
    /// Opens the log of a shard, recovering what a crash left, and starts a new epoch.
    ///
    /// `visit` is given every batch above `applied`, whole groups only, in order. It must not keep
    /// the bytes. On return everything in the log is durable and the mark says so.
    ///
    /// # Errors
    /// [`Error::Damaged`] where something durable above `applied` is missing; nothing was changed then.
    /// [`Error::DiskFull`] for the first segment of an empty shard, [`Error::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        config: LogConfig,
        applied: Lsn,
        visit: &mut dyn FnMut(&BatchHeader, &Bytes),
    ) -> Result<(Self, Mark, Recovered), Error> {
        Self::open_as(disk, shard_dir, config, (applied, false), visit)
    }

    /// As [`Self::open`], and goes on where something durable is missing, whatever was in it; see
    /// [`Recovered::holes`].
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn salvage(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        config: LogConfig,
        applied: Lsn,
        visit: &mut dyn FnMut(&BatchHeader, &Bytes),
    ) -> Result<(Self, Mark, Recovered), Error> {
        Self::open_as(disk, shard_dir, config, (applied, true), visit)
    }

    fn open_as(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        config: LogConfig,
        (applied, accept_damage): (Lsn, bool),
        visit: &mut dyn FnMut(&BatchHeader, &Bytes),
    ) -> Result<(Self, Mark, Recovered), Error> {
        let dir = layout::log_dir(shard_dir);
        create_dir_durably(&*disk, &dir).map_err(Error::io("create", &dir))?;
        let (mut mark, mark_found) = Mark::open(&*disk, &layout::mark(shard_dir))?;
        let state = mark.state();
        let found = find_segments(&*disk, &dir)?;
        let mut recovery = Recovery {
            disk: &*disk,
            dir: &dir,
            mark: state.durable.max(applied),
            applied,
            accept_damage,
            expected: found.first().map_or(applied.next(), |s| s.first_lsn),
            found,
            index: HotIndex::default(),
            sealed: VecDeque::new(),
            epoch: Epoch(0),
            group: Vec::new(),
            result: Recovered::default(),
            visit,
        };
        if mark_found == MarkFound::BothBad {
            recovery.result.notes.push(RecoveryNote::MarkLost);
        }
        let active = recovery.run(config)?;
        let epoch = Epoch(state.epoch.max(recovery.epoch).0.saturating_add(1));
        let Recovery {
            index,
            sealed,
            expected,
            result,
            ..
        } = recovery;
        let last = Lsn(expected.0 - 1);
        mark.store(MarkState {
            durable: last,
            epoch,
            starts: state.starts + 1,
            clean: false,
            ..state
        })?;
        let log = Self {
            disk,
            dir,
            config,
            sealed,
            staged_at: active.end,
            active,
            index,
            staged: Vec::new(),
            next_lsn: expected,
            written: last,
            durable: last,
            epoch,
            unsynced: Vec::new(),
            unsynced_dir: false,
            spare: None,
        };
        Ok((log, mark, result))
    }
}

fn find_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<FoundSegment>, Error> {
    let mut found = Vec::new();
    for name in disk.list(dir).map_err(Error::io("list", dir))? {
        let path = dir.join(&name);
        if [layout::SPARE, layout::SPARE_UNFINISHED, layout::CUT].contains(&&name[..]) {
            disk.remove(&path).map_err(Error::io("remove", &path))?;
        } else if let Some(first_lsn) = layout::parse_segment_name(&name) {
            let file = disk.open(&path).map_err(Error::io("open", &path))?;
            found.push(FoundSegment {
                first_lsn,
                path,
                file,
            });
        }
    }
    Ok(found)
}

impl Recovery<'_> {
    fn run(&mut self, config: LogConfig) -> Result<Segment, Error> {
        if self.found.is_empty() {
            return self.start_empty(config);
        }
        if self.expected > self.applied.next() {
            self.note_hole(Hole {
                path: self.found[0].path.clone(),
                position: 0,
                first_lsn: self.applied.next(),
                last_lsn: Lsn(self.expected.0 - 1),
                what: "the segments before it are gone".into(),
            })?;
        }
        let tail = self.scan()?;
        self.drop_later_segments(tail.segment)?;
        self.open_tail(&tail, config)
    }

    /// Reads the segments in order up to the end of the log.
    fn scan(&mut self) -> Result<Tail, Error> {
        for number in 0..self.found.len() {
            if self.take_index(number)? {
                continue;
            }
            if let Some(tail) = self.scan_segment(number)? {
                return Ok(tail);
            }
        }
        unreachable!("the last segment is always read, and reading it finds the end")
    }

    fn next_after(&self, number: usize) -> Next {
        match self.found.get(number + 1) {
            None => Next::None,
            Some(next) if next.first_lsn == self.expected => Next::Continues,
            Some(_) => Next::Gap,
        }
    }

    /// Takes a sealed segment from its index file, where that is allowed and enough.
    fn take_index(&mut self, number: usize) -> Result<bool, Error> {
        let found = &self.found[number];
        let Some(next) = self.found.get(number + 1) else {
            return Ok(false);
        };
        let last = Lsn(next.first_lsn.0.saturating_sub(1));
        if last > self.mark || last > self.applied {
            return Ok(false);
        }
        let path = self.dir.join(layout::index_name(found.first_lsn));
        let Some(index) = IndexFile::read(self.disk, &path) else {
            return Ok(false);
        };
        let len = found.file.len().unwrap_or(0);
        let fits = index.end <= len;
        if !fits || index.first_lsn != self.expected || index.next_lsn != next.first_lsn {
            return Ok(false);
        }
        for (partition, runs) in index.runs {
            for run in runs {
                self.index.add_run(partition, run);
            }
        }
        let sealed = segment(
            &found.path,
            found.file.clone(),
            found.first_lsn,
            index.next_lsn,
            index.end,
        )?;
        self.sealed.push_back(sealed);
        self.expected = index.next_lsn;
        Ok(true)
    }

    /// Reads one segment. Returns the end of the log if it is in here.
    fn scan_segment(&mut self, number: usize) -> Result<Option<Tail>, Error> {
        let found = &self.found[number];
        found
            .file
            .drop_cached()
            .map_err(Error::io("read", &found.path))?;
        let map = found.file.map().map_err(Error::io("map", &found.path))?;
        let len = found.file.len().map_err(Error::io("read", &found.path))?;
        let first = self.expected;
        let (mut at, mut read_upto) = (0, 0);
        loop {
            if at >= read_upto && at < len {
                // What the disk cannot give must be an error and no signal.
                let path = &self.found[number].path;
                let ahead = READ_AHEAD_BYTES.min(len - at);
                map.fetch(at, ahead).map_err(Error::io("read", path))?;
                read_upto = if at + ahead == len {
                    len
                } else {
                    at + ahead - BATCH_BYTES_MAX as u64
                };
            }
            let (standing, batch) = self.look(&map, at, len);
            let below = self.expected <= self.mark;
            let row = row_for(standing, below, self.next_after(number));
            self.note_row(row.letter);
            match (row.verdict, batch) {
                (Verdict::Accept, Ok((header, bytes))) => {
                    self.accept(header, bytes, at, first);
                    at += u64::from(header.size);
                }
                (Verdict::NextSegment, _) => {
                    // A group never goes beyond its segment.
                    self.close_group(first);
                    self.seal(number, first, self.expected, at)?;
                    return Ok(None);
                }
                (Verdict::Damaged | Verdict::Accept, batch) => {
                    let what = batch.err().unwrap_or_default();
                    let next = self.expected;
                    match self.skip_hole(number, &map, (at, len), what)? {
                        Behind::Batch(position) => at = position,
                        Behind::NextSegment => {
                            self.seal(number, first, next, at)?;
                            return Ok(None);
                        }
                        Behind::End => {
                            self.seal(number, first, next, at)?;
                            return Ok(Some(Tail {
                                segment: number,
                                position: at,
                                torn_off: true,
                            }));
                        }
                    }
                }
                (Verdict::End | Verdict::Cut, _) => {
                    self.result.scanned_bytes += at;
                    let cut = row.verdict == Verdict::Cut || !self.group.is_empty();
                    return Ok(Some(self.tail(number, at, cut)));
                }
            }
        }
    }

    fn seal(&mut self, number: usize, first: Lsn, next: Lsn, end: u64) -> Result<(), Error> {
        self.result.scanned_bytes += end;
        let found = &self.found[number];
        let sealed = segment(&found.path, found.file.clone(), first, next, end)?;
        self.sealed.push_back(sealed);
        Ok(())
    }

    /// What stands at a position; with the reason where it is not the expected batch.
    fn look(
        &self,
        map: &Mapping,
        at: u64,
        len: u64,
    ) -> (Standing, Result<(BatchHeader, Bytes), String>) {
        let header_bytes = batch::HEADER_BYTES as u64;
        let front = map.slice(at, header_bytes.min(len.saturating_sub(at)));
        if front.iter().all(|b| *b == 0) {
            // A group may not be left open at the end of a segment that another one follows.
            let standing = if self.group.is_empty() {
                Standing::Blank
            } else {
                Standing::Bad
            };
            return (standing, Err("there is nothing".into()));
        }
        let header = match BatchHeader::decode(&front) {
            Ok(header) => header,
            Err(e) => return (Standing::Bad, Err(e.to_string())),
        };
        let bytes = map.slice(at, u64::from(header.size).min(len - at));
        match batch::verify(&bytes) {
            Err(e) => (Standing::Bad, Err(e.to_string())),
            Ok(h) if h.lsn != self.expected => {
                (Standing::Stale, Err(format!("LSN {} stands there", h.lsn)))
            }
            Ok(h) if h.epoch < self.epoch => (
                Standing::Stale,
                Err(format!("epoch {} stands there", h.epoch)),
            ),
            Ok(h) => (Standing::Valid, Ok((h, bytes))),
        }
    }

    fn accept(&mut self, header: BatchHeader, bytes: Bytes, at: u64, segment: Lsn) {
        self.epoch = header.epoch;
        self.expected = header.lsn.next();
        self.group.push((header, bytes, at));
        if !header.group_continues() {
            self.close_group(segment);
        }
    }

    /// Takes in the batches of the group, all of them.
    pub(super) fn close_group(&mut self, segment: Lsn) {
        for (header, bytes, at) in self.group.drain(..) {
            self.index.add(&header, segment, at);
            if header.lsn > self.applied {
                (self.visit)(&header, &bytes);
            }
        }
    }

    fn note_row(&mut self, letter: char) {
        if !(letter == 'a' && self.result.rows.ends_with('a')) {
            self.result.rows.push(letter);
        }
    }
}
