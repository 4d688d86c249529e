//! The batch: a 72-byte little-endian header and its records; the same bytes everywhere.
//!
//! ```text
//!  0  magic             4  "FSB1"
//!  4  crc32             4  IEEE over bytes 8..size
//!  8  size              4  whole batch, header included
//! 12  partition         4  \
//! 16  base_offset       8   | assigned by the leader ("stamped");
//! 24  lsn               8   | a producer leaves them 0
//! 32  epoch             4  /
//! 36  last_offset_delta 4
//! 40  record_count      4
//! 44  producer_epoch    2
//! 46  flags             2  codec (3 bits) | group continues | control | log-append time | 0
//! 48  producer_id       8  0 = none
//! 56  base_sequence     4
//! 60  max_ts_delta      4  milliseconds
//! 64  base_timestamp    8  milliseconds since 1970
//! 72  records              Kafka's v2 record encoding, compressed as the codec says
//! ```

use crate::compress::{self, Codec};
use crate::ids::{Epoch, Lsn, Offset, PartitionId, ProducerId};
use crate::limits;
use crate::record;
use bytes::{Bytes, BytesMut};

/// The first four bytes of a batch. A change of the layout takes another magic.
pub const MAGIC: [u8; 4] = *b"FSB1";

const CRC_AT: usize = MAGIC.len();
const SIZE_AT: usize = CRC_AT + 4;
const PARTITION_AT: usize = SIZE_AT + 4;
const BASE_OFFSET_AT: usize = PARTITION_AT + 4;
const LSN_AT: usize = BASE_OFFSET_AT + 8;
const EPOCH_AT: usize = LSN_AT + 8;
const LAST_OFFSET_DELTA_AT: usize = EPOCH_AT + 4;
const RECORD_COUNT_AT: usize = LAST_OFFSET_DELTA_AT + 4;
const PRODUCER_EPOCH_AT: usize = RECORD_COUNT_AT + 4;
const FLAGS_AT: usize = PRODUCER_EPOCH_AT + 2;
const PRODUCER_ID_AT: usize = FLAGS_AT + 2;
const BASE_SEQUENCE_AT: usize = PRODUCER_ID_AT + 8;
const MAX_TS_DELTA_AT: usize = BASE_SEQUENCE_AT + 4;
const BASE_TIMESTAMP_AT: usize = MAX_TS_DELTA_AT + 4;
/// Bytes of a batch header.
pub const HEADER_BYTES: usize = BASE_TIMESTAMP_AT + 8;
const _: () = assert!(HEADER_BYTES == 72);

/// Everything from here on is the producer's; a stamp changes only what stands before it.
const PRODUCER_PART_AT: usize = LAST_OFFSET_DELTA_AT;
/// From this size on, combining two checksums is cheaper than reading the body again.
const CRC_COMBINE_FROM: usize = 16 << 10;

/// Set on every batch of a group but the last: the group counts all together or not at all.
pub const FLAG_GROUP_CONTINUES: u16 = 1 << 3;
/// The records are the shard's own (positions, task state), not a user's.
pub const FLAG_CONTROL: u16 = 1 << 4;
/// The base timestamp was set by the broker at the append.
pub const FLAG_LOG_APPEND_TIME: u16 = 1 << 5;
pub(crate) const CODEC_MASK: u16 = 0b111;
const FLAGS_KNOWN: u16 = CODEC_MASK | FLAG_GROUP_CONTINUES | FLAG_CONTROL | FLAG_LOG_APPEND_TIME;

