//! Settling: sealed segments of the shard log, rewritten into one file per partition.
//!
//! The job is a state machine whose steps each write about one block, so that its driver can hold it
//! to a rate. Nothing counts before the manifest is committed: a crash leaves files that
//! [`remove_orphans`] removes and the next run writes again.

use super::{SettledMeta, SettledWriter};
use crate::disk::{Disk, Mapping, list_or_nothing};
use crate::error::Error;
use crate::layout;
use crate::log::{Run, SegmentInfo};
use crate::state::StateStore;
use flowstone_wire::{Lsn, Offset, PartitionId, batch};
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
}

/// How far a job is.
#[derive(Debug)]
pub enum SettleStep {
    /// So many bytes of the log were read in this step; there is more.
    More(u64),
    /// Everything is written and durable; commit these and this LSN.
    Done(Vec<SettledMeta>, Lsn),
}

/// A run of one partition and the mapping it points into.
type Piece = (Mapping, PathBuf, Run);

/// Settling in progress.
#[derive(Debug)]
pub struct SettleJob {
    disk: Arc<dyn Disk>,
    shard_dir: PathBuf,
    compress: bool,
    upto: Lsn,
    /// What is left, by partition, last piece first.
    left: Vec<(PartitionId, Offset, Vec<Piece>)>,
    writer: Option<SettledWriter>,
    done: Vec<SettledMeta>,
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
            upto,
            left: by_partition.into_iter().filter_map(keep).collect(),
            writer: None,
            done: Vec::new(),
        }
    }

    /// Does the next piece of work.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] for a batch whose checksum fails: it is not carried over
    /// silently. The job is over then; the log still has everything.
    pub fn step(&mut self) -> Result<SettleStep, Error> {
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
                if let Some(writer) = self.writer.take() {
                    self.done.push(writer.finish()?);
                }
                Ok(SettleStep::More(0))
            }
        }
    }

    fn copy(&mut self, partition: PartitionId, start: Offset, piece: &Piece) -> Result<(), Error> {
        let (map, path, run) = piece;
        let bytes = map.slice(run.position, u64::from(run.bytes));
        let mut at = 0;
        while at < bytes.len() {
            let header = batch::verify(&bytes[at..]).map_err(|e| Error::Damaged {
                path: path.clone(),
                position: run.position + at as u64,
                lsn: run.first_lsn,
                what: e.to_string(),
            })?;
            let end = at + header.size as usize;
            if header.next_offset() > start {
                if self.writer.is_none() {
                    let disk = self.disk.clone();
                    self.writer = Some(SettledWriter::create(
                        disk,
                        &self.shard_dir,
                        partition,
                        header.base_offset,
                        self.compress,
                    )?);
                }
                let writer = self.writer.as_mut().expect("it was just made");
                writer.push(&header, &bytes[at..end])?;
            }
            at = end;
        }
        Ok(())
    }
}

/// Removes files of settled segments that the manifest does not know. They are copies of what the
/// log still has: the manifest is committed before the log lets go.
///
/// # Errors
/// [`Error::Io`], [`Error::State`].
pub fn remove_orphans(
    disk: &dyn Disk,
    shard_dir: &Path,
    state: &StateStore,
) -> Result<Vec<PathBuf>, Error> {
    let known: BTreeSet<PathBuf> = state
        .settled()?
        .iter()
        .map(|m| {
            let dir = layout::settled_dir(shard_dir, m.partition);
            dir.join(layout::settled_name(m.first_offset))
        })
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
