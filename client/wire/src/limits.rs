//! Every bound on the wire and on disk, related to one another by const asserts.
//!
//! A bound is what keeps memory bounded: nothing is allocated by a size that a peer declares
//! without being held against one of these first.

/// Largest batch, header included, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Largest body of a batch after decompression, in bytes.
pub const BATCH_UNPACKED_BYTES_MAX: usize = 32 << 20;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: u32 = 1 << 20;
/// Largest key of a record, in bytes.
pub const RECORD_KEY_BYTES_MAX: usize = 64 << 10;
/// Largest value of a record, in bytes.
pub const RECORD_VALUE_BYTES_MAX: usize = 4 << 20;
/// Most headers on one record.
pub const RECORD_HEADERS_MAX: usize = 64;
/// All header names and values of one record together, in bytes.
pub const RECORD_HEADER_BYTES_MAX: usize = 64 << 10;
/// Largest frame of the native protocol behind its length field, in bytes.
pub const FRAME_BYTES_MAX: usize = 12 << 20;
/// Largest postcard header of a frame, in bytes.
pub const FRAME_HEADER_BYTES_MAX: usize = 1 << 20;
/// Largest answer to one fetch, in bytes (one batch is always given, whatever its size).
pub const FETCH_BYTES_MAX: usize = 4 << 20;
/// Longest wait of a fetch for new records, in milliseconds.
pub const FETCH_WAIT_MS_MAX: u32 = 60_000;
/// Longest name of a topic, group or pipeline, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// Most partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 4096;
/// Most topics of a node.
pub const TOPICS_MAX: usize = 10_000;
/// Most shards of a node.
pub const SHARDS_MAX: usize = 256;
/// Batches of one producer and partition that are remembered to recognise a retry.
pub const PRODUCER_WINDOW: usize = 8;
/// Idempotent producers remembered per shard; the least recently used is forgotten first.
pub const PRODUCERS_MAX: usize = 100_000;
/// Requests of one connection under way at once.
pub const CONNECTION_REQUESTS_MAX: usize = 256;
/// Longest metadata text of a committed group offset, in bytes.
pub const OFFSET_NOTE_BYTES_MAX: usize = 1024;
/// Most positions in one commit of group offsets.
pub const OFFSET_COMMITS_MAX: usize = 4096;
/// Largest body of one HTTP request, in bytes.
pub const HTTP_BODY_BYTES_MAX: usize = 8 << 20;
/// Smallest shard log segment, in bytes: a group, which is never split, fits.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 20;

const _: () = {
    assert!(
        RECORD_KEY_BYTES_MAX + RECORD_VALUE_BYTES_MAX + RECORD_HEADER_BYTES_MAX + 4096
            < BATCH_BYTES_MAX
    );
    assert!(BATCH_BYTES_MAX + FRAME_HEADER_BYTES_MAX + 64 <= FRAME_BYTES_MAX);
    assert!(FETCH_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(SEGMENT_BYTES_MIN >= 2 * BATCH_BYTES_MAX as u64);
    assert!(PRODUCER_WINDOW >= 5);
    assert!(BATCH_UNPACKED_BYTES_MAX >= BATCH_BYTES_MAX);
};
