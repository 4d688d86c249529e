//! The tasks of a shard: pipelines that run right after the append, ahead of the disk.
//!
//! ```text
//! append --> feed of the task --> step --> one group: output batches, then the task's delta
//!                ^
//!                +-- log (behind), settled segments (far behind)
//! ```

mod feed;
mod group;
mod latency;

use super::Shard;
use super::partition::Partition;
use crate::input::{Now, TaskConfig};
use crate::output::{Outbox, Output, SegmentId};
use bytes::Bytes;
use feed::Feed;
use flowstone_processor::{Delta, Input, StepLimits, Task};
use flowstone_storage::log::{Appended, ReadLimits};
use flowstone_storage::state::Change;
use flowstone_wire::native::{GroupOffset, PipelineStatus};
use flowstone_wire::{BatchHeader, Failure, Lsn, PartitionId, batch};
use latency::Latency;
use std::collections::BTreeMap;

const LIMITS: StepLimits = StepLimits {
    max_records: 4096,
    max_output_bytes: 1 << 20,
};
/// Bytes of input that one step may look at.
const STEP_INPUT_BYTES: usize = 1 << 20;
/// Bytes read from the log for a task that is behind.
const CATCH_UP_BYTES: usize = 1 << 20;
/// Steps of one task in one turn: more would make producers wait for it.
const STEPS_PER_TURN: usize = 16;
/// After an input that could not be read a task tries again this much later.
const READ_RETRY_US: u64 = 1_000_000;

/// A key and a value of a task's stored state.
type Entry = (Vec<u8>, Vec<u8>);

/// A delta that a task has not taken in: its pipeline does not run (yet).
#[derive(Debug)]
struct Orphan {
    lsn: Lsn,
    bytes: Vec<u8>,
    /// Whether the state store has it.
    stored: bool,
}

/// A running task.
struct Running {
    config: TaskConfig,
    task: Task,
    feeds: Vec<Feed>,
    /// There may be something to do.
    ready: bool,
    /// It was told to stop; what it has done stays.
    stopped: bool,
    /// A step that is computed and not appended: there was no room.
    held: Option<Delta>,
    /// After an error nothing is tried before this.
    retry_at_us: Option<u64>,
    error: Option<String>,
    latency: Latency,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("id", &self.config.id)
            .finish_non_exhaustive()
    }
}

/// All tasks of the shard.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// Indexes are kept: partitions refer to them.
    running: Vec<Option<Running>>,
    /// Stored state of pipelines that do not run.
    entries: BTreeMap<u32, Vec<Entry>>,
    orphans: BTreeMap<u32, Vec<Orphan>>,
    /// Rows of deltas that were taken in and can go.
    folded: Vec<(u32, Lsn)>,
    /// A task stopped because too much waits for the disk.
    starved: bool,
    /// Milliseconds since 1970 and microseconds of the driver's clock, at the last step.
    clock: Now,
}

impl Tasks {
    pub(super) fn load_entry(&mut self, id: u32, key: &[u8], value: &[u8]) {
        self.entries
            .entry(id)
            .or_default()
            .push((key.to_vec(), value.to_vec()));
    }

    pub(super) fn load_delta(&mut self, id: u32, lsn: Lsn, bytes: Vec<u8>, stored: bool) {
        self.orphans
            .entry(id)
            .or_default()
            .push(Orphan { lsn, bytes, stored });
    }

    /// Gives a new batch to the tasks that read its partition.
    pub(super) fn notice(&mut self, now: Now, readers: &[usize], id: PartitionId, new: Appended) {
        for reader in readers {
            let Some(Some(r)) = self.running.get_mut(*reader) else {
                continue;
            };
            r.ready = true;
            if let Some(feed) = r.feeds.iter_mut().find(|f| f.partition == id) {
                feed.offer(now.mono_us, &new);
            }
        }
    }

    pub(super) fn give_cold(
        &mut self,
        now: Now,
        id: u32,
        partition: PartitionId,
        result: Result<Vec<Bytes>, String>,
    ) {
        let Some(r) = self
            .running
            .iter_mut()
            .flatten()
            .find(|r| r.config.id == id)
        else {
            return;
        };
        let Some(feed) = r.feeds.iter_mut().find(|f| f.partition == partition) else {
            return;
        };
        feed.cold_out = false;
        match result {
            Ok(slices) => {
                feed.fill(now.mono_us, &slices);
                r.ready = true;
            }
            Err(e) => r.fail(now, e),
        }
    }

