//! The bytes of a settled segment that are not batches.

use flowstone_wire::{Lsn, Offset, PartitionId};
use serde::{Deserialize, Serialize};

pub(super) const FILE_MAGIC: [u8; 4] = *b"FSS1";
pub(super) const FOOTER_MAGIC: [u8; 4] = *b"FSSF";
pub(super) const VERSION: u32 = 1;
pub(super) const FILE_HEADER_BYTES: usize = 16;
pub(super) const BLOCK_HEADER_BYTES: usize = 16;
pub(super) const FOOTER_BYTES: usize = 64;
/// Plain bytes at which a block is closed.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// A block holds at least one batch, whatever its size.
pub(super) const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + flowstone_wire::limits::BATCH_BYTES_MAX;
/// More than this is not a block index.
pub(super) const INDEX_BYTES_MAX: u32 = 256 << 20;
pub(super) const CODEC_PLAIN: u32 = 0;
pub(super) const CODEC_ZSTD: u32 = 4;

/// Where a block stands and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset behind its last record.
    pub next_offset: Offset,
    /// Largest record timestamp, milliseconds since 1970.
    pub max_timestamp: i64,
    /// Position of the block's header in the file.
    pub position: u64,
    /// Bytes of the block as stored, its header not included.
    pub stored_bytes: u32,
}

pub(super) fn file_header(partition: PartitionId) -> [u8; FILE_HEADER_BYTES] {
    let mut b = [0; FILE_HEADER_BYTES];
    b[..4].copy_from_slice(&FILE_MAGIC);
    b[4..8].copy_from_slice(&VERSION.to_le_bytes());
    b[8..12].copy_from_slice(&partition.0.to_le_bytes());
    b
}

pub(super) struct BlockHeader {
    pub(super) stored_bytes: u32,
    pub(super) plain_bytes: u32,
    pub(super) crc32: u32,
    pub(super) codec: u32,
}

impl BlockHeader {
    pub(super) fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut b = [0; BLOCK_HEADER_BYTES];
        let fields = [self.stored_bytes, self.plain_bytes, self.crc32, self.codec];
        for (slot, field) in b.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        b
    }

    pub(super) fn decode(b: &[u8; BLOCK_HEADER_BYTES]) -> Self {
        let at = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Self {
            stored_bytes: at(0),
            plain_bytes: at(4),
            crc32: at(8),
            codec: at(12),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) index_position: u64,
    pub(super) index_bytes: u32,
    pub(super) index_crc32: u32,
    pub(super) first_offset: Offset,
    pub(super) next_offset: Offset,
    pub(super) records: u64,
    pub(super) max_timestamp: i64,
    pub(super) last_lsn: Lsn,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut b = [0; FOOTER_BYTES];
        b[..4].copy_from_slice(&FOOTER_MAGIC);
        b[8..16].copy_from_slice(&self.index_position.to_le_bytes());
        b[16..20].copy_from_slice(&self.index_bytes.to_le_bytes());
        b[20..24].copy_from_slice(&self.index_crc32.to_le_bytes());
        b[24..32].copy_from_slice(&self.first_offset.0.to_le_bytes());
        b[32..40].copy_from_slice(&self.next_offset.0.to_le_bytes());
        b[40..48].copy_from_slice(&self.records.to_le_bytes());
        b[48..56].copy_from_slice(&self.max_timestamp.to_le_bytes());
        b[56..64].copy_from_slice(&self.last_lsn.0.to_le_bytes());
        let crc = crc32fast::hash(&b[8..]);
        b[4..8].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub(super) fn decode(b: &[u8; FOOTER_BYTES]) -> Result<Self, &'static str> {
        let u32_at = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        let u64_at = |i: usize| u64::from(u32_at(i)) | u64::from(u32_at(i + 4)) << 32;
        if b[..4] != FOOTER_MAGIC {
            return Err("it has no footer");
        }
        if u32_at(4) != crc32fast::hash(&b[8..]) {
            return Err("the checksum of its footer does not agree");
        }
        Ok(Self {
            index_position: u64_at(8),
            index_bytes: u32_at(16),
            index_crc32: u32_at(20),
            first_offset: Offset(u64_at(24)),
            next_offset: Offset(u64_at(32)),
            records: u64_at(40),
            max_timestamp: u64_at(48) as i64,
            last_lsn: Lsn(u64_at(56)),
        })
    }
}
