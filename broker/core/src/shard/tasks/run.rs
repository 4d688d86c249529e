//! Running tasks: starting, stepping, and feeding those that are behind.

use super::feed::Feed;
use super::latency::Latency;
use super::{CATCH_UP_BYTES, LIMITS, Running, STEP_INPUT_BYTES, STEPS_PER_TURN, refuse};
use crate::input::{Now, TaskConfig};
use crate::output::{Outbox, Output};
use crate::shard::Shard;
use crate::shard::fetch::Where;
use bytes::Bytes;
use flowstone_processor::{Delta, Input, Task};
use flowstone_storage::log::ReadLimits;
use flowstone_wire::{BatchHeader, PartitionId, batch};
use std::collections::BTreeSet;

impl Shard {
    /// Starts a pipeline from where its last task on this shard stopped, or from the start of its
    /// inputs.
    pub(in crate::shard) fn start_task(&mut self, now: Now, config: TaskConfig, out: &mut Outbox) {
        self.tasks.clock = now;
        if self.tasks.resume(&config) {
            return;
        }
        let stored = self.tasks.entries.remove(&config.id).unwrap_or_default();
        let entries = stored.entries.iter().map(|(k, v)| (&k[..], &v[..]));
        let mut task = match Task::load(&config.pipeline, entries) {
            Ok(task) => task,
            Err(e) => return refuse(&config, &e, out),
        };
        task.leave_out(&stored.left_out);
        for (partition, _) in &config.inputs {
            let start = self
                .partitions
                .get(partition)
                .map_or_else(Default::default, |p| p.start);
            let start = config
                .starts
                .get(partition)
                .map_or(start, |s| start.max(*s));
            task.add_partition(*partition, start);
        }
        for orphan in self.tasks.orphans.remove(&config.id).unwrap_or_default() {
            match flowstone_processor::DeltaState::decode(&orphan.bytes) {
                Ok(delta) => task.apply(&delta),
                Err(e) => return refuse(&config, &e, out),
            }
            if orphan.stored {
                self.tasks.folded.push((config.id, orphan.lsn));
            }
        }
        for ((partition, _), source) in config.inputs.iter().zip(&config.sources) {
            task.set_source(*partition, *source);
        }
        let slot = self.tasks.running.len();
        for (partition, _) in &config.inputs {
            self.partitions
                .entry(*partition)
                .or_default()
                .tasks
                .push(slot);
        }
        let feeds = config.inputs.iter().map(|(p, _)| Feed::new(*p)).collect();
        self.tasks.running.push(Some(Running {
            config,
            task,
            feeds,
            ready: true,
            stopped: false,
            held: None,
            reading: false,
            stale: false,
            full: false,
            starved: false,
            retry_at_us: None,
            error: None,
            latency: Latency::default(),
        }));
    }

    /// Forgets what is of none of these pipelines, and not of a newer one.
    pub(in crate::shard) fn forget_tasks(&mut self, known: &BTreeSet<u32>, below: u32) {
        let is_gone = |id: u32| id < below && !known.contains(&id);
        self.materializer.wanted |= self.tasks.forget(is_gone);
    }

    /// Runs every task that has something to do; a task's output may be another's input.
    pub(in crate::shard) fn run_tasks(&mut self, now: Now, out: &mut Outbox) {
        if self.draining {
            return;
        }
        self.tasks.clock = now;
        self.ended(now);
        for _ in 0..STEPS_PER_TURN {
            let mut any = false;
            for slot in 0..self.tasks.running.len() {
                let ready = self.tasks.running[slot]
                    .as_ref()
                    .is_some_and(Running::wants_a_turn);
                if !ready || self.fenced.is_some() {
                    continue;
                }
                // The task is out of the list while it steps, so that the shard is free for it.
                let Some(mut running) = self.tasks.running[slot].take() else {
                    continue;
                };
                any |= self.step_task(now, &mut running, out);
                self.tasks.running[slot] = Some(running);
            }
            if !any {
                return;
            }
        }
    }

