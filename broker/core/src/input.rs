//! Everything that can happen to a shard.

use crate::catalog::Starts;
use crate::output::Output;
use crate::replica::{Config, Envelope, Member};
use bytes::Bytes;
use flowstone_processor::{Found, Pipeline};
use flowstone_storage::log::CutLog;
use flowstone_storage::settled::{Rewritten, SegmentId, SettledMeta, Tiered};
use flowstone_storage::{DiskFile, Error};
use flowstone_wire::native::{Acks, GroupOffset, Place, Visibility};
use flowstone_wire::{CheckedBatch, Epoch, Failure, Lsn, Offset, PartitionId, ProducerId};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// The time of a step, as its driver reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970; may jump.
    pub unix_ms: i64,
    /// Microseconds since some start; never goes back.
    pub mono_us: u64,
}

/// A number that the driver gives a request and finds on its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a shard must know of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Bytes to keep; `None` for no bound.
    pub retention_bytes: Option<u64>,
    /// Milliseconds to keep a record; `None` for ever.
    pub retention_ms: Option<u64>,
    /// Up to where readers see.
    pub visibility: Visibility,
    /// Whether of records with the same key only the newest is kept.
    pub compact: bool,
    /// How long a tombstone stays after it was first compacted, in milliseconds.
    pub tombstone_ms: u64,
    /// Bytes to keep here of what the tier has; `None` for no bound.
    pub local_retention_bytes: Option<u64>,
    /// Milliseconds to keep here what the tier has; `None` for no bound.
    pub local_retention_ms: Option<u64>,
}

/// A task to run on the shard.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// Number of the pipeline, given by the catalog.
    pub id: u32,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Input partitions on this shard, each with its index in its topic.
    pub inputs: Vec<(PartitionId, u32)>,
    /// For each input the source that it belongs to, an index into the pipeline's sources; shorter
    /// where the rest belongs to the first.
    pub sources: Vec<u16>,
    /// Where it begins to read those of its inputs that it has not read before; where nothing is said, at
    /// the start of what there is.
    pub starts: Starts,
    /// For each sink, the partitions of its topic, in order of their index.
    pub sinks: Vec<Vec<SinkPartition>>,
    /// Which partitions of its pipeline's exchange are this task's.
    pub share: Range<u32>,
}

/// A partition of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkPartition {
    /// Its number.
    pub id: PartitionId,
    /// Whether it lives on the same shard; what goes elsewhere is carried there when it is durable.
    pub local: bool,
}

/// What happens to a shard because it is one of several copies.
#[derive(Debug)]
pub enum ReplicaInput {
    /// A message of another copy.
    Peer {
        /// What it says.
        envelope: Envelope,
        /// The bytes of its span, where it has one.
        bodies: Vec<Bytes>,
    },
    /// The catalog's configuration of the shard, pushed or read again.
    Appointed(Config),
    /// The catalog has noted that this epoch is active.
    Activated(Epoch),
    /// Answers [`crate::Output::Persist`].
    Persisted {
        /// Of the promise.
        epoch: Epoch,
        /// Whether it is durable.
        result: Result<(), String>,
    },
    /// Answers [`crate::Output::Cut`].
    Cut(Result<CutLog, Error>),
    /// Answers [`crate::Output::SendSnapshot`]: it is over, well or not.
    SnapshotSent(Member),
}

