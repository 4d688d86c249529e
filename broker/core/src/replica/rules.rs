//! The decisions on which safety rests, one function each, so that they can be read, and broken, alone.
//!
//! In tests a [`Plant`] makes one of them wrong; the simulation must notice every one.

use super::config::{self, Member};
use super::epochs::{Departure, LogId};
use flowstone_wire::{Epoch, Lsn};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    pub(super) plant: Option<Plant>,
}

/// A bug: what the rule of the same place would be without it.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A follower acknowledges what is only written.
    AckWritten,
    /// A leader counts what it has only written.
    CountOwnWritten,
    /// A promise is told before it is durable.
    TellPromiseEarly,
    /// A follower goes on acknowledging to the leader it had before it promised another.
    AckAfterPromise,
    /// A follower takes what a leader of a lower epoch sends.
    TakeLowerEpoch,
    /// A leader of a lower epoch is promised to, and so the promise goes down.
    PromiseLowerEpoch,
    /// Entries of earlier epochs are committed by counting.
    CommitOldEpoch,
    /// An epoch is activated before its first entry is on a majority; it commits from there on only.
    ActivateWithoutStart,
    /// A leader commits before the catalog has noted its epoch as active.
    CommitInactive,
    /// A new leader asks nobody.
    NoSeal,
    /// A new leader takes one answer less than it needs.
    SealOneShort,
    /// A new leader leads although another log is longer.
    KeepShorterLog,
    /// Logs are compared by length before epoch.
    LongestByLsn,
    /// Lives of a node are not told apart.
    NoIncarnation,
    /// Acknowledgements of another epoch count.
    CountOtherEpoch,
    /// Learners count.
    CountLearners,
    /// Half of a set is enough.
    HalfIsEnough,
    /// A follower is cut to what it knows to be committed.
    CutToCommitted,
    /// Two logs are taken for the same as far as both go.
    IgnoreEpochs,
    /// What a follower has of the leader's own epoch is cut, as if that had only begun.
    CutOwnEpoch,
    /// Entries are appended after a cut that is not durable.
    AppendBeforeCut,
    /// A follower believes the leader's commit mark beyond what it has durable.
    BelieveCommitted,
    /// A leader goes on with its epoch after a restart.
    ResumeEpoch,
    /// Any sync that ends counts for what is in the log now.
    BelieveOldSync,
    /// A learner is admitted however far it is behind.
    AdmitEarly,
    /// A follower counts as heard when its answer arrives, not when it was asked.
    HeardOnArrival,
    /// A snapshot may replace what the leader's log continues.
    InstallOverLonger,
}

