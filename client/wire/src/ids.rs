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

impl Offset {
    /// The offset `count` records later.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Lsn {
    /// The next LSN.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

const _: () = assert!(crate::limits::SHARDS_MAX as u32 <= PartitionId::FIRST_USER);