/// What the tier has of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierFound {
    /// Copies of this epoch of the tier and later ones were made by leaders of this cluster. Of others only
    /// those are to be believed that are known already.
    pub since: u32,
    /// Nothing before this is kept.
    pub start: Offset,
    /// Segments and their copies, by offset.
    pub entries: Vec<(SettledMeta, Tiered)>,
}

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Input {
    /// Something of the other copies, or of the catalog that appoints them.
    Replica(ReplicaInput),
    /// A checked batch is to be appended. Without a ticket nobody is told.
    Produce {
        /// For the reply.
        ticket: Option<Ticket>,
        /// Where to.
        partition: PartitionId,
        /// What.
        batch: CheckedBatch,
        /// When to reply.
        acks: Acks,
    },
    /// Another shard brings a batch that one of its tasks gave out. Answered like
    /// [`Self::Produce`] with acks `durable`; a batch that is here already is not appended again.
    Deliver {
        /// For the reply.
        ticket: Ticket,
        /// What; its producer names the partition.
        batch: CheckedBatch,
    },
    /// Batches are to be read.
    Fetch {
        /// For the reply.
        ticket: Ticket,
        /// Where from.
        partition: PartitionId,
        /// The first record wanted.
        offset: Offset,
        /// At most so many bytes.
        max_bytes: u32,
        /// How long to wait for something, in milliseconds.
        wait_ms: u32,
    },
    /// The offset of a place is asked for.
    FindOffset {
        /// For the reply.
        ticket: Ticket,
        /// Where.
        partition: PartitionId,
        /// Which place.
        place: Place,
    },
    /// Positions of a consumer group are to be stored.
    CommitOffsets {
        /// For the reply.
        ticket: Ticket,
        /// Name of the group, checked.
        group: String,
        /// The positions, all of partitions of this shard.
        offsets: Vec<GroupOffset>,
    },
    /// Positions of a consumer group are asked for.
    ReadOffsets {
        /// For the reply.
        ticket: Ticket,
        /// Name of the group.
        group: String,
        /// Of these partitions; empty for all.
        partitions: Vec<PartitionId>,
    },
    /// The names of the groups are asked for.
    ListGroups {
        /// For the reply.
        ticket: Ticket,
    },
    /// The state of the shard, its partitions and tasks is asked for.
    Status {
        /// For the reply.
        ticket: Ticket,
    },
    /// A partition exists; said for each one at the start and when a topic is made.
    OpenPartition {
        /// Its number.
        partition: PartitionId,
        /// Its settings.
        config: PartitionConfig,
    },
    /// A partition was deleted.
    ClosePartition {
        /// Its number.
        partition: PartitionId,
    },
    /// A pipeline is to run here. Its partitions are open.
    StartTask(Box<TaskConfig>),
    /// A pipeline is to stop here; what it has done stays.
    StopTask {
        /// Number of the pipeline.
        id: u32,
    },
    /// Of the pipelines numbered below `below` these are all: what others did here ends, and goes.
    ForgetTasks {
        /// Their numbers.
        known: BTreeSet<u32>,
        /// Above it there may be others.
        below: u32,
    },
    /// What was staged is to be processed and written.
    Turn,
    /// A deadline has passed.
    Tick,
    /// Answers [`crate::Output::Sync`].
    Synced {
        /// The LSN of the job.
        upto: Lsn,
        /// Whether it succeeded. After an error the shard takes nothing more.
        result: Result<(), String>,
    },
    /// Answers [`crate::Output::AllocateSpare`].
    Spare(Result<Arc<dyn DiskFile>, Error>),
    /// Answers [`crate::Output::Materialize`].
    Materialized {
        /// The LSN that was applied.
        upto: Lsn,
        /// Whether it succeeded.
        result: Result<(), String>,
    },
    /// Answers [`crate::Output::Settle`]; the manifest is committed.
    Settled(Result<(Vec<SettledMeta>, Lsn), Error>),
    /// Answers [`crate::Output::Rewrite`]; the manifest is committed.
    Rewritten(Result<Rewritten, Error>),
    /// Answers [`crate::Output::Tier`]; what it says is noted in the manifest.
    Tiered {
        /// From the job.
        partition: PartitionId,
        /// From the job: nothing before it is in the tier any more.
        start: Offset,
        /// The copies that were made, or why not all of it could be done.
        result: Result<Vec<(SegmentId, Tiered)>, String>,
    },
    /// Answers [`crate::Output::LookIntoTier`].
    FoundInTier {
        /// Which partition.
        partition: PartitionId,
        /// What is there, or why that cannot be said.
        result: Result<TierFound, String>,
    },
    /// Answers [`crate::Output::ReadSettled`] or [`crate::Output::FindSettledTime`] where the segment was
    /// not there any more when it was its turn to be read: the tier may have it, or another segment.
    ReadGone {
        /// What was asked for.
        read: Box<Output>,
        /// What was not there.
        why: String,
    },
    /// Answers [`crate::Output::ReadForTask`].
    TaskBatches {
        /// Number of the pipeline.
        id: u32,
        /// Which input.
        partition: PartitionId,
        /// Whole batches from the position on, or why not.
        result: Result<Vec<Bytes>, String>,
    },
    /// Answers [`crate::Output::ReadState`].
    StateRead {
        /// Number of the pipeline.
        id: u32,
        /// What was found of each, in their order, or why nothing could be read. Of those at the end there may
        /// be nothing.
        result: Result<Vec<Found>, String>,
    },
    /// Answers [`crate::Output::Carry`].
    Carried {
        /// From the parcel.
        lane: ProducerId,
        /// From the parcel.
        lsn: Lsn,
        /// What the other shard answered; [`flowstone_wire::ErrorCode::UnknownPartition`] where there
        /// is no such partition any more.
        result: Result<(), Failure>,
    },
    /// The shard is to stop in order: nothing more is taken, everything is synced and materialised.
    Drain,
}

impl Input {
    /// The ticket of a request.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Produce { ticket, .. } => *ticket,
            Self::Deliver { ticket, .. }
            | Self::Fetch { ticket, .. }
            | Self::FindOffset { ticket, .. }
            | Self::CommitOffsets { ticket, .. }
            | Self::ReadOffsets { ticket, .. }
            | Self::ListGroups { ticket }
            | Self::Status { ticket } => Some(*ticket),
            Self::ReadGone { read, .. } => match **read {
                Output::ReadSettled { ticket, .. } | Output::FindSettledTime { ticket, .. } => {
                    Some(ticket)
                }
                _ => None,
            },
            _ => None,
        }
    }
}
