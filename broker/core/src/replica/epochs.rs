//! The epochs of a log, and where two logs depart from one another.
//!
//! An epoch has one leader, and a leader only appends. So an entry's epoch and LSN name it and all that
//! is before it: two logs that have the same epoch at an LSN are the same up to there ("log matching",
//! Ongaro and Ousterhout 2014, section 5.3). What must be compared are then not entries but the few
//! places at which the epoch changes (Kafka's KIP-101, walked in steps as in KIP-279).

use flowstone_wire::{Epoch, Lsn};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What names an entry. The order is that of adoption: a later epoch beats a longer log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogId {
    /// The epoch in which it was first appended.
    pub epoch: Epoch,
    /// Its place.
    pub lsn: Lsn,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lsn, self.epoch)
    }
}

/// Contiguous entries of one epoch: whole groups, so that a log that is made of spans has no part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The epoch of all of them.
    pub epoch: Epoch,
    /// The first one.
    pub first: Lsn,
    /// The last one; not below `first`.
    pub last: Lsn,
    /// How many bytes they have, or somewhat more.
    pub bytes: u64,
}

impl Span {
    /// What names the last entry.
    pub fn last_id(&self) -> LogId {
        LogId {
            epoch: self.epoch,
            lsn: self.last,
        }
    }
}

/// Where an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// Its first entry.
    pub first: Lsn,
}

/// The epochs of a log, from its base on: 12 bytes for each change of leaders since what was settled.
///
/// It is always told whole. A follower that departs below what it was told of could not be helped by a
/// stream, and by a snapshot only as far as the leader has committed: so a leader that told a part only
/// might never get its set together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochTable {
    /// Never empty; epochs and LSNs rise. The first one is the base: the last entry that is no longer
    /// in the log, and is committed. An empty log has the base 0 of epoch 0.
    starts: Vec<EpochStart>,
}

impl Default for EpochTable {
    fn default() -> Self {
        Self::based_on(LogId::default())
    }
}

/// Where a log departs from that of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Up to here they are the same.
    After(Lsn),
    /// Somewhere before what the leader still has.
    BelowTheirs,
    /// Somewhere before what this log still has, where everything is committed.
    BelowOurs,
}

impl EpochTable {
    /// The table of a log of which everything up to `base` is gone.
    pub fn based_on(base: LogId) -> Self {
        let LogId { epoch, lsn: first } = base;
        Self {
            starts: vec![EpochStart { epoch, first }],
        }
    }

    /// Where each epoch begins, the base first.
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The last entry that is no longer in the log.
    pub fn base(&self) -> LogId {
        let EpochStart { epoch, first: lsn } = self.starts[0];
        LogId { epoch, lsn }
    }

    /// The epoch of the last entry.
    pub fn last_epoch(&self) -> Epoch {
        self.starts[self.starts.len() - 1].epoch
    }

    /// Where the last epoch begins.
    pub fn last_start(&self) -> Lsn {
        self.starts[self.starts.len() - 1].first
    }

    /// Notes that `first` is of `epoch`; false if no log can be so.
    #[must_use]
    pub fn push(&mut self, epoch: Epoch, first: Lsn) -> bool {
        let last = self.starts[self.starts.len() - 1];
        if epoch > last.epoch && first > last.first {
            self.starts.push(EpochStart { epoch, first });
            return true;
        }
        epoch == last.epoch && first > last.first
    }

    /// The start of the epoch that an LSN is in; `None` below the base. Above the end it is the last
    /// one: a table does not know where its log ends.
    fn start_of(&self, lsn: Lsn) -> Option<EpochStart> {
        let after = self.starts.partition_point(|s| s.first <= lsn);
        Some(self.starts[after.checked_sub(1)?])
    }

    /// The epoch of an LSN, as far as it is known.
    pub fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        self.start_of(lsn).map(|s| s.epoch)
    }

    /// Forgets what is above `last`, which is not below the base.
    pub fn cut(&mut self, last: Lsn) {
        let kept = self.starts.partition_point(|s| s.first <= last);
        self.starts.truncate(kept.max(1));
    }

    /// Makes `base` the base; nothing happens if it is below.
    pub fn trim(&mut self, base: Lsn) {
        let after = self.starts.partition_point(|s| s.first <= base);
        if after > 0 {
            self.starts.drain(..after - 1);
            self.starts[0].first = base;
        }
    }

    /// Whether the invariant holds: what came over a wire is not believed.
    pub fn is_sound(&self) -> bool {
        let rising = |w: &[EpochStart]| w[0].epoch < w[1].epoch && w[0].first < w[1].first;
        !self.starts.is_empty() && self.starts.windows(2).all(rising)
    }

    /// Where this log, which ends at `end`, departs from the log of a leader with the table `theirs`.
    ///
    /// The end of the leader's log is no part of the question, and must not be: the last epoch of
    /// `theirs` is the leader's own, what this log has of it came from that leader, and an answer that
    /// depended on how far the leader was when it asked would let an old copy of the question cut off
    /// what has been acknowledged since. Of lower epochs the leader's table does not change any more.
    pub fn departure(&self, end: Lsn, theirs: &Self) -> Departure {
        let mut at = end;
        loop {
            let Some(their) = theirs.start_of(at) else {
                return Departure::BelowTheirs;
            };
            let Some(our) = self.start_of(at) else {
                return Departure::BelowOurs;
            };
            if our.epoch == their.epoch {
                return Departure::After(at);
            }
            // Before its start the higher of the two epochs is not found in the other log, either.
            let above = if our.epoch > their.epoch { our } else { their };
            if above.first.0 == 0 {
                // Epoch 0 at LSN 0 is in every log that begins there; only a wrong table says else.
                return Departure::BelowOurs;
            }
            at = Lsn(above.first.0 - 1);
        }
    }
}

#[cfg(test)]
mod tests;