/// The decoded header of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// IEEE CRC-32 over bytes `8..size`.
    pub crc32: u32,
    /// Bytes of the whole batch, header included.
    pub size: u32,
    /// The partition; 0 until stamped.
    pub partition: PartitionId,
    /// Offset of the first record; 0 until stamped.
    pub base_offset: Offset,
    /// Number in the shard log; 0 until stamped.
    pub lsn: Lsn,
    /// Epoch of the leader that stamped it.
    pub epoch: Epoch,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: u32,
    /// Number of records; after compaction less than `last_offset_delta + 1`.
    pub record_count: u32,
    /// Incarnation of the idempotent producer.
    pub producer_epoch: u16,
    /// Codec and `FLAG_*` bits.
    pub flags: u16,
    /// Idempotent producer; 0 for none.
    pub producer_id: ProducerId,
    /// Sequence of the first record with this producer and partition; wraps at 2^32.
    pub base_sequence: u32,
    /// Largest record timestamp minus the base timestamp, in milliseconds.
    pub max_ts_delta: u32,
    /// Timestamp of the first record, milliseconds since 1970.
    pub base_timestamp: i64,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header or than the header says.
    #[error("batch is cut off: {have} of {need} bytes")]
    CutOff {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The first bytes are not a batch's.
    #[error("batch starts with {0:02x?} instead of 'FSB1'")]
    Magic([u8; 4]),
    /// The size is impossible or over the limit.
    #[error("batch size {0} is outside 72 to {max} bytes", max = limits::BATCH_BYTES_MAX)]
    Size(u32),
    /// The checksum does not agree.
    #[error("batch checksum is {computed:08x}, its header says {stored:08x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Flags or a codec that this version does not know.
    #[error("batch flags {0:#06x} are not known to this version")]
    Flags(u16),
    /// The records are not what the header says.
    #[error("batch records are not valid: {0}")]
    Records(&'static str),
    /// The body could not be decompressed within its limit.
    #[error("batch body: {0}")]
    Body(compress::CompressError),
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

impl BatchHeader {
    /// Reads a header. Proves the magic and that the size is within its limits, nothing else.
    ///
    /// # Errors
    /// [`BatchError::CutOff`], [`BatchError::Magic`], [`BatchError::Size`].
    #[inline]
    pub fn decode(b: &[u8]) -> Result<Self, BatchError> {
        if b.len() < HEADER_BYTES {
            return Err(BatchError::CutOff {
                have: b.len(),
                need: HEADER_BYTES,
            });
        }
        if b[..4] != MAGIC {
            return Err(BatchError::Magic([b[0], b[1], b[2], b[3]]));
        }
        let size = u32_at(b, SIZE_AT);
        if (size as usize) < HEADER_BYTES || size as usize > limits::BATCH_BYTES_MAX {
            return Err(BatchError::Size(size));
        }
        Ok(Self {
            crc32: u32_at(b, CRC_AT),
            size,
            partition: PartitionId(u32_at(b, PARTITION_AT)),
            base_offset: Offset(u64_at(b, BASE_OFFSET_AT)),
            lsn: Lsn(u64_at(b, LSN_AT)),
            epoch: Epoch(u32_at(b, EPOCH_AT)),
            last_offset_delta: u32_at(b, LAST_OFFSET_DELTA_AT),
            record_count: u32_at(b, RECORD_COUNT_AT),
            producer_epoch: u16_at(b, PRODUCER_EPOCH_AT),
            flags: u16_at(b, FLAGS_AT),
            producer_id: ProducerId(u64_at(b, PRODUCER_ID_AT)),
            base_sequence: u32_at(b, BASE_SEQUENCE_AT),
            max_ts_delta: u32_at(b, MAX_TS_DELTA_AT),
            base_timestamp: u64_at(b, BASE_TIMESTAMP_AT) as i64,
        })
    }

    /// The 72 bytes of this header, as they stand (the checksum is not computed).
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut b = [0u8; HEADER_BYTES];
        b[..CRC_AT].copy_from_slice(&MAGIC);
        b[CRC_AT..SIZE_AT].copy_from_slice(&self.crc32.to_le_bytes());
        b[SIZE_AT..PARTITION_AT].copy_from_slice(&self.size.to_le_bytes());
        b[PARTITION_AT..BASE_OFFSET_AT].copy_from_slice(&self.partition.0.to_le_bytes());
        b[BASE_OFFSET_AT..LSN_AT].copy_from_slice(&self.base_offset.0.to_le_bytes());
        b[LSN_AT..EPOCH_AT].copy_from_slice(&self.lsn.0.to_le_bytes());
        b[EPOCH_AT..LAST_OFFSET_DELTA_AT].copy_from_slice(&self.epoch.0.to_le_bytes());
        b[LAST_OFFSET_DELTA_AT..RECORD_COUNT_AT]
            .copy_from_slice(&self.last_offset_delta.to_le_bytes());
        b[RECORD_COUNT_AT..PRODUCER_EPOCH_AT].copy_from_slice(&self.record_count.to_le_bytes());
        b[PRODUCER_EPOCH_AT..FLAGS_AT].copy_from_slice(&self.producer_epoch.to_le_bytes());
        b[FLAGS_AT..PRODUCER_ID_AT].copy_from_slice(&self.flags.to_le_bytes());
        b[PRODUCER_ID_AT..BASE_SEQUENCE_AT].copy_from_slice(&self.producer_id.0.to_le_bytes());
        b[BASE_SEQUENCE_AT..MAX_TS_DELTA_AT].copy_from_slice(&self.base_sequence.to_le_bytes());
        b[MAX_TS_DELTA_AT..BASE_TIMESTAMP_AT].copy_from_slice(&self.max_ts_delta.to_le_bytes());
        b[BASE_TIMESTAMP_AT..].copy_from_slice(&self.base_timestamp.to_le_bytes());
        b
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.last_offset_delta))
    }

    /// Offset behind the last record: where the next batch of the partition starts.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Largest record timestamp, milliseconds since 1970.
    pub fn max_timestamp(&self) -> i64 {
        self.base_timestamp
            .saturating_add(i64::from(self.max_ts_delta))
    }

    /// The codec of the body.
    ///
    /// # Errors
    /// [`BatchError::Flags`] if this version does not know it.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_bits(self.flags & CODEC_MASK).ok_or(BatchError::Flags(self.flags))
    }

    /// Whether the next batch belongs to the same group.
    pub fn group_continues(&self) -> bool {
        self.flags & FLAG_GROUP_CONTINUES != 0
    }

    /// Whether the records are the shard's own.
    pub fn is_control(&self) -> bool {
        self.flags & FLAG_CONTROL != 0
    }
}