impl Rules {
    #[cfg(test)]
    fn is_planted(self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// What a follower answers for: only what a power cut leaves.
    pub(super) fn ackable(self, durable: Lsn, written: Lsn) -> Lsn {
        #[cfg(test)]
        if self.is_planted(Plant::AckWritten) {
            return written;
        }
        durable.min(written)
    }

    /// What a leader counts of its own log: the same.
    pub(super) fn own_count(self, durable: Lsn, written: Lsn) -> Lsn {
        #[cfg(test)]
        if self.is_planted(Plant::CountOwnWritten) {
            return written;
        }
        durable.min(written)
    }

    /// Whether a promise can be acted on: it must not be forgotten by a crash.
    pub(super) fn is_promised(self, epoch: Epoch, durable: Epoch) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::TellPromiseEarly) {
            return true;
        }
        epoch <= durable
    }

    /// Whether a promise ends what was done for lower epochs before it is durable: a leader that counts
    /// on it must find everything that was acknowledged to others.
    pub(super) fn binds_at_once(self) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::AckAfterPromise) {
            return false;
        }
        true
    }

    /// Whether what a leader sends comes too late.
    pub(super) fn is_refused(self, epoch: Epoch, promised: Epoch) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::TakeLowerEpoch) || self.is_planted(Plant::PromiseLowerEpoch) {
            return false;
        }
        epoch < promised
    }

    /// Whether an epoch needs a promise that was not given yet.
    pub(super) fn needs_promise(self, epoch: Epoch, promised: Epoch) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::PromiseLowerEpoch) {
            return epoch != promised;
        }
        epoch > promised
    }

    /// Whether a leader may begin an epoch: one of its own that it promised before it was restarted is
    /// over, since followers may have entries of it that its own disk lost.
    pub(super) fn may_lead(self, epoch: Epoch, promised: Epoch) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::ResumeEpoch) {
            return epoch >= promised;
        }
        epoch > promised
    }

    /// Whether somebody is who is meant.
    pub(super) fn is_same(self, one: Member, other: Member) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::NoIncarnation) {
            return one.node == other.node;
        }
        one == other
    }

    /// Whether an answer to a leader is for the epoch it leads.
    pub(super) fn is_answer_for(self, epoch: Epoch, led: Epoch) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::CountOtherEpoch) {
            return true;
        }
        epoch == led
    }

    /// Whether a follower's acknowledgements count.
    pub(super) fn counts(self, is_member: bool) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::CountLearners) {
            return true;
        }
        is_member
    }

    /// How many of a set must have an entry durable.
    pub(super) fn commit_quorum(self, members: usize) -> usize {
        #[cfg(test)]
        if self.is_planted(Plant::HalfIsEnough) {
            return members.div_ceil(2);
        }
        config::commit_quorum(members)
    }

    /// How many of the previous set must have promised.
    pub(super) fn seal_quorum(self, previous: usize) -> usize {
        #[cfg(test)]
        if self.is_planted(Plant::NoSeal) {
            return 0;
        } else if self.is_planted(Plant::SealOneShort) {
            return config::seal_quorum(previous) - 1;
        }
        config::seal_quorum(previous)
    }

    /// Whether a new leader must not lead, as another log is longer: by epoch first, because a long
    /// log of an old epoch may have been departed from.
    pub(super) fn is_longer(self, other: LogId, own: LogId) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::KeepShorterLog) {
            return false;
        } else if self.is_planted(Plant::LongestByLsn) {
            return other.lsn > own.lsn;
        }
        other > own
    }

    /// Whether an epoch can be activated: its first entry, and so all before it, is on a majority.
    pub(super) fn may_activate(self, counted: Lsn, start: Lsn) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::ActivateWithoutStart) || self.is_planted(Plant::CommitOldEpoch) {
            return true;
        }
        counted >= start
    }

    /// Whether what is on a majority is committed by that. What is of an earlier epoch is not: a log
    /// that lacks it can still be longer (Raft, section 5.4.2). Nor is anything while the catalog may
    /// appoint others over a set that is not this one.
    pub(super) fn may_commit(self, counted: Lsn, start: Lsn, is_active: bool) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::CommitOldEpoch) {
            return is_active;
        } else if self.is_planted(Plant::CommitInactive) {
            return counted >= start;
        }
        counted >= start && is_active
    }

    /// Where a follower is cut.
    #[cfg_attr(not(test), expect(unused_variables, reason = "only bugs look at them"))]
    pub(super) fn departure(
        self,
        found: Departure,
        end: Lsn,
        committed: Lsn,
        start: Lsn,
    ) -> Departure {
        #[cfg(test)]
        if self.is_planted(Plant::CutToCommitted) {
            return Departure::After(committed.min(end));
        } else if self.is_planted(Plant::IgnoreEpochs) {
            return Departure::After(end);
        } else if self.is_planted(Plant::CutOwnEpoch) {
            return Departure::After(start.min(end));
        }
        found
    }

    /// Whether to wait until a cut is durable: else a power cut can bring back old entries below new
    /// ones, and the epochs would say of such a log that it is one.
    pub(super) fn waits_for_cut(self) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::AppendBeforeCut) {
            return false;
        }
        true
    }

    /// What a follower knows to be committed, of what its leader says.
    pub(super) fn known_committed(self, leaders: Lsn, durable: Lsn) -> Lsn {
        #[cfg(test)]
        if self.is_planted(Plant::BelieveCommitted) {
            return leaders;
        }
        leaders.min(durable)
    }

    /// Whether a sync that is done says something of the log as it is.
    pub(super) fn is_of_log(self, has: bool) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::BelieveOldSync) {
            return true;
        }
        has
    }

    /// Whether a learner is near enough.
    pub(super) fn may_admit(self, lag_bytes: u64, most: u64) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::AdmitEarly) {
            return true;
        }
        lag_bytes <= most
    }

    /// When a follower was heard, to be certain.
    #[cfg_attr(not(test), expect(unused_variables, reason = "only a bug looks at it"))]
    pub(super) fn heard_us(self, echo_us: u64, now_us: u64) -> u64 {
        #[cfg(test)]
        if self.is_planted(Plant::HeardOnArrival) {
            return now_us;
        }
        echo_us
    }

    /// Whether a snapshot may be put in place of a log that ends at `end`: what it does not reach was
    /// perhaps acknowledged, unless the log departs from the leader's before.
    pub(super) fn may_install(self, last: Lsn, end: Lsn, departs: bool) -> bool {
        #[cfg(test)]
        if self.is_planted(Plant::InstallOverLonger) {
            return true;
        }
        departs || last > end
    }
}
