//! The tier: which settled segments get a copy there, and which local files can go for it.
//!
//! ```text
//! settled --(large or old enough)--> job out --> copied, local --(local retention)--> remote only
//!                                                  |                                     |
//!                                                  +------ expired: the tier lets go ----+--> dropped
//! ```
//! The driver answers a job when the manifest of the tier is written and the copies were read back. Of
//! a compacted topic every local file stays: compaction reads all of it.

use super::Shard;
use super::partition::Partition;
use super::rewrite::SMALL_PART;
use crate::input::{Now, PartitionConfig};
use crate::output::{Outbox, Output, TierJob, TierStatus};
use flowstone_storage::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::{Offset, PartitionId};
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
            now_ms: now.unix_ms,
            after_ms,
            large_bytes: self.config.log.segment_bytes / SMALL_PART,
        })
    }

    fn give_out_jobs(&mut self, policy: &Policy, out: &mut Outbox) {
        let behind = self.tier.last.map_or(Bound::Unbounded, Bound::Excluded);
        let first = self.partitions.range((behind, Bound::Unbounded));
        let order = first.chain(&self.partitions).take(self.partitions.len());
        let room = JOBS_MAX - self.tier.jobs_out;
        let jobs: Vec<TierJob> = order
            .filter_map(|(id, p)| policy.job(*id, p))
            .take(room)
            .collect();
        self.tier.has_more = jobs.len() == room;
        self.tier.last = jobs.last().map(|job| job.partition);
        for job in jobs {
            self.give_out(job, out);
        }
    }

    fn give_out(&mut self, job: TierJob, out: &mut Outbox) {
        let p = self.partitions.get_mut(&job.partition);
        let p = p.expect("the job is one of its partitions");
        (p.tier_out, p.tier_stale) = (true, false);
        self.tier.jobs_out += 1;
        out.push(Output::Tier(job));
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
        if let Some(job) = p.and_then(|p| policy.job(partition, p)) {
            self.give_out(job, out);
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
        let p = self.partitions.get_mut(&partition);
        match (p, result) {
            (Some(p), Ok(copies)) => {
                p.tier_out = false;
                for (id, copy) in copies {
                    // What was rewritten meanwhile has no use for it.
                    match p.settled.iter().any(|m| m.id() == id) {
                        true => drop(p.tiered.insert(id.first_offset, copy)),
                        false => p.tier_stale = true,
                    }
                }
                let_go(p, start, out);
                p.note_wait(now);
                self.ask_again(now, partition, out);
            }
            (Some(p), Err(e)) => {
                (p.tier_out, p.tier_stale) = (false, true);
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
        for (id, p) in &mut self.partitions {
            if p.tiered.is_empty() {
                continue;
            }
            let hot = self.log.hot_runs(*id).map(|r| u64::from(r.bytes)).sum();
            forgotten.extend(to_forget(p, now.unix_ms, hot));
        }
        if !forgotten.is_empty() {
            out.push(Output::ForgetLocal(forgotten));
        }
    }

    pub(super) fn tier_status(&self) -> TierStatus {
        let mut status = TierStatus {
            failing: self.tier.failing,
            ..TierStatus::default()
        };
        if self.config.tier_after_ms.is_none() {
            return status;
        }
        for p in self.partitions.values() {
            for meta in &p.settled {
                match p.copy_of(meta.id()) {
                    Some(copy) => {
                        status.copied_bytes += meta.bytes;
                        status.remote_bytes += if copy.local { 0 } else { meta.bytes };
                    }
                    None => status.waiting_bytes += meta.bytes,
                }
            }
            if !p.is_copied() {
                let since = [status.waiting_since_ms, p.waits_since_ms];
                status.waiting_since_ms = since.into_iter().flatten().min();
            }
        }
        status
    }
}

/// When a segment is uploaded.
struct Policy {
    now_ms: i64,
    after_ms: u64,
    large_bytes: u64,
}

impl Policy {
    /// What there is to do for a partition, if anything.
    fn job(&self, partition: PartitionId, p: &Partition) -> Option<TierJob> {
        let config = p.config.as_ref()?;
        if p.tier_out || p.is_copied() && !p.tier_stale {
            return None;
        }
        // What was rewritten is to replace what the tier has of it at once.
        let all = p.tier_stale || is_too_much(p, config) || self.waited_enough(p);
        let missing = p.settled.iter().filter(|m| p.copy_of(m.id()).is_none());
        let upload: Vec<SettledMeta> = missing
            // In order: what the tier has is to have no gaps.
            .take_while(|m| m.next_offset > p.stored_start && (all || m.bytes >= self.large_bytes))
            .take(UPLOADS_MAX)
            .cloned()
            .collect();
        if upload.is_empty() && !p.tier_stale {
            return None;
        }
        let kept = |m: &&SettledMeta| m.next_offset > p.stored_start;
        let had = |m: &SettledMeta| p.copy_of(m.id()).map(|_| m.id());
        Some(TierJob {
            partition,
            start: p.stored_start,
            keep: p.settled.iter().filter(kept).filter_map(had).collect(),
            upload,
        })
    }

    /// Whether small segments have waited long enough for others to be put together with.
    fn waited_enough(&self, p: &Partition) -> bool {
        let due_ms = |since: i64| since.saturating_add_unsigned(self.after_ms);
        p.waits_since_ms
            .is_some_and(|since| due_ms(since) <= self.now_ms)
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

    /// Whether every settled segment has a copy.
    fn is_copied(&self) -> bool {
        self.settled.len() == self.tiered.len()
    }
}

/// Whether more is kept here than should be, were it in the tier.
fn is_too_much(p: &Partition, config: &PartitionConfig) -> bool {
    let missing = p.settled.iter().filter(|m| p.copy_of(m.id()).is_none());
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

/// Segments of a partition whose local file can go; it is noted that they are gone.
fn to_forget(p: &mut Partition, now_ms: i64, hot_bytes: u64) -> Vec<(SegmentId, Tiered)> {
    let Some(config) = p.config.as_ref().filter(|c| !c.compact) else {
        return Vec::new();
    };
    let has_file = |m: &&SettledMeta| p.copy_of(m.id()).is_none_or(|t| t.local);
    let local = p.settled.iter().filter(has_file);
    let mut bytes = hot_bytes + local.clone().map(|m| m.bytes).sum::<u64>();
    let mut forgotten = Vec::new();
    for meta in local {
        let too_much = config
            .local_retention_bytes
            .is_some_and(|max| bytes - meta.bytes >= max);
        let too_old = config
            .local_retention_ms
            .is_some_and(|ms| meta.max_timestamp.saturating_add_unsigned(ms) < now_ms);
        let expired = meta.next_offset <= p.stored_start;
        let copy = p.copy_of(meta.id());
        match copy {
            Some(copy) if too_much || too_old || expired => {
                bytes -= meta.bytes;
                let local = false;
                forgotten.push((meta.id(), Tiered { local, ..copy }));
            }
            // The oldest go first.
            _ => break,
        }
    }
    for (id, copy) in &forgotten {
        p.tiered.insert(id.first_offset, *copy);
    }
    forgotten
}
