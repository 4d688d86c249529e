//! Settled segments: immutable files with the batches of one partition.
//!
//! ```text
//! file header   16  "FSS1", version (4), partition (4), zero (4)
//! block *           header 16: stored bytes (4), plain bytes (4), crc32 of the stored bytes (4),
//!                   codec (4: 0 plain, 4 zstd); then the stored bytes: whole batches, back to back
//! block index       postcard of [BlockEntry]
//! footer        64  "FSSF", crc32 over the rest of the footer, index position (8), index bytes (4),
//!                   index crc32 (4), first offset (8), next offset (8), records (8),
//!                   largest timestamp (8), last LSN (8)
//! ```
//! All numbers little-endian. The same file is what goes to the tier.

mod format;
mod read;
mod rewrite;
mod settle;
mod write;

pub use format::BlockEntry;
pub use read::SettledReader;
pub use rewrite::{Compaction, RewriteInput, RewriteJob, RewriteStep, Rewritten};
pub use settle::{SegmentRuns, SettleInput, SettleJob, SettleStep, remove_orphans};
pub use write::SettledWriter;

use flowstone_wire::{Lsn, Offset, PartitionId};
use serde::{Deserialize, Serialize};

/// A settled segment: one file, written once.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct SegmentId {
    /// Its partition.
    pub partition: PartitionId,
    /// The first offset of its range.
    pub first_offset: Offset,
    /// How often what it holds was rewritten; a rewritten segment is another file.
    pub generation: u32,
}

/// What the manifest knows of a settled segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledMeta {
    /// Its partition.
    pub partition: PartitionId,
    /// The first offset of its range. Compaction may have removed its record.
    pub first_offset: Offset,
    /// Offset behind its last record.
    pub next_offset: Offset,
    /// As in [`SegmentId`].
    pub generation: u32,
    /// When compaction made it clean, milliseconds since 1970; `None` if it never did.
    pub clean_at_ms: Option<i64>,
    /// Number of records.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Largest record timestamp, milliseconds since 1970.
    pub max_timestamp: i64,
    /// LSN of its last batch.
    pub last_lsn: Lsn,
}

impl SettledMeta {
    /// Which segment it is.
    pub fn id(&self) -> SegmentId {
        SegmentId {
            partition: self.partition,
            first_offset: self.first_offset,
            generation: self.generation,
        }
    }
}

/// What the manifest knows of the copy of a settled segment in the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiered {
    /// As in [`SegmentId`]: the copy is of this generation.
    pub generation: u32,
    /// Under which epoch of the tier it was uploaded; part of its name.
    pub epoch: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Checksum of the whole file.
    pub crc32: u32,
    /// Whether the local file is still there.
    pub local: bool,
}

/// Where a settled segment is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which segment.
    pub id: SegmentId,
    /// Its copy in the tier, where there is no local file.
    pub remote: Option<Tiered>,
}

#[cfg(test)]
mod tests;