    /// The driver's time at which a task has something to do by itself.
    pub(super) fn deadline_us(&self) -> Option<u64> {
        let due = |r: &Running| {
            let timer = r.task.deadline().map(|at_ms| {
                let wait_ms = at_ms.saturating_sub(self.clock.unix_ms).max(0) as u64;
                self.clock
                    .mono_us
                    .saturating_add(wait_ms.saturating_mul(1000))
            });
            timer.into_iter().chain(r.retry_at_us).min()
        };
        let at_once = self.any_ready().then_some(self.clock.mono_us);
        let due = self
            .running
            .iter()
            .flatten()
            .filter(|r| !r.stopped)
            .filter_map(due)
            .min();
        at_once.into_iter().chain(due).min()
    }

    /// The disk has caught up.
    pub(super) fn feed_starved(&mut self) {
        if std::mem::take(&mut self.starved) {
            self.running
                .iter_mut()
                .flatten()
                .for_each(|r| r.ready = true);
        }
    }

    pub(super) fn wake_due(&mut self, now: Now) {
        for r in self.running.iter_mut().flatten() {
            let timer = r.task.deadline().is_some_and(|at| at <= now.unix_ms);
            let retry = r.retry_at_us.is_some_and(|at| at <= now.mono_us);
            r.ready |= timer || retry;
        }
    }

    /// Stops a pipeline; its state stays, and what is not stored of it will be.
    pub(super) fn stop(&mut self, id: u32) {
        if let Some(r) = self
            .running
            .iter_mut()
            .flatten()
            .find(|r| r.config.id == id)
        {
            r.stopped = true;
            r.ready = false;
        }
    }

    /// Goes on with a pipeline that was stopped in this process. Returns whether there is one.
    fn resume(&mut self, id: u32) -> bool {
        let known = self
            .running
            .iter_mut()
            .flatten()
            .find(|r| r.config.id == id);
        known.is_some_and(|r| {
            r.stopped = false;
            r.ready = true;
            true
        })
    }

    /// Whether a task could go on at once.
    pub(super) fn any_ready(&self) -> bool {
        self.running.iter().flatten().any(|r| r.ready && !r.stopped)
    }

    /// What the state store must learn.
    pub(super) fn take_changes(&mut self, changes: &mut Vec<Change>) {
        use super::materialize::{delta_key, task_key};
        for r in self.running.iter_mut().flatten() {
            let id = r.config.id;
            changes.extend(
                r.task
                    .take_dirty()
                    .into_iter()
                    .map(|(k, v)| (task_key(id, &k), v)),
            );
        }
        for (id, lsn) in self.folded.drain(..) {
            changes.push((delta_key(id, lsn), None));
        }
        for (id, orphans) in &mut self.orphans {
            for o in orphans.iter_mut().filter(|o| !o.stored) {
                o.stored = true;
                changes.push((delta_key(*id, o.lsn), Some(o.bytes.clone())));
            }
        }
    }

    pub(super) fn status(
        &self,
        partitions: &BTreeMap<PartitionId, Partition>,
    ) -> Vec<PipelineStatus> {
        self.running
            .iter()
            .flatten()
            .map(|r| r.status(partitions))
            .collect()
    }
}

/// Reports a pipeline that cannot run here.
fn refuse(config: &TaskConfig, why: &Failure, out: &mut Outbox) {
    let name = config.pipeline.name();
    out.push(Output::Report(format!(
        "pipeline '{name}' does not run: {why}"
    )));
}

impl Running {
    fn fail(&mut self, now: Now, error: String) {
        self.error = Some(error);
        self.retry_at_us = Some(now.mono_us + READ_RETRY_US);
        self.ready = false;
    }

    fn status(&self, partitions: &BTreeMap<PartitionId, Partition>) -> PipelineStatus {
        let end = |id: PartitionId| partitions.get(&id).map_or(0, |p| p.next.0);
        let stats = self.task.stats();
        PipelineStatus {
            name: self.config.pipeline.name().to_string(),
            state: if self.error.is_some() {
                "retrying"
            } else {
                "running"
            }
            .to_string(),
            positions: self
                .task
                .positions()
                .map(|(partition, offset)| GroupOffset {
                    partition,
                    offset,
                    note: self.error.clone().unwrap_or_default(),
                })
                .collect(),
            lag: self
                .task
                .positions()
                .map(|(p, o)| end(p).saturating_sub(o.0))
                .sum(),
            processed: stats.processed,
            emitted: stats.emitted,
            failed: stats.failed,
            late: stats.late,
            latency_p50_us: self.latency.quantile_us(0.5),
            latency_p99_us: self.latency.quantile_us(0.99),
        }
    }
}

