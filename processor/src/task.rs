//! A task: a pipeline on one shard, run in steps that each give out one delta.
//!
//! ```text
//! step:  due timers --> record --> due timers --> record --> ... --> delta
//!                         |
//!                         +- ok:      keep changes and outputs, position + 1, watermark
//!                         +- retry:   undo, end the step, wait until the deadline, same again
//!                         \- give up: undo, record to the dead letters, position + 1, watermark
//! ```
//!
//! Timers that the watermark has made due fire before the next record, so that results do not
//! depend on how the input is cut into steps.

mod bulk;
mod dead_letter;
mod feed;
mod fire;
mod pace;
mod replay;
mod retries;
mod run;
mod stored;
mod tell;
mod wanted;

pub use wanted::{Found, LeftOut, Wanted};

use crate::bulk::TaskTime;
use crate::delta::Delta;
use crate::inputs::Inputs;
use crate::parts::{Part, PartStatus};
use crate::pipeline::Pipeline;
use crate::processor::{Processor, TimeKind};
use crate::unit::Unit;
use feed::Resume;
use flowstone_wire::{BatchHeader, ErrorCode, Failure, Offset, PartitionId};
use pace::Pace;
use retries::Retries;
use run::{Budget, Stop};
use std::ops::ControlFlow;
use wanted::Asked;

/// A batch for a step.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The input partition.
    pub partition: PartitionId,
    /// The stamped header.
    pub header: BatchHeader,
    /// The records, decompressed.
    pub body: &'a [u8],
}

/// How much one step may do. Limits are looked at between records: one record or timer is always
/// dealt with, and as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimits {
    /// Most records and timers.
    pub max_records: usize,
    /// Most bytes of outputs and state changes together.
    pub max_output_bytes: usize,
}

impl Default for StepLimits {
    fn default() -> Self {
        Self {
            max_records: 4096,
            max_output_bytes: 1 << 20,
        }
    }
}

/// What a task has done since it was made in this process; replayed deltas do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskStats {
    /// Input records dealt with, those that failed included.
    pub processed: u64,
    /// Timers that fired, those that failed included.
    pub timers: u64,
    /// Records emitted to sinks, without late ones and dead letters.
    pub emitted: u64,
    /// Records and timers that went to the dead letters.
    pub failed: u64,
    /// Attempts that failed and were, or will be, followed by another.
    pub retried: u64,
    /// Records that went to the late ones.
    pub late: u64,
}

/// A pipeline at work on one shard.
///
/// If code of a stage panics inside [`Task::step`], throw the task away and make it anew from what
/// is stored.
pub struct Task {
    pipeline: Pipeline,
    processors: Vec<Box<dyn Processor>>,
    unit: Unit,
    inputs: Inputs,
    retries: Retries,
    resume: Option<Resume>,
    /// What was asked for of the store outside; nothing is done before it is there.
    asked: Vec<Asked>,
    /// It is there and was not used yet: nothing is let go.
    admitted: bool,
    /// Whether a step has run; before, the first deadline is now.
    started: bool,
    /// Whether the stored watermark is another one.
    watermark_dirty: bool,
    /// Whether the last delta said that event timers that are due have not all fired.
    clock_was_behind: bool,
    unclaimed: u64,
    /// What the tasks behind an exchange were told.
    told: Option<TaskTime>,
    /// That is not in a delta yet.
    told_changed: bool,
    /// How many records a stage takes that takes many at once.
    pace: Pace,
    stats: TaskStats,
}

impl Task {
    /// A task that starts from nothing, reading each of `partitions` from the given offset.
    pub fn new(pipeline: &Pipeline, partitions: &[(PartitionId, Offset)]) -> Self {
        let plan = &pipeline.plan;
        let mut task = Self {
            pipeline: pipeline.clone(),
            processors: plan.nodes.iter().map(|node| (node.factory)()).collect(),
            unit: Unit::new(plan),
            inputs: Inputs::new(),
            retries: Retries::default(),
            resume: None,
            asked: Vec::new(),
            admitted: false,
            started: false,
            watermark_dirty: false,
            clock_was_behind: false,
            unclaimed: 0,
            told: None,
            told_changed: false,
            pace: Pace::new(),
            stats: TaskStats::default(),
        };
        for &(partition, start) in partitions {
            task.add_partition(partition, start);
        }
        task
    }

