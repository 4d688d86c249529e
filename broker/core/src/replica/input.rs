//! Everything that can happen to a replica.

use super::config::{Config, Member};
use super::epochs::{LogId, Span};
use super::message::Envelope;
use flowstone_wire::{Epoch, Lsn};
use serde::{Deserialize, Serialize};

/// The promise not to help leaders of lower epochs. Stored before it is told to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Lower ones are refused.
    pub epoch: Epoch,
    /// To whom it was given: no other leads in the epoch.
    pub leader: Member,
}

/// What a replica is built from.
#[derive(Clone, Debug)]
pub struct ReplicaStart {
    /// This node, and the life of its data: another one than before if the driver found that anything
    /// that was durable is lost or cannot be validated, be it of the log, the promise or the state.
    pub me: Member,
    /// The last promise that became durable, of whichever life.
    pub promise: Option<Promise>,
    /// The last entry that is settled and applied and no longer in the log.
    pub base: LogId,
    /// The entries above, in order, whole groups only. All of them are durable: a start syncs what it finds.
    pub spans: Vec<Span>,
    /// Committed for certain; not above the last entry.
    pub committed: Lsn,
}

/// Everything that can happen to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// The catalog's configuration of the shard, pushed or read again. May come late or twice.
    Appointed(Config),
    /// The catalog has noted that this epoch is active. Answers [`super::Ask::Activate`].
    Activated(Epoch),
    /// A message has come. What travels beside it is at hand until the outputs are carried out.
    Received(Envelope),
    /// This leader has appended, and all of it is in the page cache. Told before anything else happens
    /// to the replica.
    Written(Span),
    /// A sync is done, and this was the last entry when it began. In the order in which syncs began.
    Durable(LogId),
    /// The promise of this epoch, or a higher one, is durable. Answers [`super::Output::Persist`].
    Persisted(Epoch),
    /// The log ends here, and all of it is durable. Answers [`super::Output::Cut`].
    CutDone(Lsn),
    /// The snapshot is durable in place of the log. Answers [`super::Output::Install`].
    Installed(LogId),
    /// The sending of a snapshot is over, well or not. Answers [`super::Output::SendSnapshot`].
    SnapshotEnded(Member),
    /// The entries up to here are settled, applied, and gone from the log. They were committed.
    Trimmed(Lsn),
    /// A write or a sync has failed: nothing more is taken until a restart has read the disk.
    Failed,
    /// The deadline has passed.
    Tick,
}