/// Checks that `bytes` start with a whole batch whose checksum agrees, and returns its header.
///
/// This is what recovery and readers of stored bytes need: the records were checked at the door.
///
/// # Errors
/// As [`BatchHeader::decode`], and [`BatchError::Crc`].
pub fn verify(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::decode(bytes)?;
    let size = header.size as usize;
    if bytes.len() < size {
        return Err(BatchError::CutOff {
            have: bytes.len(),
            need: size,
        });
    }
    let computed = crc32fast::hash(&bytes[SIZE_AT..size]);
    if computed != header.crc32 {
        return Err(BatchError::Crc {
            stored: header.crc32,
            computed,
        });
    }
    Ok(header)
}

/// What the leader writes into a batch when it appends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Partition it goes to.
    pub partition: PartitionId,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Its number in the shard log.
    pub lsn: Lsn,
    /// Epoch of the leader.
    pub epoch: Epoch,
}

/// A batch from outside whose bytes were proven.
///
/// Proven: magic, size, known flags and codec, checksum, record count, every record's lengths
/// (compressed bodies are walked as well, within [`limits::BATCH_UNPACKED_BYTES_MAX`]), offsets that
/// run 0, 1, 2, ... and timestamps within the header's range. Not proven: keys and values.
#[derive(Debug)]
pub struct CheckedBatch {
    header: BatchHeader,
    bytes: BytesMut,
    /// CRC over `PRODUCER_PART_AT..size`, if it was worth keeping.
    tail_crc: Option<u32>,
}

impl CheckedBatch {
    /// Checks a producer's batch that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`BatchError`] with what is wrong. Control and group flags are refused: they are the shard's.
    pub fn check(bytes: BytesMut) -> Result<Self, BatchError> {
        let header = BatchHeader::decode(&bytes)?;
        let size = header.size as usize;
        if bytes.len() != size {
            return Err(BatchError::CutOff {
                have: bytes.len(),
                need: size,
            });
        }
        if header.flags & !(CODEC_MASK | FLAG_LOG_APPEND_TIME) != 0 {
            return Err(BatchError::Flags(header.flags));
        }
        let tail_crc = check_crc(&header, &bytes)?;
        check_records(&header, &bytes[HEADER_BYTES..])?;
        Ok(Self {
            header,
            bytes,
            tail_crc,
        })
    }

    /// Takes a batch that this process has just built; nothing is checked again.
    pub(crate) fn trusted(header: BatchHeader, bytes: BytesMut) -> Self {
        Self {
            header,
            bytes,
            tail_crc: None,
        }
    }

    /// A batch of a shard's log as another shard is to append it: the shard's own flags are taken
    /// off, the producer's fields stay.
    ///
    /// # Errors
    /// [`BatchError`] if it is cut off or its checksum is wrong.
    pub fn from_log(bytes: &Bytes) -> Result<Self, BatchError> {
        let mut header = verify(bytes)?;
        let mut bytes = BytesMut::from(&bytes[..header.size as usize]);
        header.flags &= CODEC_MASK | FLAG_LOG_APPEND_TIME;
        bytes[FLAGS_AT..PRODUCER_ID_AT].copy_from_slice(&header.flags.to_le_bytes());
        Ok(Self::trusted(header, bytes))
    }

    /// Its bytes, for another node to check and append.
    pub fn into_bytes(self) -> Bytes {
        self.stamp(Stamp::default()).1
    }

    /// The producer's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Adds `FLAG_*` bits that only the shard may set.
    pub fn set_flags(&mut self, flags: u16) {
        self.header.flags |= flags & FLAGS_KNOWN;
        self.bytes[FLAGS_AT..PRODUCER_ID_AT].copy_from_slice(&self.header.flags.to_le_bytes());
        self.tail_crc = None;
    }

