//! What is found in the tier, where there are several copies of a shard.

use super::{Looks, RETRY_US, surplus};
use crate::input::{Now, TierFound};
use crate::output::{Outbox, Output};
use crate::shard::Shard;
use crate::shard::partition::Partition;
use flowstone_storage::settled::{SettledMeta, Tiered};
use flowstone_wire::PartitionId;

/// Looks that change nothing are this far apart in the end; requests cost money.
const PAUSE_US_MAX: u64 = 20_000_000;

impl Shard {
    /// Others may have led: what they put into the tier is not known yet.
    pub(in crate::shard) fn distrust_tier(&mut self) {
        if self.config.tier_after_ms.is_some() {
            self.partitions
                .values_mut()
                .for_each(|p| p.looks.must = true);
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
        self.note_answer(result.is_ok());
        let hot = self.hot_bytes_of(partition);
        // What is being rewritten would come back beside what takes its place.
        let busy = self.rewrite_out;
        let leads = self.leads();
        match (self.partitions.get_mut(&partition), result) {
            (Some(p), Ok(found)) => {
                p.tier_out = false;
                let mut gained = busy;
                if !busy {
                    (p.looks.must, p.looks.wanted) = (false, false);
                    gained = take_over(p, now, &found, (hot, leads), out);
                }
                p.looks.pause(now, gained);
                p.note_wait(now);
                self.ask_again(now, partition, out);
            }
            (Some(p), Err(e)) => {
                p.tier_out = false;
                self.tier.after_us = now.mono_us + RETRY_US;
                self.tell_failure(now, partition, &e, out);
            }
            (None, _) => {}
        }
        self.finish_drain(out);
    }
}

impl Looks {
    /// The next one is later, the more have changed nothing.
    fn pause(&mut self, now: Now, gained: bool) {
        let longer_us = self.pause_us.saturating_mul(2).min(PAUSE_US_MAX);
        self.pause_us = if gained {
            RETRY_US
        } else {
            longer_us.max(RETRY_US)
        };
        self.after_us = now.mono_us + self.pause_us;
    }
}

/// Takes over what was found in the tier. Says whether that changed anything.
fn take_over(
    p: &mut Partition,
    now: Now,
    found: &TierFound,
    (hot_bytes, leads): (u64, bool),
    out: &mut Outbox,
) -> bool {
    let known =
        |(m, t): &(SettledMeta, Tiered)| p.copy_of(m.id()).is_some_and(|c| c.epoch == t.epoch);
    // Others are of whoever had the tier before: of records that may be others than those here.
    let believed = |e: &&(SettledMeta, Tiered)| e.1.epoch >= found.since || known(e);
    let entries: Vec<_> = found.entries.iter().filter(believed).cloned().collect();
    let first = entries.first();
    p.tier_stale |= leads && first.is_some_and(|(m, _)| m.next_offset <= p.stored_start);
    let due = surplus(p, now.unix_ms, hot_bytes);
    let change = p.adopt(&entries, due);
    if change == super::adopt::Adoption::default() {
        return false;
    }
    let (dropped, put) = (change.dropped, change.put);
    out.push(Output::Adopt { dropped, put });
    true
}
