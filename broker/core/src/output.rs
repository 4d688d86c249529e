//! Everything a shard can ask for: all its effects but writing to the page cache.

use crate::input::Ticket;
use crate::replica::{Asked, Envelope, Header, LogId, Promise, Report};
use crate::shard::Parcel;
use bytes::Bytes;
use flowstone_processor::Wanted;
use flowstone_storage::Disk;
use flowstone_storage::log::{CutJob, LogConfig, SyncJob};
use flowstone_storage::settled::{
    RewriteInput, SegmentId, SettleInput, SettledMeta, Source, Tiered,
};
use flowstone_storage::snapshot::TailPiece;
use flowstone_storage::state::Change;
use flowstone_wire::native::{
    FetchAnswer, GroupOffset, PartitionStatus, PipelineStatus, ProduceAnswer, ShardStatus,
};
use flowstone_wire::{Epoch, Failure, Lsn, Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`crate::Input::Produce`].
    Produced(ProduceAnswer),
    /// To [`crate::Input::Fetch`].
    /// Between nodes the batches travel beside it.
    Fetched(FetchAnswer, #[serde(skip)] Vec<Bytes>),
    /// To [`crate::Input::FindOffset`].
    Found(Offset),
    /// To [`crate::Input::CommitOffsets`].
    Committed,
    /// To [`crate::Input::ReadOffsets`].
    Offsets(Vec<GroupOffset>),
    /// To [`crate::Input::ListGroups`].
    Groups(Vec<String>),
    /// To [`crate::Input::Status`].
    Status(Box<Status>),
}

/// How a shard stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The shard itself.
    pub shard: ShardStatus,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Its tasks; a driver adds up the tasks of a pipeline.
    pub tasks: Vec<PipelineStatus>,
    /// Bytes of the log that are not settled.
    pub hot_bytes: u64,
    /// Bytes that are written and not durable.
    pub undurable_bytes: u64,
    /// How the tier stands.
    pub tier: TierStatus,
}

/// What a shard has in the tier and has not yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierStatus {
    /// Bytes of settled segments that the tier has a copy of.
    pub copied_bytes: u64,
    /// Bytes of those that are in the tier only.
    pub remote_bytes: u64,
    /// Bytes of settled segments that are still to be uploaded.
    pub waiting_bytes: u64,
    /// Since when the oldest of those has waited, milliseconds since 1970; counted anew after a start.
    pub waiting_since_ms: Option<i64>,
    /// Why the last upload failed, if it did.
    pub failing: bool,
}

/// What the tier is to have of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierJob {
    /// Which partition.
    pub partition: PartitionId,
    /// The leader's epoch: one of a later epoch writes instead of it.
    pub term: Epoch,
    /// What other leaders of the cluster have uploaded goes as well, unless it is kept.
    pub replaces: bool,
    /// Nothing before this is wanted any more.
    pub start: Offset,
    /// Segments to upload, oldest first; their files are there.
    pub upload: Vec<SettledMeta>,
    /// Segments that were uploaded before and stay; what is neither here nor above goes.
    pub keep: Vec<SegmentId>,
}

impl TierJob {
    /// All that the tier has of a partition is to go: it was deleted.
    pub fn none_of(partition: PartitionId) -> Self {
        Self {
            partition,
            term: Epoch(0),
            replaces: true,
            start: Offset(u64::MAX),
            upload: Vec::new(),
            keep: Vec::new(),
        }
    }
}