    /// Writes the leader's fields and the new checksum; the body is not copied, and not read again
    /// where it is large.
    pub fn stamp(mut self, stamp: Stamp) -> (BatchHeader, Bytes) {
        let h = &mut self.header;
        h.partition = stamp.partition;
        h.base_offset = stamp.base_offset;
        h.lsn = stamp.lsn;
        h.epoch = stamp.epoch;
        let b = &mut self.bytes;
        b[PARTITION_AT..BASE_OFFSET_AT].copy_from_slice(&h.partition.0.to_le_bytes());
        b[BASE_OFFSET_AT..LSN_AT].copy_from_slice(&h.base_offset.0.to_le_bytes());
        b[LSN_AT..EPOCH_AT].copy_from_slice(&h.lsn.0.to_le_bytes());
        b[EPOCH_AT..PRODUCER_PART_AT].copy_from_slice(&h.epoch.0.to_le_bytes());
        h.crc32 = match self.tail_crc {
            Some(tail) => combine(b, tail),
            None => crc32fast::hash(&b[SIZE_AT..]),
        };
        b[CRC_AT..SIZE_AT].copy_from_slice(&h.crc32.to_le_bytes());
        (self.header, self.bytes.freeze())
    }
}

/// Writes the checksum of a whole batch, and returns it.
pub(crate) fn seal(batch: &mut [u8]) -> u32 {
    let crc = crc32fast::hash(&batch[SIZE_AT..]);
    batch[CRC_AT..SIZE_AT].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn combine(batch: &[u8], tail_crc: u32) -> u32 {
    let mut front = crc32fast::Hasher::new();
    front.update(&batch[SIZE_AT..PRODUCER_PART_AT]);
    let tail_len = (batch.len() - PRODUCER_PART_AT) as u64;
    front.combine(&crc32fast::Hasher::new_with_initial_len(tail_crc, tail_len));
    front.finalize()
}

fn check_crc(header: &BatchHeader, bytes: &[u8]) -> Result<Option<u32>, BatchError> {
    let (computed, tail) = if bytes.len() >= CRC_COMBINE_FROM {
        let tail = crc32fast::hash(&bytes[PRODUCER_PART_AT..]);
        (combine(bytes, tail), Some(tail))
    } else {
        (crc32fast::hash(&bytes[SIZE_AT..]), None)
    };
    if computed != header.crc32 {
        return Err(BatchError::Crc {
            stored: header.crc32,
            computed,
        });
    }
    Ok(tail)
}

fn check_records(header: &BatchHeader, body: &[u8]) -> Result<(), BatchError> {
    if header.record_count == 0 {
        return Err(BatchError::Records("there are none"));
    }
    if header.record_count > limits::BATCH_RECORDS_MAX {
        return Err(BatchError::Records("there are too many"));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(BatchError::Records(
            "the last offset does not agree with their number",
        ));
    }
    if header.base_timestamp < 0 {
        return Err(BatchError::Records("the base timestamp is before 1970"));
    }
    let codec = header.codec()?;
    if codec == Codec::None {
        return record::check(header, body);
    }
    let plain = compress::decompress(codec, body, limits::BATCH_UNPACKED_BYTES_MAX)
        .map_err(BatchError::Body)?;
    record::check(header, &plain)
}

/// The records of a stored batch, decompressed if need be.
///
/// # Errors
/// [`BatchError`] if the header, the codec or the body is not valid.
pub fn records(batch: &Bytes) -> Result<(BatchHeader, Bytes), BatchError> {
    let header = BatchHeader::decode(batch)?;
    let size = header.size as usize;
    if batch.len() < size {
        return Err(BatchError::CutOff {
            have: batch.len(),
            need: size,
        });
    }
    let body = batch.slice(HEADER_BYTES..size);
    let body = match header.codec()? {
        Codec::None => body,
        codec => compress::decompress(codec, &body, limits::BATCH_UNPACKED_BYTES_MAX)
            .map_err(BatchError::Body)?
            .into(),
    };
    Ok((header, body))
}

/// The offset of the first record with a timestamp at or after `timestamp` among whole batches that
/// stand back to back; `None` if there is none. Stops at the first batch that is not valid.
pub fn find_time(batches: &Bytes, timestamp: i64) -> Option<Offset> {
    let mut at = 0;
    loop {
        let header = BatchHeader::decode(batches.get(at..)?).ok()?;
        if header.max_timestamp() >= timestamp {
            let (header, body) = records(&batches.slice(at..)).ok()?;
            let hit = record::walk(&header, &body)
                .flatten()
                .find(|r| r.timestamp >= timestamp);
            if let Some(r) = hit {
                return Some(r.offset);
            }
        }
        at += header.size as usize;
    }
}

#[cfg(test)]
mod tests;
