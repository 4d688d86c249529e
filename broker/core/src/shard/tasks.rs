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
mod run;
mod state;

pub use state::read_state;

use super::outbound::Outbound;
use super::partition::Partition;
use crate::input::{Now, TaskConfig};
use crate::output::{Outbox, Output};
use bytes::Bytes;
use feed::Feed;
use flowstone_processor::{Delta, DeltaState, PartStatus, StepLimits, Task};
use flowstone_storage::log::Appended;
use flowstone_storage::state::Change;
use flowstone_wire::native::{GroupOffset, OperatorStatus, PipelineStatus};
use flowstone_wire::{Failure, Lsn, PartitionId};
use latency::Latency;
use state::{Removal, Stored};
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
    /// State of it is being read.
    reading: bool,
    /// What is being read may be older than what was stored since it was asked for.
    stale: bool,
    /// It waits for the state store to take what has changed: its memory is used up.
    full: bool,
    /// It waits for the disk, or for other shards to take what it has for them.
    starved: bool,
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
    entries: BTreeMap<u32, Stored>,
    orphans: BTreeMap<u32, Vec<Orphan>>,
    /// Rows of deltas that were taken in and can go.
    folded: Vec<(u32, Lsn)>,
    /// Keys of rows that belong to nobody any more.
    gone: Vec<Vec<u8>>,
    /// Pipelines of which more rows are to be removed.
    removals: BTreeMap<u32, Removal>,
    /// Steps wait to be told when they ended.
    unended: bool,
    /// Milliseconds since 1970 and microseconds of the driver's clock, at the last step.
    clock: Now,
}

impl Tasks {
    pub(super) fn load_entry(&mut self, id: u32, key: &[u8], value: &[u8]) {
        self.entries.entry(id).or_default().push(key, value);
    }

    pub(super) fn load_delta(&mut self, id: u32, lsn: Lsn, bytes: Vec<u8>, stored: bool) {
        self.orphans
            .entry(id)
            .or_default()
            .push(Orphan { lsn, bytes, stored });
    }

    /// The task of a pipeline, if it runs here and does not step just now.
    fn by_id(&mut self, id: u32) -> Option<&mut Running> {
        let mut all = self.running.iter_mut().flatten();
        all.find(|r| r.config.id == id)
    }

    /// Takes what a step has changed into the task, if it is here, or keeps it for that.
    pub(super) fn take_delta(&mut self, id: u32, lsn: Lsn, bytes: Vec<u8>) -> Result<(), Failure> {
        match self.by_id(id) {
            Some(r) => r.task.apply(&DeltaState::decode(&bytes)?),
            None => self.load_delta(id, lsn, bytes, false),
        }
        Ok(())
    }

