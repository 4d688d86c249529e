//! The shard's own records: group positions, task deltas and what was carried, in its internal
//! partition. Batches for other shards lie there too, told apart by their producer.

use super::Shard;
use flowstone_wire::native::GroupOffset;
use flowstone_wire::{
    BatchBuilder, CheckedBatch, Codec, Epoch, Lsn, PartitionId, ProducerId, batch, record,
};
use serde::{Deserialize, Serialize};

/// A record of the internal partition. The order of the variants is the format: new ones go last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ControlRecord {
    /// Positions of a consumer group.
    GroupOffsets {
        /// Name of the group.
        group: String,
        /// The positions.
        offsets: Vec<GroupOffset>,
    },
    /// What a step of a task changed; the bytes are the processor's.
    TaskDelta {
        /// Number of the pipeline.
        id: u32,
        /// Postcard of a `DeltaState`.
        delta: Vec<u8>,
    },
    /// Batches for other shards that are there: for each lane all up to this LSN.
    Carried(Vec<(ProducerId, Lsn)>),
    /// A leader has begun this epoch.
    EpochStart(Epoch),
}

impl ControlRecord {
    /// The batch of this one record; `None` if it does not fit a batch.
    pub(super) fn to_batch(&self, unix_ms: i64) -> Option<CheckedBatch> {
        let value = postcard::to_stdvec(self).ok()?;
        let mut builder = BatchBuilder::with_capacity(Codec::None, value.len() + 32);
        if !builder.push(unix_ms, None, Some(&value), &[]) {
            return None;
        }
        let mut batch = builder.finish();
        batch.set_flags(batch::FLAG_CONTROL);
        Some(batch)
    }

    /// The records of a control batch. A record that cannot be read is reported by its reason.
    pub(super) fn from_batch(bytes: &bytes::Bytes) -> Result<Vec<Self>, String> {
        let (header, body) = batch::records(bytes).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        for r in record::walk(&header, &body) {
            let value = r.map_err(|e| e.to_string())?.value.unwrap_or_default();
            all.push(postcard::from_bytes(value).map_err(|e| e.to_string())?);
        }
        Ok(all)
    }
}

impl Shard {
    /// The internal partition.
    pub(super) fn control_partition(&self) -> PartitionId {
        PartitionId::control(self.id)
    }
}
