//! Typed numbers, so that two of them cannot be swapped by accident.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A partition of a topic: one number for the whole cluster, given by the catalog, never reused.
    PartitionId(u32)
);
id!(
    /// The position of a record in its partition, from 0. May have gaps after compaction.
    Offset(u64)
);
id!(
    /// The number of a batch in its shard log: dense, from 1. 0 means "none yet".
    Lsn(u64)
);
id!(
    /// A term of leadership of a shard; rises with every start of a leader.
    Epoch(u32)
);
id!(
    /// An idempotent producer. 0 means none.
    ProducerId(u64)
);
id!(
    /// A shard: the unit of order, durability, placement and execution.
    ShardId(u16)
);
id!(
    /// A node of a cluster, as the catalog numbers it; never reused.
    NodeId(u32)
);
id!(
    /// One life of a node's durable data of a shard: another one begins when some of it was lost or
    /// cannot be validated. Never reused for the same node and shard. A restart that finds everything
    /// is the same life.
    Incarnation(u64)
);
id!(
    /// The number of a shard's configuration; rises with every change that the catalog makes.
    ConfigVersion(u64)
);
id!(
    /// A topic, as the catalog numbers it; never reused, so a topic made again is another topic.
    TopicId(u32)
);

impl PartitionId {
    /// Partitions below this number belong to the shards themselves (positions, task state).
    pub const FIRST_USER: u32 = 1024;

    /// The internal partition into which a shard writes group offsets and task state changes.
    pub const fn control(shard: ShardId) -> Self {
        Self(shard.0 as u32)
    }

    /// Whether this is an internal partition of a shard.
    pub const fn is_control(self) -> bool {
        self.0 < Self::FIRST_USER
    }
}

impl ProducerId {
    const OUTBOUND: u64 = 1 << 63;

    /// The producer as which the task of a pipeline on one shard writes to a partition of another
    /// shard; `None` for a pipeline number over 21 bits.
    ///
    /// ```text
    /// 63: 1 | 62..42: pipeline | 41..32: shard | 31..0: partition
    /// ```
    pub const fn outbound(pipeline: u32, shard: ShardId, partition: PartitionId) -> Option<Self> {
        if pipeline >= 1 << 21 || shard.0 as u32 >= PartitionId::FIRST_USER {
            return None;
        }
        let shard = (shard.0 as u64) << 32;
        Some(Self(
            Self::OUTBOUND | (pipeline as u64) << 42 | shard | partition.0 as u64,
        ))
    }

    /// Whether this is a task that writes from another shard; no client has such a number.
    pub const fn is_outbound(self) -> bool {
        self.0 & Self::OUTBOUND != 0
    }

    /// The pipeline of a task that writes from another shard.
    pub const fn outbound_pipeline(self) -> u32 {
        (self.0 >> 42) as u32 & ((1 << 21) - 1)
    }

    /// The partition that a task writes to from another shard.
    pub const fn outbound_partition(self) -> PartitionId {
        PartitionId(self.0 as u32)
    }
}

impl Offset {
    /// The offset `count` records later. The last offset there is stays: a header that was not checked
    /// may hold any.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl Lsn {
    /// The next LSN. The last one there is stays: a header that was not checked may hold any.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

const _: () = assert!(crate::limits::SHARDS_MAX as u32 <= PartitionId::FIRST_USER);
// A shard's number fits its ten bits of an outbound producer.
const _: () = assert!(PartitionId::FIRST_USER <= 1 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbound_producer_names_its_parts_and_no_client() {
        let last = (1 << 21) - 1;
        for (pipeline, shard, partition) in [(0, 0, 1024), (7, 3, u32::MAX), (last, 1023, 5)] {
            let (shard, partition) = (ShardId(shard), PartitionId(partition));
            let id = ProducerId::outbound(pipeline, shard, partition).unwrap();
            assert!(id.is_outbound());
            assert_eq!(id.outbound_pipeline(), pipeline);
            assert_eq!(id.outbound_partition(), partition);
            let other = ProducerId::outbound(pipeline, ShardId(shard.0 ^ 1), partition);
            assert_ne!(Some(id), other, "shards have their own sequences");
        }
        assert_eq!(
            ProducerId::outbound(last + 1, ShardId(0), PartitionId(1024)),
            None
        );
        assert!(!ProducerId(u64::MAX >> 1).is_outbound());
    }
}
