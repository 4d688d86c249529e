//! Everything a replica can ask for: all its effects.

use super::config::Member;
use super::epochs::{LogId, Span};
use super::input::Promise;
use super::message::{Envelope, Header};
use flowstone_wire::{ConfigVersion, Epoch, Lsn};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Something the driver is to do, in the order it is given out.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send it, with the bytes of its span where it has one. May get lost.
    Send(Envelope),
    /// Write these entries of the message that has just come to the page cache, before the next step;
    /// its other entries are here already. They are synced like what a leader appends.
    Append(Span),
    /// Cut the log so that this is its last entry, durably, after all syncs that are under way; answer
    /// with [`super::Input::CutDone`]. Nothing is appended before. The mark must go back first.
    Cut(Lsn),
    /// Store durably, whatever the log does; answer with [`super::Input::Persisted`]. Later ones
    /// replace earlier ones.
    Persist(Promise),
    /// Put the snapshot of the message that has just come in place of the log and the state, so that a
    /// crash leaves the one or the other; answer with [`super::Input::Installed`].
    Install(LogId),
    /// Send what is settled and applied up to an entry from `least` to `committed`, as [`super::Message::Snapshot`] under this header; answer with
    /// [`super::Input::SnapshotEnded`].
    SendSnapshot {
        /// Of the message.
        header: Header,
        /// What it must reach to be of use: the log's base.
        least: Lsn,
        /// What is committed here.
        committed: Lsn,
    },
    /// This node leads from now on: append the epoch-start entry, alone, stamped with this epoch; then
    /// take what producers send.
    Begin(Epoch),
    /// This node leads no more: take nothing from producers, serve nothing as a leader. What was
    /// appended is undecided until it is committed, or cut.
    Retire,
    /// Everything up to here is committed: durable here or on its way, and never gone.
    Committed(Lsn),
    /// A majority was not heard for a while: another leader may be there. Serve no reads of what is
    /// committed, and no acks.
    LeaderDoubt,
    /// The doubt is over, or the epoch has begun to commit: before that everything is in doubt.
    LeaderSure,
    /// Ask the catalog. Asked again until it is answered with a configuration, so it may get lost.
    AskCatalog(Asked),
    /// What the catalog decides by. Comes every now and then; answered with the newest configuration
    /// where the reporter has an older one.
    Report(Report),
    /// What must not be.
    Fault(Fault),
}

/// A question with what the asker knows; the catalog ignores it where it knows better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The asker.
    pub from: Member,
    /// The epoch it acts for.
    pub epoch: Epoch,
    /// The newest configuration it has.
    pub version: ConfigVersion,
    /// What it wants.
    pub ask: Ask,
}

/// What a replica wants of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The newest configuration: another one was heard of.
    Config,
    /// That this life is made a learner: the catalog lists another one, which is over.
    Learn,
    /// Another epoch: this leader was restarted, and an epoch is led in one piece.
    Reappoint,
    /// That this member leads in another epoch, and is of the set: its log is the longest that a
    /// commit can have reached.
    Lead {
        /// Who.
        member: Member,
        /// The last entry it has durable.
        end: LogId,
    },
    /// To note, if this is still the newest epoch, that it is active: its set has everything.
    Activate,
    /// That a member which is not heard any more leaves the set.
    Drop(Member),
    /// That a learner becomes a member: it has nearly everything.
    Admit(Member),
}

/// What a node does for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing: it waits for a leader, or for the catalog.
    Idle,
    /// It is appointed and seals.
    Sealing,
    /// It leads, and is not active yet.
    Starting,
    /// It leads.
    Leading,
    /// It follows.
    Following,
    /// Its disk has failed.
    Stopped,
}

/// How a replica stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub me: Member,
    /// The newest configuration it has.
    pub version: ConfigVersion,
    /// What it does.
    pub phase: Phase,
    /// The epoch it does that in.
    pub epoch: Epoch,
    /// The last entry it has durable: who leads next should have much.
    pub durable: LogId,
    /// What it knows to be committed.
    pub committed: Lsn,
    /// Of a leader: members, itself included, that have everything that is committed durable. 1 says
    /// that the shard runs on one copy.
    pub copies: usize,
    /// Of a leader: the others.
    pub followers: Vec<FollowerReport>,
}

/// How a follower stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerReport {
    /// Who.
    pub member: Member,
    /// Bytes that it has not told to be durable.
    pub lag_bytes: u64,
    /// How long ago a message was sent that it has answered, in microseconds.
    pub heard_us_ago: u64,
}

/// What must not be: a broken promise of a disk, of the catalog, or of this code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Following would take back what was committed.
    #[error(
        "the leader of epoch {epoch} has not what was committed here up to {committed}; neither is followed nor cut, compare both logs"
    )]
    CutBelowCommitted {
        /// Whose leader.
        epoch: Epoch,
        /// What is committed here.
        committed: Lsn,
    },
    /// An epoch has two leaders.
    #[error("epoch {} was promised to {}, and {other} leads in it as well; the catalog gave it twice", .promise.epoch, .promise.leader)]
    TwoLeaders {
        /// What was promised.
        promise: Promise,
        /// Who came second.
        other: Member,
    },
    /// Two configurations of one epoch differ in more than learners.
    #[error("version {0} changes the set within an epoch; it is ignored")]
    SetChanged(ConfigVersion),
    /// A peer said what cannot be.
    #[error("{0} said what cannot be of this log; it is ignored")]
    BadMessage(Member),
    /// What a start found is no log, or ends too early.
    #[error(
        "what was found is no log, or ends below {0}, which is committed: start as another life"
    )]
    BadStart(Lsn),
    /// The driver told what cannot be; the replica has stopped.
    #[error(
        "the log has got entries that its leader did not write, at {0}; restart to read it again"
    )]
    BadWrite(Lsn),
    /// The driver has trimmed what it must not; the replica has stopped.
    #[error("the log was trimmed up to {0}, which is not committed here; restart to read it again")]
    BadTrim(Lsn),
}

/// The outputs of a step, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    items: Vec<Output>,
}

impl Outbox {
    pub(super) fn push(&mut self, output: Output) {
        self.items.push(output);
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
