//! The shard log: the batches of all partitions of a shard, in the order they happened.
//!
//! One writer owns a [`ShardLog`]. A batch is staged by [`ShardLog::append`], reaches the page cache
//! by [`ShardLog::flush`] and the disk by a [`SyncJob`]. Readers get slices of the mapping.
//!
//! ```text
//! staged --flush--> written --sync job--> durable
//! ```

mod append;
mod copy;
mod cut;
pub(crate) mod damage;
mod headers;
mod idx_file;
mod index;
mod lsns;
mod read;
pub mod recover;
mod recover_holes;
pub mod recover_table;
mod recover_tail;
mod segment;

pub use append::{Appended, SyncJob, allocate_spare};
pub use copy::{CheckedCopy, CopyError};
pub use cut::{CutJob, CutLog};
pub use damage::{Hole, LostOffsets};
pub use index::Run;
pub use lsns::Piece;
pub use read::{Found, ReadLimits};
pub use recover::{Recovered, RecoveryNote};
pub use segment::SegmentInfo;

use crate::disk::{Disk, DiskFile};
use bytes::Bytes;
use flowstone_wire::{Epoch, Lsn};
use index::HotIndex;
use segment::Segment;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of a shard log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes that stay free on the disk: a segment is not allocated below this.
    pub min_free_bytes: u64,
}

/// The log of one shard.
#[derive(Debug)]
pub struct ShardLog {
    disk: Arc<dyn Disk>,
    /// The directory of the segments.
    dir: PathBuf,
    config: LogConfig,
    /// Segments that take no more batches, oldest first; their LSNs are contiguous but for damage.
    sealed: VecDeque<Segment>,
    active: Segment,
    index: HotIndex,
    /// Batches that have a place in the active segment and are not written yet.
    staged: Vec<Bytes>,
    /// Where the first staged batch goes.
    staged_at: u64,
    /// LSN of the next batch.
    next_lsn: Lsn,
    /// Last LSN in the page cache. `written <= next_lsn - 1`.
    written: Lsn,
    /// Last LSN on the disk. `durable <= written`.
    durable: Lsn,
    epoch: Epoch,
    /// Files that must be synced before what was written to them counts as durable.
    unsynced: Vec<Arc<dyn DiskFile>>,
    /// A segment was renamed into place and its name is not durable yet.
    unsynced_dir: bool,
    /// An allocated segment that waits to become active.
    spare: Option<Arc<dyn DiskFile>>,
}

impl ShardLog {
    /// LSN of the next batch.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Last LSN that is in the page cache: survives the end of the process.
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// Last LSN that is on the disk: survives a power cut.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Epoch that is stamped on batches.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// First LSN that the log still has.
    pub fn first_lsn(&self) -> Lsn {
        self.sealed.front().unwrap_or(&self.active).first_lsn
    }

    /// The segments, oldest first, the active one last.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.sealed
            .iter()
            .chain([&self.active])
            .map(|s| s.info(&self.dir))
    }

    /// The segments that take no more batches, oldest first.
    pub fn sealed(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.sealed.iter().map(|s| s.info(&self.dir))
    }

    /// Bytes of all sealed segments.
    pub fn sealed_bytes(&self) -> u64 {
        self.sealed.iter().map(|s| s.end).sum()
    }

    /// Batches that were appended and not flushed.
    pub fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }
}

#[cfg(test)]
mod tests;
