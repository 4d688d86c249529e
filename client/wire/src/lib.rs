//! What bytes mean: batches, records, frames, ids, limits and errors.
//!
//! The same batch bytes travel from the client over the wire to disk, to replicas and to the tier.
//! This crate is pure: it reads no clock, opens no socket, starts no thread and holds no lock.
//!
//! | module | what it is |
//! | - | - |
//! | [`ids`] | typed numbers: partition, offset, LSN, epoch, producer, shard, node |
//! | [`limits`] | every bound on the wire and on disk |
//! | [`error`] | the error table: number, name, retry class, HTTP status |
//! | [`batch`] | the 72-byte batch header, checked view and stamping |
//! | [`batch_build`] | building a batch record by record |
//! | [`record`] | walking the records of a batch |
//! | [`compress`] | bounded bodies in zstd, lz4, snappy and gzip |
//! | [`frame`] | length-prefixed frames of the native protocol |
//! | [`native`] | requests and answers of the native protocol |
//! | [`partitioner`] | which partition a key belongs to |
//! | [`name`] | names that users give: topics, groups, pipelines |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

pub mod batch;
pub mod batch_build;
pub mod batch_retain;
pub mod compress;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod name;
pub mod native;
pub mod partitioner;
pub mod record;
pub mod varint;

pub use batch::{BatchError, BatchHeader, CheckedBatch, Stamp};
pub use batch_build::BatchBuilder;
pub use compress::Codec;
pub use error::{ErrorCode, Failure};
pub use ids::{
    ConfigVersion, Epoch, Incarnation, Lsn, NodeId, Offset, PartitionId, ProducerId, ShardId,
    TopicId,
};
pub use record::{Header, RecordView};