    /// All tasks have something to look at.
    pub(super) fn wake_all(&mut self) {
        self.running
            .iter_mut()
            .flatten()
            .for_each(|r| r.ready = true);
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
        let Some(r) = self.by_id(id) else {
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
        let at_once = self.any_ready().then_some(self.clock.mono_us);
        let due = self
            .running
            .iter()
            .flatten()
            .filter(|r| !r.stopped || r.held.is_some())
            // These wait for the state store.
            .filter(|r| !r.full && !r.reading)
            .filter_map(|r| r.due_us(self.clock))
            .min();
        at_once.into_iter().chain(due).min()
    }

    /// The disk has caught up, or other shards have.
    pub(super) fn feed_starved(&mut self) {
        for r in self.running.iter_mut().flatten() {
            r.ready |= std::mem::take(&mut r.starved);
        }
    }

    pub(super) fn wake_due(&mut self, now: Now) {
        for r in self.running.iter_mut().flatten() {
            r.ready |= r.due_us(now).is_some_and(|at_us| at_us <= now.mono_us);
        }
    }

    /// Stops a pipeline; its state stays, and what is not stored of it will be.
    pub(super) fn stop(&mut self, id: u32) {
        if let Some(r) = self.by_id(id) {
            r.stopped = true;
            // What is computed goes into the log first: the state is that of after it.
            r.ready = r.held.is_some();
        }
    }

    /// Ends the tasks of pipelines that are gone for good. What is stored of them goes bit by bit. Returns whether
    /// the state store has to learn something.
    pub(super) fn forget(&mut self, is_gone: impl Fn(u32) -> bool) -> bool {
        use super::materialize::delta_key;
        for slot in &mut self.running {
            if let Some(r) = slot.take_if(|r| is_gone(r.config.id)) {
                let first = if r.reading {
                    Removal::Waiting
                } else {
                    Removal::Ask
                };
                self.removals.insert(r.config.id, first);
            }
        }
        let entries = self.entries.extract_if(.., |id, _| is_gone(*id));
        self.removals
            .extend(entries.map(|(id, _)| (id, Removal::Ask)));
        let orphans = self.orphans.extract_if(.., |id, _| is_gone(*id));
        let stored = orphans.flat_map(|(id, all)| {
            let stored = all.into_iter().filter(|o| o.stored);
            stored.map(move |o| delta_key(id, o.lsn))
        });
        self.gone.extend(stored);
        !self.gone.is_empty()
    }

    /// Goes on with a pipeline that was stopped in this process, as it is now. Returns whether there is one.
    fn resume(&mut self, config: &TaskConfig) -> bool {
        self.by_id(config.id).is_some_and(|r| {
            match r.task.become_of(&config.pipeline) {
                Ok(()) => {
                    // Its inputs, and what is fed of them, stay.
                    let inputs = std::mem::take(&mut r.config.inputs);
                    r.config = TaskConfig {
                        inputs,
                        sources: std::mem::take(&mut r.config.sources),
                        ..config.clone()
                    };
                }
                Err(e) => {
                    r.error = Some(e.message);
                    return true;
                }
            }
            r.stopped = false;
            r.full = false;
            r.ready = true;
            r.error = None;
            true
        })
    }

    /// Whether a task could go on at once.
    pub(super) fn any_ready(&self) -> bool {
        self.running.iter().flatten().any(Running::wants_a_turn)
    }

    /// Whether a task has computed a step for which there was no room in the log.
    pub(super) fn any_held(&self) -> bool {
        self.running.iter().flatten().any(|r| r.held.is_some())
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
        changes.extend(self.gone.drain(..).map(|key| (key, None)));
        self.removals_taken();
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
        outbound: &Outbound,
    ) -> Vec<PipelineStatus> {
        self.running
            .iter()
            .flatten()
            .map(|r| r.status(partitions, outbound))
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

fn operator(part: PartStatus) -> OperatorStatus {
    OperatorStatus {
        name: part.name,
        rows_in: part.stats.rows_in,
        rows_out: part.stats.rows_out,
        late: part.stats.late,
        failed: part.stats.failed,
        state_bytes: part.state_bytes as u64,
    }
}

impl Running {
    fn wants_a_turn(&self) -> bool {
        self.ready && (!self.stopped || self.held.is_some())
    }

    /// When it has something to do by itself, by the driver's clock. What it waits for comes first: until then
    /// a step would do nothing, whatever is due.
    fn due_us(&self, now: Now) -> Option<u64> {
        if self.retry_at_us.is_some() || self.starved {
            return self.retry_at_us;
        }
        let wait_ms = self.task.deadline()?.saturating_sub(now.unix_ms).max(0) as u64;
        Some(now.mono_us.saturating_add(wait_ms.saturating_mul(1000)))
    }

    fn fail(&mut self, now: Now, error: String) {
        self.error = Some(error);
        self.retry_at_us = Some(now.mono_us + READ_RETRY_US);
        self.ready = false;
    }

    fn status(
        &self,
        partitions: &BTreeMap<PartitionId, Partition>,
        outbound: &Outbound,
    ) -> PipelineStatus {
        let end = |id: PartitionId| partitions.get(&id).map_or(0, |p| p.next.0);
        let stats = self.task.stats();
        let error = self.error.as_deref().or(outbound.error(self.config.id));
        PipelineStatus {
            name: self.config.pipeline.name().to_string(),
            state: match error {
                _ if self.stopped => "paused",
                Some(_) => "retrying",
                None => "running",
            }
            .to_string(),
            positions: self
                .task
                .positions()
                .map(|(partition, offset)| GroupOffset {
                    partition,
                    offset,
                    note: error.unwrap_or_default().to_string(),
                })
                .collect(),
            lag: self
                .task
                .positions()
                .map(|(p, o)| end(p).saturating_sub(o.0))
                .sum(),
            processed: stats.processed,
            emitted: stats.emitted,
            outbound_bytes: outbound.waiting_bytes(self.config.id),
            failed: stats.failed,
            late: stats.late,
            latency_p50_us: self.latency.quantile_us(0.5),
            latency_p99_us: self.latency.quantile_us(0.99),
            watermark_ms: Some(self.task.watermark()).filter(|ms| *ms != i64::MIN),
            state_bytes: self.task.state_bytes() as u64,
            spilled_bytes: self.task.spilled_bytes() as u64,
            operators: self.task.parts().into_iter().map(operator).collect(),
        }
    }
}