impl Shard {
    /// Starts a pipeline from where its last task on this shard stopped, or from the start of its
    /// inputs.
    pub(super) fn start_task(&mut self, now: Now, config: TaskConfig, out: &mut Outbox) {
        self.tasks.clock = now;
        if self.tasks.resume(config.id) {
            return;
        }
        let entries = self.tasks.entries.remove(&config.id).unwrap_or_default();
        let entries = entries.iter().map(|(k, v)| (&k[..], &v[..]));
        let mut task = match Task::load(&config.pipeline, entries) {
            Ok(task) => task,
            Err(e) => return refuse(&config, &e, out),
        };
        for (partition, _) in &config.inputs {
            let start = self
                .partitions
                .get(partition)
                .map_or_else(Default::default, |p| p.start);
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
            retry_at_us: None,
            error: None,
            latency: Latency::default(),
        }));
    }

    /// Runs every task that has something to do; a task's output may be another's input.
    pub(super) fn run_tasks(&mut self, now: Now, out: &mut Outbox) {
        if self.draining {
            return;
        }
        self.tasks.clock = now;
        for _ in 0..STEPS_PER_TURN {
            let mut any = false;
            for slot in 0..self.tasks.running.len() {
                let ready = self.tasks.running[slot]
                    .as_ref()
                    .is_some_and(|r| r.ready && !r.stopped);
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
        if self.undurable_bytes > self.config.pending_bytes / 2 {
            // Producers come first; the tasks go on when the disk has caught up.
            self.tasks.starved = true;
            return false;
        }
        r.retry_at_us = None;
        let held = r.held.take();
        let fresh = held.is_none();
        let delta = match held {
            Some(delta) => Some(delta),
            None => match self.compute(now, r, out) {
                Ok(delta) => delta,
                Err(e) => {
                    r.fail(now, e);
                    return false;
                }
            },
        };
        let Some(delta) = delta else { return false };
        if let Err(why) = self.append_group(now, &r.config, &delta, out) {
            r.held = Some(delta);
            r.fail(now, why);
            return false;
        }
        r.error = None;
        r.ready = true;
        if fresh {
            for feed in &mut r.feeds {
                let position = r.task.position(feed.partition).unwrap_or_default();
                feed.done(position, |appended_us| {
                    r.latency.note(now.mono_us.saturating_sub(appended_us));
                });
            }
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
        for feed in &mut r.feeds {
            r.ready |= self.refill(now, r.config.id, &r.task, feed, out);
            let mut bytes = 0;
            for entry in feed.entries() {
                if bytes >= STEP_INPUT_BYTES {
                    break;
                }
                bytes += entry.bytes.len();
                let (header, body) = batch::records(&entry.bytes).map_err(|e| e.to_string())?;
                bodies.push((feed.partition, header, body));
            }
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

    /// Gives an empty feed what the log has; asks the driver for what only settled segments have.
    /// Returns whether there is more that is only staged.
    fn refill(&self, now: Now, id: u32, task: &Task, feed: &mut Feed, out: &mut Outbox) -> bool {
        let Some(p) = self.partitions.get(&feed.partition) else {
            return false;
        };
        if !feed.is_empty() || feed.cold_out {
            return false;
        }
        // Retention may have overtaken the task.
        let at = task
            .position(feed.partition)
            .unwrap_or_default()
            .max(p.start);
        if at >= p.written {
            feed.reach(at);
            return at < p.next;
        }
        let hot = self
            .log
            .hot_start(feed.partition)
            .is_some_and(|start| at >= start);
        if hot {
            let limits = ReadLimits {
                max_bytes: CATCH_UP_BYTES,
                upto: self.log.written(),
            };
            let found = self.log.read(feed.partition, at, limits);
            feed.fill(now.mono_us, &found.slices);
        } else if let Some(meta) = p.settled_at(at) {
            feed.cold_out = true;
            let segment = SegmentId {
                partition: feed.partition,
                first_offset: meta.first_offset,
            };
            out.push(Output::ReadForTask {
                id,
                segment,
                offset: at,
            });
        }
        false
    }
}
