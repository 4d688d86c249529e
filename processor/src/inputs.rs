//! The input partitions of a task: positions, watermarks, and which of them are idle.
//!
//! A partition's watermark is the largest timestamp seen, capped to a little ahead of the clock,
//! minus the allowed disorder. The task's is the lowest among partitions that are not idle, or
//! the highest where all are, but then not ahead of the clock. Neither ever goes back. `ts < watermark` is final.
//!
//! A partition is idle that has had nothing to read for a while. What another task writes says so itself, since it
//! may be on its way for long; that counts when all that there is of it was read.

use crate::bulk::{Reading, TaskTime};
use crate::pipeline::{PipelineOptions, SourceOptions};
use flowstone_wire::{Offset, PartitionId};
use serde::{Deserialize, Serialize};

/// What the writer of a partition has said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Writer {
    /// Nothing, or it is none that does.
    #[default]
    Silent,
    Active,
    Idle,
}

/// One input partition.
#[derive(Clone, Debug)]
pub(crate) struct InputPartition {
    pub(crate) partition: PartitionId,
    /// Which of the pipeline's sources it belongs to; given anew whenever the task starts.
    pub(crate) source: u16,
    /// As the source.
    options: SourceOptions,
    /// Next offset to read.
    pub(crate) position: Offset,
    /// `i64::MIN` before the first record.
    pub(crate) watermark_ms: i64,
    pub(crate) writer: Writer,
    /// When it last had something to read, by the caller's clock; not part of the state.
    active_ms: Option<i64>,
    idle: bool,
    /// It counts as active although it has had nothing to read since before the task slept.
    spared: bool,
    /// Position or watermark is not in a delta yet.
    changed: bool,
    dirty: bool,
}

/// All input partitions, and the watermark of the task.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// Ordered by partition.
    list: Vec<InputPartition>,
    watermark_ms: i64,
    watermark_changed: bool,
    /// Partitions that are idle do not bring the watermark beyond this.
    idle_max_ms: i64,
}

/// Some partitions and the watermark as they were.
pub(crate) struct Checkpoint {
    list: Vec<(usize, InputPartition)>,
    watermark_ms: i64,
    watermark_changed: bool,
}

