//! What replicas of a shard say to each other, and why each message carries what it carries.

use super::config::Member;
use super::epochs::{EpochTable, LogId, Span};
use flowstone_wire::{ConfigVersion, Epoch, Lsn, ShardId};
use serde::{Deserialize, Serialize};

/// What stands on every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Which log is meant.
    pub shard: ShardId,
    /// For whose leadership the message is. A lower one than the receiver has promised is refused; a
    /// higher one ends the receiver's own leadership.
    pub epoch: Epoch,
    /// The newest configuration the sender knows: who is behind learns of it, and asks.
    pub version: ConfigVersion,
    /// The sender's node and life: what another life has stored or promised counts for nothing.
    pub from: Member,
    /// The receiver's, as the sender knows it: a life that is gone is not answered for.
    pub to: Member,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// From whom to whom, and for what.
    pub header: Header,
    /// What is said.
    pub message: Message,
}

/// What is said. The first four are a leader's, the others answer them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Asks a member of the previous set to refuse lower epochs from now on.
    Seal,
    /// Asks to follow. Says at which LSN each epoch of the leader's log begins, its own included, so
    /// that the follower finds where its log departs; it never changes while the leader leads, so old
    /// copies do no harm.
    Follow {
        /// The leader's epochs.
        epochs: EpochTable,
        /// When it was sent, by the leader's clock; comes back in the answer.
        sent_us: u64,
    },
    /// The next entries, or none: a heartbeat. Their bytes travel beside the message.
    Append {
        /// What comes.
        span: Option<Span>,
        /// What is committed, as far as the leader knows; the follower may have less.
        committed: Lsn,
        /// As in [`Self::Follow`].
        sent_us: u64,
    },
    /// What is settled and applied up to an entry, in place of a log that begins too late. Its bytes
    /// travel beside the message.
    Snapshot {
        /// The last entry in it; committed.
        last: LogId,
    },
    /// The promise, durable, and the last entry that is durable. More of the epochs need not be said: a
    /// leader whose log is not the longest does not mend it, it has the other one appointed.
    Sealed {
        /// The last durable entry.
        end: LogId,
    },
    /// Answers [`Self::Follow`] and [`Self::Append`], and tells of what has become durable since.
    Ack {
        /// How the follower stands to the leader's log.
        standing: Standing,
        /// Last LSN in the page cache: from where to send again after a loss. Counts for nothing else.
        written: Lsn,
        /// Last LSN on the disk. Counts if the follower stands [`Standing::Following`]: then its log
        /// up to here is the leader's.
        durable: Lsn,
        /// The newest `sent_us` that has arrived: the leader was heard by this follower then or later,
        /// however long the answer takes.
        echo_us: u64,
    },
    /// The header has a higher epoch, which the sender has promised.
    Refused,
}

/// How a follower stands to a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has not taken a [`Message::Follow`] of the epoch since it started.
    Astray,
    /// It lacks what the leader's log has no more.
    Lacking,
    /// Its log is the beginning of the leader's.
    Following,
}

impl Message {
    /// Whether only a leader says this.
    pub fn is_of_leader(&self) -> bool {
        use Message::{Append, Follow, Seal, Snapshot};
        matches!(self, Seal | Follow { .. } | Append { .. } | Snapshot { .. })
    }
}
