//! The tier: which settled segments get a copy there, and which local files can go for it.
//!
//! ```text
//! settled --(large or old enough)--> job out --> copied, local --(local retention)--> remote only
//!                                                  |                                     |
//!                                                  +------ expired: the tier lets go ----+--> dropped
//! ```
//! The driver answers a job when the manifest of the tier is written and the copies were read back. Of
//! a compacted topic every local file stays: compaction reads all of it.
//!
//! Of several copies the leader's go to the tier. A leader looks first what others have put there; so
//! does a follower before local files go.

mod adopt;
mod found;

pub(super) use found::Looks;

use super::Shard;
use super::partition::Partition;
use super::rewrite::SMALL_PART;
use crate::input::{Now, PartitionConfig};
use crate::output::{Outbox, Output, TierJob, TierStatus};
use flowstone_storage::ShardLog;
use flowstone_storage::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::{Epoch, Offset, PartitionId};
use std::ops::Bound;

/// Segments of one job: more would hold up the other partitions.
const UPLOADS_MAX: usize = 16;
/// Jobs that are out at once.
const JOBS_MAX: usize = 8;
/// After a job that failed the next is given out this much later.
const RETRY_US: u64 = 5_000_000;
/// While jobs go on failing it is told this often.
const TELL_US: u64 = 600_000_000;

/// What a shard knows of the work of its tier.
#[derive(Debug, Default)]
pub(super) struct Tier {
    jobs_out: usize,
    /// After a failure nothing is asked for before this.
    after_us: u64,
    failing: bool,
    look_failing: bool,
    /// A failure before this is not told: one like it was.
    tell_at_us: u64,
    /// The partition that was looked at last: they take turns.
    last: Option<PartitionId>,
    /// There was no room for more jobs: others may be found without waiting for the next tick.
    has_more: bool,
}

impl Shard {
    /// Gives out jobs for partitions of which the tier lacks something, or has too much. Looks at every
    /// partition: for a tick.
    pub(super) fn ask_for_tier(&mut self, now: Now, out: &mut Outbox) {
        let Some(policy) = self.tier_policy(now) else {
            return;
        };
        self.partitions.values_mut().for_each(|p| p.note_wait(now));
        self.give_out_jobs(&policy, out);
    }

    /// When segments are uploaded, if this is a time for it.
    fn tier_policy(&self, now: Now) -> Option<Policy> {
        let after_ms = self.config.tier_after_ms?;
        let idle = self.draining || self.fenced.is_some() || !self.knows_all;
        if idle || now.mono_us < self.tier.after_us || self.tier.jobs_out == JOBS_MAX {
            return None;
        }
        Some(Policy {
            now,
            leads: self.leads(),
            term: self.log.epoch(),
            after_ms,
            large_bytes: self.config.log.segment_bytes / SMALL_PART,
        })
    }

    fn give_out_jobs(&mut self, policy: &Policy, out: &mut Outbox) {
        let behind = self.tier.last.map_or(Bound::Unbounded, Bound::Excluded);
        let first = self.partitions.range((behind, Bound::Unbounded));
        let order = first.chain(&self.partitions).take(self.partitions.len());
        let room = JOBS_MAX - self.tier.jobs_out;
        let work: Vec<(PartitionId, Work)> = order
            .filter_map(|(id, p)| Some((*id, policy.work(*id, p)?)))
            .take(room)
            .collect();
        self.tier.has_more = work.len() == room;
        self.tier.last = work.last().map(|(id, _)| *id);
        for (id, work) in work {
            self.give_out(id, work, out);
        }
    }

    fn give_out(&mut self, id: PartitionId, work: Work, out: &mut Outbox) {
        let p = self.partitions.get_mut(&id);
        let p = p.expect("the work is of one of its partitions");
        p.tier_out = true;
        self.tier.jobs_out += 1;
        out.push(match work {
            Work::Store(job) => {
                p.tier_stale = false;
                Output::Tier(job)
            }
            Work::Look => Output::LookIntoTier(id),
        });
    }

    /// What there is to do now that a job is done. Where the others had nothing to do at the last tick
    /// they are not looked at again: there may be thousands.
    fn ask_again(&mut self, now: Now, partition: PartitionId, out: &mut Outbox) {
        let Some(policy) = self.tier_policy(now) else {
            return;
        };
        if self.tier.has_more {
            return self.give_out_jobs(&policy, out);
        }
        let p = self.partitions.get(&partition);
        if let Some(work) = p.and_then(|p| policy.work(partition, p)) {
            self.give_out(partition, work, out);
        }
    }