    /// Goes on as another pipeline, with the state and at the positions of this one. What its stages have kept
    /// in fields goes.
    ///
    /// # Errors
    /// [`Failure`] where the stages have other names, or more or fewer topics are read: then nothing changes.
    pub fn become_of(&mut self, pipeline: &Pipeline) -> Result<(), Failure> {
        let same = self.pipeline.stages().eq(pipeline.stages())
            && self.pipeline.sources().len() == pipeline.sources().len();
        if !same {
            let what = format!(
                "pipeline '{}' cannot go on as one with other stages or sources",
                pipeline.name()
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let plan = &pipeline.plan;
        let processors: Vec<_> = plan.nodes.iter().map(|node| (node.factory)()).collect();
        if first_parts(&self.processors) != first_parts(&processors) {
            self.unit.parts.forget();
        }
        self.processors = processors;
        self.unit.set_limit(&plan.options);
        self.pipeline = pipeline.clone();
        Ok(())
    }

    /// Reads one more partition, from `start` on. One that the task knows stays where it is.
    pub fn add_partition(&mut self, partition: PartitionId, start: Offset) {
        self.inputs.add(partition, start);
    }

    /// Says which of the pipeline's sources a partition belongs to, an index into
    /// [`Pipeline::sources`]; without it, it is the first one.
    pub fn set_source(&mut self, partition: PartitionId, source: u16) {
        let options = self.pipeline.source_options(source);
        self.inputs.set_source(partition, source, options);
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The next offset to read from `partition`; `None` if it is not an input of this task.
    pub fn position(&self, partition: PartitionId) -> Option<Offset> {
        let at = self.inputs.find(partition)?;
        Some(self.inputs.at(at).position)
    }

    /// All input partitions with the next offset to read.
    pub fn positions(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        self.inputs.iter().map(|i| (i.partition, i.position))
    }

    /// Event time, milliseconds since 1970; `i64::MIN` as long as it is not known.
    pub fn watermark(&self) -> i64 {
        self.inputs.watermark_ms()
    }

    /// What the task has done.
    pub fn stats(&self) -> TaskStats {
        self.stats
    }

    /// What its first stage consists of, if it says it, and what each part has done since the task was made.
    pub fn parts(&self) -> Vec<PartStatus> {
        let status = |part: Part| PartStatus {
            stats: self.unit.parts.of(part.number),
            state_bytes: part.keys.map_or(0, |k| self.unit.state_bytes_of(0, k)),
            name: part.name,
        };
        first_parts(&self.processors)
            .into_iter()
            .map(status)
            .collect()
    }

    /// Memory of state and timers, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.unit.state_bytes()
    }

    /// Entries that were loaded or replayed for stages that the pipeline does not have (any more).
    /// They stay where they are stored, unused.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed
    }

    /// When the next step is worth its while even if nothing arrives, milliseconds since 1970: a
    /// timer, another attempt, or a partition that becomes idle. A time in the past means at once.
    pub fn deadline(&self) -> Option<i64> {
        if !self.asked.is_empty() {
            return None;
        }
        if let Some(at_ms) = self.retries.until_ms() {
            return Some(at_ms);
        }
        if !self.started {
            return Some(i64::MIN);
        }
        let event_ms = self.unit.timers.next_at_ms(TimeKind::Event);
        if event_ms.is_some_and(|at_ms| at_ms <= self.watermark()) {
            return Some(i64::MIN);
        }
        let processing_ms = self.unit.timers.next_at_ms(TimeKind::Processing);
        [self.idle_deadline(), processing_ms]
            .into_iter()
            .flatten()
            .min()
    }

    /// There is something to read in `partition` that the next step, at `now_ms`, may not be given: it is not idle.
    pub fn has_unread(&mut self, partition: PartitionId, now_ms: i64) {
        if let Some(at) = self.inputs.find(partition) {
            self.inputs.touch(at, now_ms);
        }
    }

    /// Runs one step at `now_ms` (milliseconds since 1970) over `input`: batches of its partitions,
    /// those of one partition in the order of their offsets. Records below the position are skipped,
    /// control batches are passed over. Give every partition that has something to read its share:
    /// one that gets nothing for `idle_ms` no longer holds the watermark back, unless [`Self::has_unread`] is said of it.
    ///
    /// The delta must be appended before the next step; `None` if nothing changed, or if the task needs what
    /// [`Self::wanted`] says. The first step
    /// gives out the positions at which the task starts.
    ///
    /// # Errors
    /// [`flowstone_wire::ErrorCode::UnknownPartition`] for a batch of a partition that is not an input, and
    /// [`flowstone_wire::ErrorCode::Damaged`] for a body that is not what its header says. What was done before is
    /// given out first: the error comes from the next step.
    pub fn step(
        &mut self,
        now_ms: i64,
        input: &[Input<'_>],
        limits: StepLimits,
    ) -> Result<Option<Delta>, Failure> {
        let waits = self.retries.until_ms().is_some_and(|at_ms| now_ms < at_ms);
        if waits || !self.asked.is_empty() {
            return Ok(None);
        }
        self.start_step(now_ms, input);
        let budget = Budget {
            records: limits.max_records.max(1),
            bytes: limits.max_output_bytes,
        };
        let end = self.work(input, budget);
        self.tell_time();
        let delta = self.finish_step();
        self.ask();
        match end {
            ControlFlow::Break(Stop::Fault(failure)) if delta.is_none() => Err(failure),
            _ => Ok(delta),
        }
    }

    fn start_step(&mut self, now_ms: i64, input: &[Input<'_>]) {
        self.started = true;
        self.unit.now_ms = now_ms;
        let has_slept = self.has_slept(now_ms);
        if self.retries.wake() {
            // Nothing was read while the task waited: that makes nobody idle.
            self.inputs.touch_all(now_ms);
        } else if has_slept {
            self.inputs.spare_all(now_ms);
        }
        for batch in input {
            if let Some(at) = self.inputs.find(batch.partition)
                && feed::next_offset(&batch.header) > self.inputs.at(at).position
            {
                self.inputs.touch(at, now_ms);
            }
        }
        self.inputs.start_step(now_ms, self.pipeline.options());
    }
}

fn first_parts(processors: &[Box<dyn Processor>]) -> Vec<Part> {
    processors.first().map_or(Vec::new(), |p| p.parts())
}

#[cfg(test)]
mod tests;
