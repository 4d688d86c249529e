//! What is found in the tier, where there are several copies of a shard.

use super::{RETRY_US, hot_bytes, surplus};
use crate::input::{Now, TierFound};
use crate::output::{Outbox, Output};
use crate::shard::Shard;
use crate::shard::partition::Partition;
use flowstone_storage::settled::{SettledMeta, Tiered};
use flowstone_wire::PartitionId;

/// Looks that change nothing are this far apart in the end: requests cost money.
const PAUSE_US_MAX: u64 = 600_000_000;

/// When the tier is asked what it has of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Looks {
    /// Before anything is written there: other leaders may have.
    pub(in crate::shard) must: bool,
    /// Local files could go for it.
    pub(in crate::shard) wanted: bool,
    /// Not before this, in microseconds.
    pub(in crate::shard) after_us: u64,
    /// How long after the last look that is, microseconds.
    pause_us: u64,
}

impl Shard {
    /// Others may have led: what they put into the tier is not known yet.
    pub(in crate::shard) fn distrust_tier(&mut self) {
        if self.config.tier_after_ms.is_some() {
            for p in self.partitions.values_mut() {
                p.looks = Looks::anew(true);
            }
        }
    }

    /// Takes over what others have put into the tier, and lets go of local files for it.
    pub(in crate::shard) fn found_in_tier(
        &mut self,
        now: Now,
        partition: PartitionId,
        result: Result<TierFound, String>,
        out: &mut Outbox,
    ) {
        self.tier.jobs_out = self.tier.jobs_out.saturating_sub(1);
        let answered = result.is_ok();
        let taken = result.and_then(|found| self.take_over(now, partition, &found, out));
        self.tier.look_failing = taken.is_err();
        if !answered {
            self.tier.after_us = now.mono_us + RETRY_US;
        }
        if let Some(p) = self.partitions.get_mut(&partition) {
            p.tier_out = false;
            p.note_wait(now);
            if answered {
                p.looks.pause(now, *taken.as_ref().unwrap_or(&false));
            }
            if let Err(e) = taken {
                self.tell_failure(now, partition, &e, out);
            }
            self.ask_again(now, partition, out);
        }
        self.finish_drain(out);
    }

    /// Says whether that changed anything, or is to be done soon.
    fn take_over(
        &mut self,
        now: Now,
        partition: PartitionId,
        found: &TierFound,
        out: &mut Outbox,
    ) -> Result<bool, String> {
        let (hot, leads) = (hot_bytes(&self.log, partition), self.leads());
        // What is being rewritten would come back beside what takes its place.
        let busy = self.rewriting == Some(partition);
        let Some(p) = self.partitions.get_mut(&partition).filter(|_| !busy) else {
            return Ok(true);
        };
        let entries = believed(p, found);
        if let Some(missed) = p.missed(&entries, p.stored_start.max(found.start)) {
            let (from, to) = (missed.first_offset, missed.next_offset);
            return Err(format!(
                "offsets {from} to {to} are in the tier only, and it does not name them: is it the right one?"
            ));
        }
        let start = found.start.min(p.committed);
        if start > p.start {
            // The leader before kept no more.
            p.start = start;
            if !std::mem::replace(&mut p.dirty, true) {
                self.materializer.dirty_partition(partition);
            }
            self.materializer.wanted = true;
        }
        let due = surplus(p, now.unix_ms, hot);
        let Some(change) = p.adopt(&entries, due, self.settle_out) else {
            return Ok(true);
        };
        (p.looks.must, p.looks.wanted) = (false, false);
        let first = entries.first();
        let expired = first.is_some_and(|(m, _)| m.next_offset <= p.stored_start);
        p.tier_stale |= leads && (expired || p.is_compacted_elsewhere());
        let gained = !change.dropped.is_empty() || !change.put.is_empty();
        if gained {
            let (dropped, put) = (change.dropped, change.put);
            out.push(Output::Adopt { dropped, put });
        }
        Ok(gained)
    }
}

impl Looks {
    /// Nothing is known of what is there; `must` where that matters.
    pub(super) fn anew(must: bool) -> Self {
        Self {
            must,
            ..Self::default()
        }
    }

    /// The next one is later, the more have changed nothing.
    fn pause(&mut self, now: Now, gained: bool) {
        let longer_us = self.pause_us.saturating_mul(2).min(PAUSE_US_MAX);
        self.pause_us = match gained {
            true => RETRY_US,
            false => longer_us.max(RETRY_US),
        };
        self.after_us = now.mono_us + self.pause_us;
    }

    /// Something is there that was not when it was looked last.
    pub(in crate::shard) fn soon(&mut self, now: Now) {
        if self.pause_us > RETRY_US {
            self.pause_us = RETRY_US;
            self.after_us = self.after_us.min(now.mono_us + RETRY_US);
        }
    }
}

impl Partition {
    /// Whether the tier has what another leader has made of a compacted topic.
    fn is_compacted_elsewhere(&self) -> bool {
        let compact = self.config.as_ref().is_some_and(|c| c.compact);
        compact && self.settled.iter().any(|m| self.copy_of(m.id()).is_none())
    }
}

/// What leaders of the cluster have put there, or was known before. The rest is of whoever had the tier
/// before: of records that may be others than those here.
fn believed(p: &Partition, found: &TierFound) -> Vec<(SettledMeta, Tiered)> {
    let known =
        |(m, t): &(SettledMeta, Tiered)| p.copy_of(m.id()).is_some_and(|c| c.epoch == t.epoch);
    let believed = |e: &&(SettledMeta, Tiered)| e.1.epoch >= found.since || known(e);
    found.entries.iter().filter(believed).cloned().collect()
}