/// Something the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Give this to whoever holds the ticket.
    Reply {
        /// From the input.
        ticket: Ticket,
        /// The answer.
        result: Result<Reply, Failure>,
    },
    /// Run the job away from the shard; answer with [`crate::Input::Synced`]. One is out at a time.
    Sync(SyncJob),
    /// Run [`flowstone_storage::log::allocate_spare`]; answer with [`crate::Input::Spare`].
    AllocateSpare(Arc<dyn Disk>, PathBuf, LogConfig),
    /// Apply to the state store, then write the mark; answer with [`crate::Input::Materialized`].
    Materialize {
        /// Keys and their new values.
        changes: Vec<Change>,
        /// The LSN they reach; durable.
        upto: Lsn,
        /// The mark to write afterwards.
        clean: bool,
    },
    /// Write the mark: the log is durable up to here. No answer.
    Mark(Lsn),
    /// Settle, commit the manifest; answer with [`crate::Input::Settled`].
    Settle(SettleInput),
    /// Take these out of the manifest, then remove their files. No answer.
    DropSettled(Vec<SegmentId>),
    /// Rewrite, then put the new segments into the manifest instead of the old ones; answer with
    /// [`crate::Input::Rewritten`].
    Rewrite(RewriteInput),
    /// Bring the tier's manifest of a partition up to this; answer with [`crate::Input::Tiered`]. Jobs of
    /// one partition are done in the order they were given out.
    Tier(TierJob),
    /// Say what the tier's manifest of a partition names; answer with [`crate::Input::FoundInTier`].
    LookIntoTier(PartitionId),
    /// In the manifest of settled segments, take these out and put those in, with their copies in the tier;
    /// then remove the local files of the former. No answer.
    Adopt {
        /// Segments whose files go.
        dropped: Vec<SegmentId>,
        /// What is there now. One without a local file may have the number of one that was dropped.
        put: Vec<(SettledMeta, Option<Tiered>)>,
    },
    /// Note that these are in the tier only, then remove their local files. No answer.
    ForgetLocal(Vec<(SegmentId, Tiered)>),
    /// Remove these files of the log, in this order. No answer.
    RemoveFiles(Vec<PathBuf>),
    /// Read settled batches and give them to the ticket as [`Reply::Fetched`]. No answer.
    ReadSettled {
        /// For the reply.
        ticket: Ticket,
        /// Which segment, and where from.
        segment: Source,
        /// The first record wanted.
        offset: Offset,
        /// At most so many bytes.
        max_bytes: u32,
        /// The bounds to reply with.
        bounds: FetchAnswer,
    },
    /// Find a time in a settled segment and give it to the ticket as [`Reply::Found`]. No answer.
    FindSettledTime {
        /// For the reply.
        ticket: Ticket,
        /// Which segment, and where from.
        segment: Source,
        /// Milliseconds since 1970.
        timestamp: i64,
    },
    /// Read settled batches for a task; answer with [`crate::Input::TaskBatches`].
    ReadForTask {
        /// Number of the pipeline.
        id: u32,
        /// Which segment, and where from.
        segment: Source,
        /// The first record wanted.
        offset: Offset,
    },
    /// Run [`crate::shard::read_state`]; answer with [`crate::Input::StateRead`].
    ReadState {
        /// Number of the pipeline.
        id: u32,
        /// Which entries.
        wanted: Vec<Wanted>,
    },
    /// Step [`crate::Input::Deliver`] on the shard that has the partition of the parcel's lane; answer
    /// with [`crate::Input::Carried`]. Parcels of one lane arrive in the order they were given out.
    Carry(Parcel),
    /// Send this to another copy; may get lost. No answer.
    ToPeer {
        /// What is said.
        envelope: Envelope,
        /// The bytes of its span, as they lie in the log.
        bodies: Vec<Bytes>,
    },
    /// Store the promise in the mark; answer with [`crate::input::ReplicaInput::Persisted`].
    Persist(Promise),
    /// Run the job with the mark; answer with [`crate::input::ReplicaInput::Cut`].
    Cut(Box<CutJob>),
    /// Send the state store and the settled segments, which reach at least `least`, as a snapshot under
    /// this header; answer with [`crate::input::ReplicaInput::SnapshotSent`].
    SendSnapshot {
        /// Of the message.
        header: Header,
        /// What it must reach.
        least: Lsn,
        /// What is committed here: it must not reach further.
        committed: Lsn,
        /// The log from what is settled on to there.
        tail: Vec<TailPiece>,
    },
    /// Ask the catalog; may get lost. It answers with a configuration or
    /// [`crate::input::ReplicaInput::Activated`].
    AskCatalog(Asked),
    /// What the catalog decides by. No answer.
    ReplicaReport(Box<Report>),
    /// Nothing of the shard is under way: drop it, and open it again.
    Reopen,
    /// As [`Self::Reopen`], with the snapshot that ends here in place of what the shard has.
    Install(LogId),
    /// Something an operator should read. No answer.
    Report(String),
    /// The shard takes nothing more, for this reason, until it is opened again.
    Fenced(String),
    /// Draining is over: the shard can be dropped.
    Drained,
}

/// The outputs of a step, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    items: Vec<Output>,
}

impl Outbox {
    pub(crate) fn push(&mut self, output: Output) {
        self.items.push(output);
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, result: Result<Reply, Failure>) {
        self.items.push(Output::Reply { ticket, result });
    }

    /// Takes the outputs that are like this, in their order.
    pub(crate) fn extract(
        &mut self,
        is_it: impl Fn(&Output) -> bool,
    ) -> impl Iterator<Item = Output> {
        self.items.extract_if(.., move |output| is_it(output))
    }

    /// Takes all outputs; the room stays allocated.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Output> {
        self.items.drain(..)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