    pub(super) fn tiered(
        &mut self,
        now: Now,
        partition: PartitionId,
        start: Offset,
        result: Result<Vec<(SegmentId, Tiered)>, String>,
        out: &mut Outbox,
    ) {
        self.tier.jobs_out = self.tier.jobs_out.saturating_sub(1);
        self.tier.failing = result.is_err();
        if !self.tier.failing {
            self.tier.tell_at_us = 0;
        }
        let shared = self.replication.is_some();
        let p = self.partitions.get_mut(&partition);
        match (p, result) {
            (Some(p), Ok(copies)) => {
                p.tier_out = false;
                p.take_copies(copies, shared);
                let_go(p, start, out);
                p.note_wait(now);
                self.ask_again(now, partition, out);
            }
            (Some(p), Err(e)) => {
                (p.tier_out, p.tier_stale) = (false, true);
                // It may be another leader that was faster.
                p.looks = Looks::anew(shared);
                self.tier.after_us = now.mono_us + RETRY_US;
                self.tell_failure(now, partition, &e, out);
            }
            // Deleted meanwhile: the catalog remembers that the tier has something of it.
            (None, _) => {}
        }
        self.finish_drain(out);
    }

    /// Tells the first failure of a row of them, and then one in a while.
    fn tell_failure(&mut self, now: Now, partition: PartitionId, why: &str, out: &mut Outbox) {
        if now.mono_us < self.tier.tell_at_us {
            return;
        }
        self.tier.tell_at_us = now.mono_us + TELL_US;
        out.push(Output::Report(format!(
            "the tier could not be brought up to partition {partition}, which is tried again: {why}"
        )));
    }

    /// Lets go of local files that the tier has a copy of and that are not to be kept here.
    pub(super) fn forget_local(&mut self, now: Now, out: &mut Outbox) {
        if self.config.tier_after_ms.is_none() || self.draining || self.fenced.is_some() {
            return;
        }
        let mut forgotten = Vec::new();
        let shared = self.replication.is_some();
        let leads = self.leads();
        for (id, p) in &mut self.partitions {
            if p.settled.is_empty() || p.tiered.is_empty() && !shared {
                continue;
            }
            let due = surplus(p, now.unix_ms, hot_bytes(&self.log, *id));
            let gone = to_forget(p, due);
            // The next one may be in the tier in another shape.
            let next = p.local().next().filter(|_| gone.len() < due);
            let wanted = next.is_some_and(|m| !leads || p.is_in_tier(m));
            p.looks.wanted |= shared && wanted;
            forgotten.extend(gone);
        }
        if !forgotten.is_empty() {
            out.push(Output::ForgetLocal(forgotten));
        }
    }

    pub(super) fn tier_status(&self) -> TierStatus {
        let mut status = TierStatus {
            failing: self.tier.failing || self.tier.look_failing,
            ..TierStatus::default()
        };
        if self.config.tier_after_ms.is_none() {
            return status;
        }
        let leads = self.leads();
        for p in self.partitions.values() {
            for meta in &p.settled {
                match p.copy_of(meta.id()) {
                    Some(copy) => {
                        status.copied_bytes += meta.bytes;
                        status.remote_bytes += if copy.local { 0 } else { meta.bytes };
                    }
                    None if p.is_in_tier(meta) => status.copied_bytes += meta.bytes,
                    // The leader uploads, and says so.
                    None if !leads => {}
                    None => status.waiting_bytes += meta.bytes,
                }
            }
            if leads && !p.is_copied() {
                let since = [status.waiting_since_ms, p.waits_since_ms];
                status.waiting_since_ms = since.into_iter().flatten().min();
            }
        }
        status
    }
}

/// When a segment is uploaded.
struct Policy {
    now: Now,
    leads: bool,
    term: Epoch,
    after_ms: u64,
    large_bytes: u64,
}

/// What there is to do for a partition.
enum Work {
    Store(TierJob),
    Look,
}

impl Policy {
    fn work(&self, partition: PartitionId, p: &Partition) -> Option<Work> {
        if p.tier_out || p.config.is_none() {
            return None;
        }
        let job = self.leads.then(|| self.job(partition, p)).flatten();
        let look = match &job {
            Some(_) => p.looks.must,
            None => p.looks.wanted || p.looks.must && self.leads && p.has_remote(),
        };
        match (job, look) {
            (_, true) if self.now.mono_us < p.looks.after_us => None,
            (_, true) => Some(Work::Look),
            (job, false) => job.map(Work::Store),
        }
    }

