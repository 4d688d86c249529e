//! A snapshot of a shard: its state store, its settled segments, and what of the log is in the one and not
//! in the others, in parts, for a replica whose log begins too late or too early to go on with.
//!
//! ```text
//! Begin, State*, Settled*, Tiered*, (File, Bytes*)*, Log*, End
//! ```
//! The parts are put together in `incoming/`, beside what the shard has. [`install`] puts it in its place; a
//! crash in the middle is gone on with at the next start.

mod incoming;
mod install;
mod tail;

pub use incoming::Incoming;
pub use install::{finish_install, install};
pub use tail::TailPiece;

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::layout;
use crate::settled::{SegmentId, SettledMeta, Tiered};
use crate::state::{Pair, StatePicture, StateStore};
use flowstone_wire::{Epoch, Lsn};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a part, about.
pub const PART_BYTES: usize = 1 << 20;
/// Settled segments named in a part.
const METAS_OF_PART: usize = 8192;

/// A part of a snapshot. The order of the variants is the format: new ones go last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// How far it goes.
    Begin {
        /// The last LSN that the state has taken in.
        applied: Lsn,
        /// Up to here the log is settled.
        settled_upto: Lsn,
    },
    /// Keys and values of the state.
    State(Vec<Pair>),
    /// Settled segments.
    Settled(Vec<SettledMeta>),
    /// Copies in the tier.
    Tiered(Vec<(SegmentId, Tiered)>),
    /// A file begins.
    File {
        /// Of this segment.
        id: SegmentId,
        /// Its length.
        bytes: u64,
    },
    /// The next bytes of the file.
    Bytes(Vec<u8>),
    /// That was all.
    End,
    /// Whole groups of the log, of one epoch, from the first LSN to the last one.
    Log {
        /// Their epoch.
        epoch: Epoch,
        /// The first LSN.
        first: Lsn,
        /// The last LSN.
        last: Lsn,
        /// Their bytes.
        bytes: Vec<u8>,
    },
}

/// A snapshot that is being read.
#[derive(Debug)]
pub struct Outgoing {
    disk: Arc<dyn Disk>,
    shard_dir: PathBuf,
    picture: StatePicture,
    stage: Stage,
    files: VecDeque<SettledMeta>,
    file: Option<(Arc<dyn DiskFile>, PathBuf, u64, u64)>,
    tail: VecDeque<TailPiece>,
}

#[derive(Debug)]
enum Stage {
    Begin,
    State(Option<Vec<u8>>),
    Settled(VecDeque<SettledMeta>),
    Tiered(VecDeque<(SegmentId, Tiered)>),
    Files,
    Log,
    Over,
}

impl Outgoing {
    /// Begins a snapshot of what the store says now; it must stay open until the last part was read. `tail`
    /// is the log from what is settled on to at least what the store has taken in.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn begin(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        state: &StateStore,
        tail: Vec<TailPiece>,
    ) -> Result<Self, Error> {
        Ok(Self {
            disk,
            shard_dir: shard_dir.into(),
            picture: state.picture()?,
            stage: Stage::Begin,
            files: VecDeque::new(),
            file: None,
            tail: tail.into(),
        })
    }

    /// What the state says, as it is sent.
    pub fn picture(&self) -> &StatePicture {
        &self.picture
    }

    /// The next part; `None` behind the end.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Io`]: also where a segment was replaced since. Then the snapshot is of
    /// no use, and another one is.
    pub fn next_part(&mut self) -> Result<Option<Part>, Error> {
        loop {
            match &mut self.stage {
                Stage::Begin => {
                    let (applied, settled_upto) = self.picture.reach()?;
                    self.stage = Stage::State(None);
                    return Ok(Some(Part::Begin {
                        applied,
                        settled_upto,
                    }));
                }
                Stage::State(last) => {
                    let rows = self.picture.rows_behind(last.as_deref(), PART_BYTES)?;
                    if let Some((key, _)) = rows.last() {
                        self.stage = Stage::State(Some(key.clone()));
                        return Ok(Some(Part::State(rows)));
                    }
                    self.stage = Stage::Settled(self.picture.settled()?.into());
                }
                Stage::Settled(metas) if !metas.is_empty() => {
                    let count = metas.len().min(METAS_OF_PART);
                    let part: Vec<_> = metas.drain(..count).collect();
                    self.files.extend(part.iter().cloned());
                    return Ok(Some(Part::Settled(part)));
                }
                Stage::Settled(_) => {
                    let tiered = self.picture.tiered()?;
                    let remote = tiered.iter().filter(|(_, t)| !t.local).map(|(id, _)| *id);
                    let remote: BTreeSet<SegmentId> = remote.collect();
                    self.files.retain(|m| !remote.contains(&m.id()));
                    self.stage = Stage::Tiered(tiered.into());
                }
                Stage::Tiered(rows) if !rows.is_empty() => {
                    let count = rows.len().min(METAS_OF_PART);
                    return Ok(Some(Part::Tiered(rows.drain(..count).collect())));
                }
                Stage::Tiered(_) => self.stage = Stage::Files,
                Stage::Files => match self.next_of_file()? {
                    Some(part) => return Ok(Some(part)),
                    None => {
                        // More may be settled and taken in by now.
                        let (applied, settled_upto) = self.picture.reach()?;
                        let has_both = applied.min(settled_upto);
                        self.tail.retain(|piece| piece.last > has_both);
                        self.stage = Stage::Log;
                    }
                },
                Stage::Log => match self.tail.pop_front() {
                    Some(piece) => return Ok(Some(part_of(piece))),
                    None => {
                        self.stage = Stage::Over;
                        return Ok(Some(Part::End));
                    }
                },
                Stage::Over => return Ok(None),
            }
        }
    }

    fn next_of_file(&mut self) -> Result<Option<Part>, Error> {
        if let Some((file, path, at, len)) = &mut self.file
            && at < len
        {
            let mut bytes = vec![0; (*len - *at).min(PART_BYTES as u64) as usize];
            file.read_at(*at, &mut bytes)
                .map_err(Error::io("read", path))?;
            *at += bytes.len() as u64;
            return Ok(Some(Part::Bytes(bytes)));
        }
        self.file = None;
        let Some(meta) = self.files.pop_front() else {
            return Ok(None);
        };
        let path = layout::settled_path(&self.shard_dir, meta.id());
        let file = self.disk.open(&path).map_err(Error::io("open", &path))?;
        let len = file.len().map_err(Error::io("read", &path))?;
        self.file = Some((file, path, 0, len));
        let (id, bytes) = (meta.id(), len);
        Ok(Some(Part::File { id, bytes }))
    }
}

fn part_of(piece: TailPiece) -> Part {
    Part::Log {
        epoch: piece.epoch,
        first: piece.first,
        last: piece.last,
        bytes: piece.bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests;
