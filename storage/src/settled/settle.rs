//! Settling: sealed segments of the shard log, rewritten into one file per partition.
//!
//! The job is a state machine whose steps each write about one block, so that its driver can hold it
//! to a rate. Nothing counts before the manifest is committed: a crash leaves files that
//! [`remove_orphans`] removes and the next run writes again.

use super::{SegmentId, SettledMeta, SettledWriter};
use crate::disk::{Disk, Mapping, SyncPoint, list_or_nothing, remove_if_there};
use crate::error::Error;
use crate::layout;
use crate::log::damage::{batch_at, keep, next_batch};
use crate::log::{LostOffsets, Run, SegmentInfo};
use crate::state::StateStore;
use flowstone_wire::{BatchHeader, Lsn, Offset, PartitionId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A sealed segment and its runs, by partition.
pub type SegmentRuns = (SegmentInfo, Vec<(PartitionId, Vec<Run>)>);

/// What is to be settled.
#[derive(Debug)]
pub struct SettleInput {
    /// Sealed segments, oldest first, contiguous, with their runs.
    pub segments: Vec<SegmentRuns>,
    /// Partitions to keep and the first offset of each that is still wanted. What is not named is
    /// dropped: deleted topics, and the shard's own control records.
    pub keep: BTreeMap<PartitionId, Offset>,
    /// Whether plain batches are compressed.
    pub compress: bool,
    /// What must stay free on the disk, in bytes.
    pub min_free_bytes: u64,
    /// The log has grown far beyond what is to be hot: no rate is to be kept.
    pub hurry: bool,
}

/// How far a job is.
#[derive(Debug)]
pub enum SettleStep {
    /// So many bytes of the log were read in this step; there is more.
    More(u64),
    /// Everything is written and durable; commit these and this LSN.
    Done(Vec<SettledMeta>, Lsn),
}

/// Files that are made durable together: each alone costs three syncs, which thousands of partitions
/// would ask of the disk for every segment of the log.
const FILES_PER_SYNC: usize = 256;
/// Bytes of such files: a sync should not take the disk for long.
const BYTES_PER_SYNC: u64 = 32 << 20;

/// A run of one partition and the mapping it points into.
type Piece = (Mapping, PathBuf, Run);

/// Settling in progress.
#[derive(Debug)]
pub struct SettleJob {
    disk: Arc<dyn Disk>,
    shard_dir: PathBuf,
    compress: bool,
    hurry: bool,
    upto: Lsn,
    /// What is left, by partition, last piece first.
    left: Vec<(PartitionId, Offset, Vec<Piece>)>,
    writer: Option<SettledWriter>,
    /// Offset behind the last batch of the partition that is being copied.
    next: Option<Offset>,
    done: Vec<SettledMeta>,
    lost: Vec<LostOffsets>,
    /// Taken before the first file was made; `None` where each file is synced by itself.
    sync_point: Option<Box<dyn SyncPoint>>,
    /// Files, and their bytes, that are not durable yet.
    unsynced: (usize, u64),
    /// Bytes that must be free before anything is written.
    needs_bytes: Option<u64>,
}

impl SettleJob {
    /// A job over these segments. Nothing is read or written yet.
    pub fn new(disk: Arc<dyn Disk>, shard_dir: &Path, input: SettleInput) -> Self {
        let upto = input
            .segments
            .last()
            .map_or(Lsn(0), |(s, _)| Lsn(s.next_lsn.0 - 1));
        let mut by_partition: BTreeMap<PartitionId, Vec<Piece>> = BTreeMap::new();
        for (segment, runs) in input.segments.into_iter().rev() {
            for (partition, runs) in runs {
                let pieces = by_partition.entry(partition).or_default();
                let piece = |run| (segment.map.clone(), segment.path.clone(), run);
                pieces.extend(runs.into_iter().rev().map(piece));
            }
        }
        let keep = |(p, pieces)| Some((p, *input.keep.get(&p)?, pieces));
        Self {
            disk,
            shard_dir: shard_dir.into(),
            compress: input.compress,
            hurry: input.hurry,
            upto,
            left: by_partition.into_iter().filter_map(keep).collect(),
            writer: None,
            next: None,
            done: Vec::new(),
            lost: Vec::new(),
            sync_point: None,
            unsynced: (0, 0),
            needs_bytes: Some(input.min_free_bytes),
        }
    }

    /// Does the next piece of work.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`]; the job is over then, and the log still has everything: see
    /// [`Self::abandon`]. A batch that is damaged is
    /// left out and a copy of its bytes kept, see [`Self::lost`].
    pub fn step(&mut self) -> Result<SettleStep, Error> {
        if let Some(min_free) = self.needs_bytes.take() {
            let pieces = self.left.iter().flat_map(|(_, _, pieces)| pieces);
            let bytes: u64 = pieces.map(|(_, _, run)| u64::from(run.bytes)).sum();
            check_room(&*self.disk, &self.shard_dir, bytes + min_free)?;
            let point = self.disk.sync_point(&layout::settled_root(&self.shard_dir));
            self.sync_point = point.map_err(Error::io("open", &self.shard_dir))?;
        }
        let (files, bytes) = self.unsynced;
        let much = files >= FILES_PER_SYNC || bytes >= BYTES_PER_SYNC;
        // Not while a file is open: its rest would not be covered.
        if self.writer.is_none() && files > 0 && (much || self.left.is_empty()) {
            self.sync()?;
            return Ok(SettleStep::More(0));
        }
        let Some((partition, start, pieces)) = self.left.last_mut() else {
            return Ok(SettleStep::Done(std::mem::take(&mut self.done), self.upto));
        };
        let (partition, start) = (*partition, *start);
        match pieces.pop() {
            Some(piece) => {
                let bytes = u64::from(piece.2.bytes);
                self.copy(partition, start, &piece)?;
                Ok(SettleStep::More(bytes))
            }
            None => {
                self.left.pop();
                self.finish_file()?;
                self.next = None;
                Ok(SettleStep::More(0))
            }
        }
    }

    fn copy(&mut self, partition: PartitionId, start: Offset, piece: &Piece) -> Result<(), Error> {
        let (map, path, run) = piece;
        let end = run.position + u64::from(run.bytes);
        map.fetch(run.position, u64::from(run.bytes))
            .map_err(Error::io("read", path))?;
        let mut at = run.position;
        while at < end {
            let expected = self.next;
            let follows = |h: &BatchHeader| {
                h.partition == partition && expected.is_none_or(|next| h.base_offset >= next)
            };
            let Some(header) = batch_at(map, at, end).filter(follows) else {
                at = self.skip_damage(partition, piece, at)?;
                continue;
            };
            if expected.is_some_and(|next| header.base_offset > next) {
                // A gap that is in no file shows that something is lost.
                self.finish_file()?;
            }
            self.next = Some(header.next_offset());
            if header.next_offset() > start {
                let bytes = map.slice(at, u64::from(header.size));
                self.writer(partition, header.base_offset)?
                    .push(&header, &bytes)?;
            }
            at += u64::from(header.size);
        }
        Ok(())
    }

    fn writer(
        &mut self,
        partition: PartitionId,
        first: Offset,
    ) -> Result<&mut SettledWriter, Error> {
        if self.writer.is_none() {
            let disk = self.disk.clone();
            let (dir, compress) = (&self.shard_dir, self.compress);
            let id = SegmentId {
                partition,
                first_offset: first,
                generation: 0,
            };
            self.writer = Some(SettledWriter::create(disk, dir, id, compress)?);
        }
        Ok(self.writer.as_mut().expect("it was just made"))
    }

    fn finish_file(&mut self) -> Result<(), Error> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let meta = if self.sync_point.is_some() {
            let meta = writer.finish_unsynced()?;
            self.unsynced.0 += 1;
            self.unsynced.1 += meta.bytes;
            meta
        } else {
            writer.finish()?
        };
        self.done.push(meta);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        if let Some(point) = &self.sync_point {
            point.sync().map_err(Error::io("sync", &self.shard_dir))?;
        }
        self.unsynced = (0, 0);
        Ok(())
    }

    /// Keeps a copy of damaged bytes and gives the position behind them.
    fn skip_damage(
        &mut self,
        partition: PartitionId,
        (map, path, run): &Piece,
        at: u64,
    ) -> Result<u64, Error> {
        let end = run.position + u64::from(run.bytes);
        let from = self.next.unwrap_or(run.base_offset);
        let wanted = |h: &BatchHeader| h.partition == partition && h.base_offset >= from;
        let behind = next_batch(map, at, end, wanted);
        let position = behind.map_or(end, |(position, _)| position);
        let name = layout::damaged_name(run.segment, at);
        keep(&*self.disk, &self.shard_dir, &name, map, (at, position))
            .map_err(Error::io("keep a copy of", path))?;
        self.lost.push(LostOffsets {
            partition,
            from,
            to: behind.map_or(run.next_offset, |(_, h)| h.base_offset),
            what: format!("'{}' at byte {at}, kept as '{name}'", path.display()),
        });
        self.finish_file()?;
        self.next = None;
        Ok(position)
    }

    /// Removes what was written: the job failed.
    pub fn abandon(self) {
        abandon(&*self.disk, &self.shard_dir, self.writer, &self.done);
    }

    /// Whether it should be done as fast as it can be.
    pub fn hurries(&self) -> bool {
        self.hurry
    }

    /// What could not be carried over so far.
    pub fn lost(&self) -> &[LostOffsets] {
        &self.lost
    }
}

