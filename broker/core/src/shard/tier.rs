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

/// What a shard knows of the work of its tier.
#[derive(Debug, Default)]
pub(super) struct Tier {
    jobs_out: usize,
    /// After a failure nothing is asked for before this.
    after_us: u64,
    failing: bool,
    /// The partition that was looked at last: they take turns.
    last: Option<PartitionId>,
}

impl Shard {
    /// Gives out jobs for partitions of which the tier lacks something, or has too much.
    pub(super) fn ask_for_tier(&mut self, now: Now, out: &mut Outbox) {
        let Some(after_ms) = self.config.tier_after_ms else {
            return;
        };
        let idle = self.draining || self.fenced.is_some() || !self.knows_all;
        if idle || now.mono_us < self.tier.after_us || self.tier.jobs_out == JOBS_MAX {
            return;
        }
        let policy = Policy {
            now_ms: now.unix_ms,
            after_ms,
            large_bytes: self.config.log.segment_bytes / SMALL_PART,
        };
        let behind = self.tier.last.map_or(Bound::Unbounded, Bound::Excluded);
        let first = self.partitions.range((behind, Bound::Unbounded));
        let order = first.chain(&self.partitions).take(self.partitions.len());
        let room = JOBS_MAX - self.tier.jobs_out;
        let jobs: Vec<TierJob> = order
            .filter_map(|(id, p)| policy.job(*id, p))
            .take(room)
            .collect();
        self.tier.last = jobs.last().map(|job| job.partition);
        for job in jobs {
            let p = self.partitions.get_mut(&job.partition);
            let p = p.expect("the job is one of its partitions");
            (p.tier_out, p.tier_stale) = (true, false);
            self.tier.jobs_out += 1;
            out.push(Output::Tier(job));
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
                self.ask_for_tier(now, out);
            }
            (Some(p), Err(e)) => {
                (p.tier_out, p.tier_stale) = (false, true);
                self.tier.after_us = now.mono_us + RETRY_US;
                out.push(Output::Report(format!(
                    "the tier could not be brought up to partition {partition}, which is tried again: {e}"
                )));
            }
            // Deleted meanwhile: the catalog remembers that the tier has something of it.
            (None, _) => {}
        }
        self.finish_drain(out);
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
                    None => {
                        let since = status.waiting_since_ms.unwrap_or(i64::MAX);
                        status.waiting_since_ms = Some(since.min(meta.max_timestamp));
                        status.waiting_bytes += meta.bytes;
                    }
                }
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
        let complete = p.settled.len() == p.tiered.len() && !p.tier_stale;
        if p.tier_out || complete {
            return None;
        }
        // What was rewritten is to replace what the tier has of it at once.
        let all = p.tier_stale || is_too_much(p, config);
        let missing = p.settled.iter().filter(|m| p.copy_of(m.id()).is_none());
        let upload: Vec<SettledMeta> = missing
            // In order: what the tier has is to have no gaps.
            .take_while(|m| m.next_offset > p.stored_start && (all || self.is_ready(m)))
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

    /// Whether a segment will not be put together with others, or is too old to wait for that.
    fn is_ready(&self, meta: &SettledMeta) -> bool {
        let old_at = meta.max_timestamp.saturating_add_unsigned(self.after_ms);
        meta.bytes >= self.large_bytes || old_at <= self.now_ms
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
