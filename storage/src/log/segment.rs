//! One file of a shard log.

use super::lsns::Places;
use crate::disk::{DiskFile, Mapping};
use crate::layout;
use flowstone_wire::Lsn;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment of the log.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) map: Mapping,
    pub(crate) first_lsn: Lsn,
    /// LSN behind its last batch; equal to `first_lsn` while it is empty.
    pub(crate) next_lsn: Lsn,
    /// Position behind its last batch.
    pub(crate) end: u64,
    /// Bytes that are allocated. `end <= size`.
    pub(crate) size: u64,
    /// Where its batches stand by LSN.
    pub(crate) places: Places,
}

/// A segment as others see it.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// Its file, relative to the root of the disk.
    pub path: PathBuf,
    /// LSN of its first batch.
    pub first_lsn: Lsn,
    /// LSN behind its last batch.
    pub next_lsn: Lsn,
    /// Bytes of its batches.
    pub bytes: u64,
    /// A view of its bytes.
    pub map: Mapping,
}

impl Segment {
    pub(crate) fn info(&self, dir: &Path) -> SegmentInfo {
        SegmentInfo {
            path: dir.join(layout::segment_name(self.first_lsn)),
            first_lsn: self.first_lsn,
            next_lsn: self.next_lsn,
            bytes: self.end,
            map: self.map.clone(),
        }
    }
}