/// Whether so many bytes are free.
pub(super) fn check_room(disk: &dyn Disk, dir: &Path, needed_bytes: u64) -> Result<(), Error> {
    let free_bytes = disk.free_bytes().map_err(Error::io("look at", dir))?;
    if free_bytes < needed_bytes {
        return Err(Error::DiskFull {
            free_bytes,
            needed_bytes,
        });
    }
    Ok(())
}

/// Removes the files of a job that failed; what cannot be removed is found by the next start.
pub(super) fn abandon(
    disk: &dyn Disk,
    shard_dir: &Path,
    writer: Option<SettledWriter>,
    done: &[SettledMeta],
) {
    if let Some(writer) = writer {
        let _ = remove_if_there(disk, writer.unfinished());
    }
    for meta in done {
        let _ = remove_if_there(disk, &layout::settled_path(shard_dir, meta.id()));
    }
}

/// Removes files of settled segments that the manifest does not know, or knows to be in the tier only.
/// They are copies of what the log or the tier has: the manifest is committed before those let go.
///
/// # Errors
/// [`Error::Io`], [`Error::State`].
pub fn remove_orphans(
    disk: &dyn Disk,
    shard_dir: &Path,
    state: &StateStore,
) -> Result<Vec<PathBuf>, Error> {
    let tiered = state.tiered()?;
    let gone: BTreeSet<SegmentId> = tiered
        .into_iter()
        .filter(|(_, t)| !t.local)
        .map(|(id, _)| id)
        .collect();
    let settled = state.settled()?;
    let known: BTreeSet<PathBuf> = settled
        .iter()
        .filter(|m| !gone.contains(&m.id()))
        .map(|m| layout::settled_path(shard_dir, m.id()))
        .collect();
    let root = layout::settled_root(shard_dir);
    let mut removed = Vec::new();
    for dir in list_or_nothing(disk, &root)? {
        let dir = root.join(dir);
        for name in list_or_nothing(disk, &dir)? {
            let path = dir.join(&name);
            if !known.contains(&path) {
                disk.remove(&path).map_err(Error::io("remove", &path))?;
                removed.push(path);
            }
        }
    }
    Ok(removed)
}
