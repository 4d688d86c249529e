//! Retention and settling: what is let go, and what is rewritten for keeping.

use super::Shard;
use super::partition::Partition;
use crate::input::Now;
use crate::output::{Outbox, Output};
use flowstone_storage::Error;
use flowstone_storage::settled::{SegmentRuns, SettleInput, SettledMeta};
use flowstone_wire::{Lsn, Offset, PartitionId};
use std::collections::BTreeMap;

/// Segments settled in one go: more would make a restart in the middle repeat more.
pub(super) const SETTLE_SEGMENTS_MAX: usize = 4;
/// A settled segment should have so many bytes: smaller ones cost more for their names than for their
/// records. Up to half of the hot log is settled at once for that.
const FILE_BYTES_WANTED: u64 = 1 << 20;
/// After a settling that failed the next is tried this much later.
const SETTLE_RETRY_US: u64 = 5_000_000;

impl Shard {
    /// Moves the start of partitions whose oldest records have expired and drops settled segments
    /// that are before it.
    pub(super) fn retain(&mut self, now: Now, out: &mut Outbox) {
        let mut dropped = Vec::new();
        // Followers only let go of what they have.
        let tiers = self.config.tier_after_ms.is_some() && self.leads();
        for (id, p) in &mut self.partitions {
            let Some(config) = &p.config else { continue };
            if config.retention_bytes.is_none() && config.retention_ms.is_none() {
                continue;
            }
            let start = kept_from(now, p, &self.log, *id).clamp(p.start, p.committed.max(p.start));
            if start > p.start {
                p.start = start;
                if !std::mem::replace(&mut p.dirty, true) {
                    self.materializer.dirty_partition(*id);
                }
                self.materializer.wanted = true;
            }
            while let Some(gone) = p
                .settled
                .front()
                .filter(|m| m.next_offset <= p.stored_start)
            {
                let id = gone.id();
                if tiers && p.is_in_tier(gone) {
                    // The tier lets go of it first, or nothing would know that it is there.
                    p.tier_stale = true;
                    break;
                }
                p.settled.pop_front();
                dropped.push(id);
            }
        }
        if !dropped.is_empty() {
            out.push(Output::DropSettled(dropped));
        }
    }

    /// Settles the oldest sealed segments where the hot log is larger than it should be.
    pub(super) fn ask_for_settle(&mut self, now: Now, out: &mut Outbox) {
        if self.settle_out
            || !self.knows_all
            || self.fenced.is_some()
            || self.draining
            || now.mono_us < self.settle_after_us
            || self.log.sealed_bytes() <= self.config.hot_bytes
        {
            return;
        }
        let segments = self.segments_to_settle();
        if segments.is_empty() {
            // All that can go is settled; it waits to be applied.
            self.materializer.wanted |= self.materializer.applied < self.settled_upto;
            return;
        }
        self.settle_out = true;
        // A segment that was settled may have grown since: a start made it the last one again.
        let from = |p: &Partition| {
            let settled_end = p.settled.back().map_or(Offset(0), |m| m.next_offset);
            p.stored_start.max(settled_end)
        };
        let keep: BTreeMap<PartitionId, Offset> = self
            .partitions
            .iter()
            .map(|(id, p)| (*id, from(p)))
            .collect();
        let compress = self.config.compress;
        out.push(Output::Settle(SettleInput {
            segments,
            keep,
            compress,
            // Settling is what makes room: it may use half of what others leave alone.
            min_free_bytes: self.config.log.min_free_bytes / 2,
            hurry: self.log.sealed_bytes() > 2 * self.config.hot_bytes,
        }));
    }

    /// The oldest segments that have to go, and more with them where that makes files worth their
    /// names: where many partitions share a segment.
    fn segments_to_settle(&self) -> Vec<SegmentRuns> {
        let over = self.log.sealed_bytes() - self.config.hot_bytes;
        let (mut bytes, mut worth_it) = (0, 0);
        let mut segments: Vec<SegmentRuns> = Vec::new();
        for segment in self.log.sealed() {
            let last = Lsn(segment.next_lsn.0 - 1);
            let enough = bytes >= over && bytes + segment.bytes > worth_it;
            if enough || segments.len() == self.settle_segments || last > self.settled_for_good() {
                break;
            }
            bytes += segment.bytes;
            if last > self.settled_upto {
                let runs = self.log.runs_of(&segment);
                let wanted = (runs.len() as u64).saturating_mul(FILE_BYTES_WANTED);
                worth_it = wanted.min(self.config.hot_bytes / 2);
                segments.push((segment, runs));
            }
        }
        segments
    }

    pub(super) fn settled(
        &mut self,
        now: Now,
        result: Result<(Vec<SettledMeta>, Lsn), Error>,
        out: &mut Outbox,
    ) {
        self.settle_out = false;
        match result {
            Ok((metas, upto)) => {
                self.settled_upto = upto;
                self.settle_segments = SETTLE_SEGMENTS_MAX;
                let mut dropped = Vec::new();
                for meta in metas {
                    match self.partitions.get_mut(&meta.partition) {
                        Some(p) => {
                            p.settled.push_back(meta);
                            p.note_wait(now);
                            p.looks.soon(now);
                        }
                        // Deleted while it was being settled.
                        None => dropped.push(meta.id()),
                    }
                }
                if !dropped.is_empty() {
                    out.push(Output::DropSettled(dropped));
                }
                self.materializer.wanted |= self.materializer.applied < upto;
                self.ask_for_materialize(out);
                self.release(out);
            }
            Err(e) => {
                self.settle_after_us = now.mono_us + SETTLE_RETRY_US;
                // Less at once needs less room.
                self.settle_segments = 1;
                out.push(Output::Report(format!(
                    "settling failed and is tried again: {e}"
                )));
            }
        }
        self.finish_drain(out);
    }
}

/// The first offset that retention keeps.
pub(super) fn kept_from(
    now: Now,
    p: &Partition,
    log: &flowstone_storage::ShardLog,
    id: PartitionId,
) -> Offset {
    let mut from = p.start;
    let config = p.config.clone().unwrap_or_default();
    // Settled segments first, then the runs of the hot log that no settled segment has.
    let settled_end = p.settled.back().map_or(Offset(0), |m| m.next_offset);
    let settled = p
        .settled
        .iter()
        .map(|m| (m.next_offset, m.bytes, m.max_timestamp));
    let hot = || log.hot_runs(id).filter(|r| r.base_offset >= settled_end);
    let hot_bytes: u64 = hot().map(|r| u64::from(r.bytes)).sum();
    let hot = hot().map(|r| (r.next_offset, u64::from(r.bytes), r.max_timestamp));
    let mut total = p.settled_bytes() + hot_bytes;
    let oldest_ms = config
        .retention_ms
        .map(|ms| now.unix_ms.saturating_sub_unsigned(ms));
    for (next, bytes, max_timestamp) in settled.chain(hot) {
        let too_old = oldest_ms.is_some_and(|oldest| max_timestamp < oldest);
        let too_much = config
            .retention_bytes
            .is_some_and(|max| total - bytes >= max);
        if !too_old && !too_much {
            break;
        }
        total -= bytes;
        from = next;
    }
    from
}