    /// One step of one task. Returns whether it did something.
    fn step_task(&mut self, now: Now, r: &mut Running, out: &mut Outbox) -> bool {
        r.ready = false;
        if r.retry_at_us.is_some_and(|at| now.mono_us < at) {
            return false;
        }
        r.starved = false;
        if self.undurable_bytes > self.config.pending_bytes / 2 {
            // Producers come first; the tasks go on when the disk has caught up.
            r.starved = true;
            return false;
        }
        if !self.outbound.has_room(r.config.id) {
            // Other shards come first; what they take gives room.
            r.starved = true;
            return false;
        }
        if r.reading {
            return false;
        }
        if r.held.is_none() && !r.has_room() {
            self.materializer.wanted = true;
            return false;
        }
        r.retry_at_us = None;
        let held = r.held.take();
        let fresh = held.is_none();
        let delta = match held {
            Some(delta) => Some(delta),
            None => {
                let computed = self.compute(now, r, out);
                r.ask_for_state(out);
                match computed {
                    Ok(delta) => delta,
                    Err(e) => {
                        r.fail(now, e);
                        return false;
                    }
                }
            }
        };
        let Some(delta) = delta else { return false };
        if let Err(why) = self.append_group(now, &r.config, &delta, out) {
            r.held = Some(delta);
            r.fail(now, why);
            return false;
        }
        r.error = None;
        r.ready = true;
        self.tasks.unended = true;
        for feed in &mut r.feeds {
            let position = r.task.position(feed.partition).unwrap_or_default();
            feed.done(position, |appended_us| {
                // A step that had to wait for room says nothing of how fast the task is.
                if fresh {
                    r.latency.begun(appended_us);
                }
            });
        }
        true
    }

    fn compute(
        &mut self,
        now: Now,
        r: &mut Running,
        out: &mut Outbox,
    ) -> Result<Option<Delta>, String> {
        let mut bodies: Vec<(PartitionId, BatchHeader, Bytes)> = Vec::new();
        let mut waits = false;
        for feed in &r.feeds {
            if feed.cold_out || self.is_behind(&r.task, feed, None) {
                r.task.has_unread(feed.partition, now.unix_ms);
            }
        }
        for (at, feed) in r.feeds.iter_mut().enumerate() {
            let source = r.config.sources.get(at).copied().unwrap_or_default();
            let comes_first = r.config.pipeline.source_options(source).first;
            if waits && !comes_first {
                continue;
            }
            r.ready |= self.refill(now, r.config.id, &r.task, feed, out)?;
            let mut bytes = 0;
            for entry in feed.entries() {
                if bytes >= STEP_INPUT_BYTES {
                    break;
                }
                bytes += entry.bytes.len();
                let (header, body) = batch::records(&entry.bytes).map_err(|e| e.to_string())?;
                bodies.push((feed.partition, header, body));
            }
            waits |= comes_first && self.is_behind(&r.task, feed, bodies.last());
        }
        let inputs: Vec<Input<'_>> = bodies
            .iter()
            .map(|(partition, header, body)| Input {
                partition: *partition,
                header: *header,
                body,
            })
            .collect();
        r.task
            .step(now.unix_ms, &inputs, LIMITS)
            .map_err(|e| e.to_string())
    }

    /// Whether more is written of a feed's partition than a step is given with `last`, its last batch.
    fn is_behind(
        &self,
        task: &Task,
        feed: &Feed,
        last: Option<&(PartitionId, BatchHeader, Bytes)>,
    ) -> bool {
        let Some(p) = self.partitions.get(&feed.partition) else {
            return false;
        };
        let position = task.position(feed.partition).unwrap_or_default();
        let given = last
            .filter(|(partition, ..)| *partition == feed.partition)
            .map_or(position, |(_, header, _)| header.next_offset());
        p.behind_gap(given.max(position).max(p.start)) < p.written
    }

    /// Gives an empty feed what the log has; asks the driver for what only settled segments have.
    /// Returns whether there is more that is only staged, or why there is no going on.
    fn refill(
        &self,
        now: Now,
        id: u32,
        task: &Task,
        feed: &mut Feed,
        out: &mut Outbox,
    ) -> Result<bool, String> {
        let Some(p) = self.partitions.get(&feed.partition) else {
            return Ok(false);
        };
        if !feed.is_empty() || feed.cold_out {
            return Ok(false);
        }
        // Retention may have overtaken the task.
        let at = task
            .position(feed.partition)
            .unwrap_or_default()
            .max(p.start);
        let at = p.behind_gap(at);
        if at >= p.written {
            feed.reach(at);
            return Ok(at < p.next);
        }
        let limits = ReadLimits {
            max_bytes: CATCH_UP_BYTES,
            upto: self.log.written(),
        };
        match self.find(feed.partition, p, at, limits) {
            Where::Hot(slices) => feed.fill(now.mono_us, &slices),
            Where::Settled(segment) => {
                feed.cold_out = true;
                out.push(Output::ReadForTask {
                    id,
                    segment,
                    offset: at,
                });
            }
            Where::Lost(lost) => return Err(lost.to_string()),
        }
        Ok(false)
    }
}