impl Inputs {
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            watermark_ms: i64::MIN,
            watermark_changed: false,
            idle_max_ms: i64::MIN,
        }
    }

    /// The index of a partition.
    #[inline]
    pub(crate) fn find(&self, partition: PartitionId) -> Option<usize> {
        self.list
            .binary_search_by_key(&partition, |i| i.partition)
            .ok()
    }

    /// Adds a partition from `position` on; one that is known stays as it is.
    pub(crate) fn add(&mut self, partition: PartitionId, position: Offset) {
        if self.find(partition).is_none() {
            self.set(partition, position, i64::MIN);
            if let Some(at) = self.find(partition) {
                self.list[at].changed = true;
            }
        }
    }

    /// Says which source a partition belongs to.
    pub(crate) fn set_source(
        &mut self,
        partition: PartitionId,
        source: u16,
        options: SourceOptions,
    ) {
        if let Some(at) = self.find(partition) {
            self.list[at].source = source;
            self.list[at].options = options;
        }
    }

    /// What [`Self::restore`] needs to undo what is done to the partitions in between.
    pub(crate) fn checkpoint(&self, partitions: &[usize]) -> Checkpoint {
        Checkpoint {
            list: partitions
                .iter()
                .map(|at| (*at, self.list[*at].clone()))
                .collect(),
            watermark_ms: self.watermark_ms,
            watermark_changed: self.watermark_changed,
        }
    }

    /// Undoes what was done since the checkpoint.
    pub(crate) fn restore(&mut self, checkpoint: Checkpoint) {
        for (at, input) in checkpoint.list {
            self.list[at] = input;
        }
        self.watermark_ms = checkpoint.watermark_ms;
        self.watermark_changed = checkpoint.watermark_changed;
    }

    /// Takes over positions from a delta; they become dirty.
    pub(crate) fn set(&mut self, partition: PartitionId, position: Offset, watermark_ms: i64) {
        let at = match self.list.binary_search_by_key(&partition, |i| i.partition) {
            Ok(at) => at,
            Err(at) => {
                let input = InputPartition {
                    partition,
                    source: 0,
                    options: SourceOptions::default(),
                    position,
                    watermark_ms,
                    writer: Writer::Silent,
                    active_ms: None,
                    idle: false,
                    spared: false,
                    changed: false,
                    dirty: true,
                };
                self.list.insert(at, input);
                at
            }
        };
        let input = &mut self.list[at];
        input.position = position;
        input.watermark_ms = watermark_ms;
        input.changed = false;
        input.dirty = true;
    }

    /// Takes over what a writer has said of itself; its partition was set.
    pub(crate) fn set_writer(&mut self, partition: PartitionId, writer: Writer) {
        if let Some(at) = self.find(partition) {
            self.list[at].writer = writer;
        }
    }

    /// Takes over the task's watermark from a delta or from outside.
    pub(crate) fn set_watermark(&mut self, watermark_ms: i64) {
        self.watermark_ms = watermark_ms;
    }

    /// Nothing is dirty: all of it came from outside.
    pub(crate) fn clean(&mut self) {
        for input in &mut self.list {
            input.dirty = false;
        }
    }

    #[inline]
    pub(crate) fn at(&self, at: usize) -> &InputPartition {
        &self.list[at]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InputPartition> {
        self.list.iter()
    }

    /// The task's watermark; `i64::MIN` as long as there is none.
    #[inline]
    pub(crate) fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// The partition has something to read at `now_ms`.
    pub(crate) fn touch(&mut self, at: usize, now_ms: i64) {
        let input = &mut self.list[at];
        (input.active_ms, input.spared) = (Some(now_ms), false);
    }

    /// All partitions count as active from `now_ms` on.
    pub(crate) fn touch_all(&mut self, now_ms: i64) {
        for input in &mut self.list {
            input.active_ms = Some(now_ms);
        }
    }

    /// As [`Self::touch_all`], but once for each silence: whoever steps the task seldom would never find one idle.
    pub(crate) fn spare_all(&mut self, now_ms: i64) {
        for input in self.list.iter_mut().filter(|i| !i.spared) {
            (input.active_ms, input.spared) = (Some(now_ms), true);
        }
    }

    /// Finds out which partitions are idle, and moves the watermark if that frees it.
    pub(crate) fn start_step(&mut self, now_ms: i64, options: &PipelineOptions) {
        self.idle_max_ms = now_ms.saturating_sub(options.out_of_order_ms);
        for input in &mut self.list {
            let active_ms = *input.active_ms.get_or_insert(now_ms);
            let silent_ms = now_ms.saturating_sub(active_ms);
            let after_ms = input.idle_after_ms(options);
            input.idle = after_ms.is_some_and(|after_ms| silent_ms >= after_ms);
        }
        self.raise_watermark();
    }

    /// The partitions that say something about time.
    fn timed(&self) -> impl Iterator<Item = &InputPartition> {
        self.list.iter().filter(|i| !i.options.timeless)
    }

    fn raise_watermark(&mut self) {
        let active = self.timed().filter(|i| !i.idle);
        let lowest_ms = active.map(|i| i.watermark_ms).min();
        // Where all are idle none holds another one back.
        let highest_ms = || self.timed().map(|i| i.watermark_ms).max();
        let capped = || highest_ms().map(|ms| ms.min(self.idle_max_ms));
        let reached_ms = lowest_ms.or_else(capped);
        if let Some(reached_ms) = reached_ms.filter(|ms| *ms > self.watermark_ms) {
            self.watermark_ms = reached_ms;
            self.watermark_changed = true;
        }
    }

    /// How far the task is.
    pub(crate) fn time(&self) -> TaskTime {
        TaskTime {
            watermark_ms: self.watermark_ms,
            idle: self.timed().all(|i| i.idle),
        }
    }

    /// Everything before `position` was dealt with.
    #[inline]
    pub(crate) fn advance(&mut self, at: usize, position: Offset) {
        let input = &mut self.list[at];
        if position > input.position {
            input.position = position;
            input.changed = true;
        }
    }

    /// A record of this time was seen.
    #[inline]
    pub(crate) fn observe(
        &mut self,
        at: usize,
        timestamp: i64,
        now_ms: i64,
        options: &PipelineOptions,
    ) {
        let cap_ms = now_ms.saturating_add(options.max_future_skew_ms);
        let watermark_ms = timestamp
            .min(cap_ms)
            .saturating_sub(options.out_of_order_ms);
        let input = &mut self.list[at];
        let before_ms = input.watermark_ms;
        if watermark_ms > before_ms {
            input.watermark_ms = watermark_ms;
            input.changed = true;
            // One that was ahead of the task's watermark did not hold it back.
            if before_ms <= self.watermark_ms {
                self.raise_watermark();
            }
        }
    }

    /// Takes what a record says about its partition.
    pub(crate) fn take_reading(
        &mut self,
        at: usize,
        reading: Reading,
        now_ms: i64,
        options: &PipelineOptions,
    ) {
        let input = &mut self.list[at];
        let said = match reading.idle {
            true => Writer::Idle,
            false => Writer::Active,
        };
        if input.options.told && input.writer != said {
            (input.writer, input.changed) = (said, true);
            // Idle is who has nothing more to read: that shows at the next step.
            input.idle = false;
        }
        if let Some(time_ms) = reading.time_ms {
            self.observe(at, time_ms, now_ms, options);
        }
    }

    /// When the watermark may move because partitions become or are idle, if nothing arrives; by as much as lets a
    /// timer of event time `next_ms` fire.
    pub(crate) fn idle_deadline_ms(
        &self,
        options: &PipelineOptions,
        next_ms: Option<i64>,
    ) -> Option<i64> {
        let highest_ms = self.timed().map(|i| i.watermark_ms).max();
        let highest_ms = highest_ms.filter(|ms| *ms > self.watermark_ms)?;
        if self.timed().all(|i| i.idle) {
            // It is ahead of the clock.
            let wanted_ms = next_ms.unwrap_or(highest_ms).min(highest_ms);
            return Some(wanted_ms.saturating_add(options.out_of_order_ms));
        }
        let holds = |i: &&InputPartition| i.watermark_ms <= self.watermark_ms;
        last_idle_at(self.timed().filter(holds), options)
    }

    /// When the task becomes idle, if nothing arrives; `None` if it is, or if that is not known.
    pub(crate) fn all_idle_at_ms(&self, options: &PipelineOptions) -> Option<i64> {
        last_idle_at(self.timed(), options)
    }

    /// Hands out the partitions that changed since the last call.
    pub(crate) fn take_changed(&mut self, mut each: impl FnMut(&InputPartition)) {
        for input in &mut self.list {
            if std::mem::take(&mut input.changed) {
                input.dirty = true;
                each(input);
            }
        }
    }

    /// The task's watermark, if it changed since the last call.
    pub(crate) fn take_changed_watermark(&mut self) -> Option<i64> {
        std::mem::take(&mut self.watermark_changed).then_some(self.watermark_ms)
    }

    /// Hands out the partitions that are dirty.
    pub(crate) fn take_dirty(&mut self, mut each: impl FnMut(&InputPartition)) {
        for input in &mut self.list {
            if std::mem::take(&mut input.dirty) {
                each(input);
            }
        }
    }
}

impl InputPartition {
    /// After how many milliseconds with nothing to read it is idle; `None`: silence says nothing.
    fn idle_after_ms(&self, options: &PipelineOptions) -> Option<i64> {
        match self.writer {
            Writer::Idle if self.options.told => Some(1),
            Writer::Active if self.options.told => None,
            _ => Some(options.idle_ms.max(1)),
        }
    }
}

/// When the last of some partitions becomes idle that are not. `None` if all are, or if one of them does not become
/// so by silence.
fn last_idle_at<'i>(
    inputs: impl Iterator<Item = &'i InputPartition>,
    options: &PipelineOptions,
) -> Option<i64> {
    let mut last = None;
    for input in inputs.filter(|i| !i.idle) {
        let after_ms = input.idle_after_ms(options)?;
        last = last.max(Some(input.active_ms?.saturating_add(after_ms)));
    }
    last
}