    /// What is to be uploaded or let go of, if anything.
    fn job(&self, partition: PartitionId, p: &Partition) -> Option<TierJob> {
        let config = p.config.as_ref()?;
        if p.is_copied() && !p.tier_stale {
            return None;
        }
        // What was rewritten is to replace what the tier has of it at once.
        let all = p.tier_stale || is_too_much(p, config) || self.waited_enough(p);
        let missing = p.settled.iter().filter(|m| !p.is_in_tier(m));
        // What another leader has compacted is replaced at once: there are to be no gaps meanwhile.
        let most = if config.compact {
            usize::MAX
        } else {
            UPLOADS_MAX
        };
        let upload: Vec<SettledMeta> = missing
            // In order: what the tier has is to have no gaps.
            .take_while(|m| m.next_offset > p.stored_start && (all || m.bytes >= self.large_bytes))
            .take(most)
            .cloned()
            .collect();
        if upload.is_empty() && !p.tier_stale {
            return None;
        }
        let kept = |m: &&SettledMeta| m.next_offset > p.stored_start;
        let had = |m: &SettledMeta| p.copy_of(m.id()).map(|_| m.id());
        Some(TierJob {
            partition,
            term: self.term,
            replaces: config.compact,
            start: p.stored_start,
            keep: p.settled.iter().filter(kept).filter_map(had).collect(),
            upload,
        })
    }

    /// Whether small segments have waited long enough for others to be put together with.
    fn waited_enough(&self, p: &Partition) -> bool {
        let due_ms = |since: i64| since.saturating_add_unsigned(self.after_ms);
        p.waits_since_ms
            .is_some_and(|since| due_ms(since) <= self.now.unix_ms)
    }
}

impl Partition {
    /// Notes since when it has segments without a copy. By the node's clock: what producers say of the
    /// time of a record may lie in the future, and would keep it from the tier for ever.
    pub(super) fn note_wait(&mut self, now: Now) {
        if self.is_copied() {
            self.waits_since_ms = None;
        } else {
            self.waits_since_ms.get_or_insert(now.unix_ms);
        }
    }

    /// Whether the tier has everything that is settled.
    fn is_copied(&self) -> bool {
        self.settled.len() == self.tiered.len() || self.settled.iter().all(|m| self.is_in_tier(m))
    }

    /// Whether something is in the tier only.
    fn has_remote(&self) -> bool {
        self.tiered.values().any(|t| !t.local)
    }

    /// Notes copies that were made; `shared` where other leaders have made some.
    fn take_copies(&mut self, copies: Vec<(SegmentId, Tiered)>, shared: bool) {
        let compact = self.config.as_ref().is_some_and(|c| c.compact);
        for (id, copy) in copies {
            // What was rewritten meanwhile has no use for it.
            let Some(meta) = self.settled.iter().find(|m| m.id() == id) else {
                self.tier_stale = true;
                continue;
            };
            let (first, next) = (meta.first_offset, meta.next_offset);
            self.tiered.insert(first, copy);
            if shared && !compact {
                self.note_in_tier(first, next);
            }
        }
    }
}

/// Whether more is kept here than should be, were it in the tier.
fn is_too_much(p: &Partition, config: &PartitionConfig) -> bool {
    let missing = p.settled.iter().filter(|m| !p.is_in_tier(m));
    let bytes: u64 = missing.map(|m| m.bytes).sum();
    config.local_retention_bytes.is_some_and(|max| bytes > max)
}

/// Drops what has expired and the tier has let go of.
fn let_go(p: &mut Partition, start: Offset, out: &mut Outbox) {
    let mut dropped = Vec::new();
    while let Some(meta) = p.settled.pop_front_if(|m| m.next_offset <= start) {
        p.tiered.remove(&meta.first_offset);
        dropped.push(meta.id());
    }
    if !dropped.is_empty() {
        out.push(Output::DropSettled(dropped));
    }
}

/// Bytes of a partition in the hot log.
fn hot_bytes(log: &ShardLog, id: PartitionId) -> u64 {
    log.hot_runs(id).map(|r| u64::from(r.bytes)).sum()
}

/// How many of the oldest local files are not to be kept here, once the tier has them.
fn surplus(p: &Partition, now_ms: i64, hot_bytes: u64) -> usize {
    let Some(config) = p.config.as_ref().filter(|c| !c.compact) else {
        return 0;
    };
    let mut bytes = hot_bytes + p.local().map(|m| m.bytes).sum::<u64>();
    let is_due = |meta: &&SettledMeta| {
        let too_much = config
            .local_retention_bytes
            .is_some_and(|max| bytes - meta.bytes >= max);
        let too_old = config
            .local_retention_ms
            .is_some_and(|ms| meta.max_timestamp.saturating_add_unsigned(ms) < now_ms);
        let expired = meta.next_offset <= p.stored_start;
        bytes -= meta.bytes;
        too_much || too_old || expired
    };
    p.local().take_while(is_due).count()
}

/// Up to `due` of the oldest segments whose local file can go; it is noted that they are gone.
fn to_forget(p: &mut Partition, due: usize) -> Vec<(SegmentId, Tiered)> {
    let local = false;
    let copied = |m: &SettledMeta| {
        Some((
            m.id(),
            Tiered {
                local,
                ..p.copy_of(m.id())?
            },
        ))
    };
    let forgotten: Vec<_> = p.local().take(due).map_while(copied).collect();
    for (id, copy) in &forgotten {
        p.tiered.insert(id.first_offset, *copy);
    }
    forgotten
}
