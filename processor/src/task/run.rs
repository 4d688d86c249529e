//! Running the records of a step: each is kept, tried again, or given up.

use super::dead_letter::DeadLetter;
use super::feed::{self, Feed};
use super::retries::{Cause, Verdict};
use super::{Input, Task};
use crate::context::deliver;
use crate::pipeline::Plan;
use crate::record::Record;
use crate::timers::Origin;
use crate::unit::{Fault, Unit};
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId, RecordView};
use std::ops::ControlFlow;

/// Why a step ends before its input does.
pub(super) enum Stop {
    /// A limit is reached, or something must be tried again later.
    Pause,
    /// The input is not what it should be.
    Fault(Failure),
}

/// What is left of the limits of a step.
pub(super) struct Budget {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Budget {
    /// Whether there is any left.
    #[inline]
    pub(super) fn check(&self, unit: &Unit) -> ControlFlow<Stop> {
        if self.records == 0 || unit.step_bytes() > self.bytes {
            return ControlFlow::Break(Stop::Pause);
        }
        ControlFlow::Continue(())
    }

    /// Takes one record or timer out of the budget, if there is any left.
    #[inline]
    pub(super) fn take_one(&mut self, unit: &Unit) -> ControlFlow<Stop> {
        self.check(unit)?;
        self.records -= 1;
        ControlFlow::Continue(())
    }
}

impl Task {
    pub(super) fn work(&mut self, input: &[Input<'_>], mut budget: Budget) -> ControlFlow<Stop> {
        self.fire_due(&mut budget)?;
        if self.pipeline.plan.bulk {
            return self.run_bulk(input, &mut budget);
        }
        for batch in input {
            self.run_batch(batch, &mut budget)?;
        }
        ControlFlow::Continue(())
    }

    /// The place of a batch's partition among the inputs.
    pub(super) fn place(&self, batch: &Input<'_>) -> Result<usize, Failure> {
        self.inputs.find(batch.partition).ok_or_else(|| {
            Failure::new(
                ErrorCode::UnknownPartition,
                format!(
                    "partition {} is not an input of pipeline '{}': add it to the task",
                    batch.partition,
                    self.pipeline.name()
                ),
            )
        })
    }

    fn run_batch(&mut self, batch: &Input<'_>, budget: &mut Budget) -> ControlFlow<Stop> {
        let at = match self.place(batch) {
            Ok(at) => at,
            Err(failure) => return ControlFlow::Break(Stop::Fault(failure)),
        };
        let end = feed::next_offset(&batch.header);
        if end <= self.inputs.at(at).position {
            return ControlFlow::Continue(());
        }
        if !batch.header.is_control() {
            let mut feed = Feed::new(batch, self.resume.take(), self.inputs.at(at).position);
            let result = self.run_records(at, &mut feed, budget);
            if result.is_break() {
                self.resume = feed.resume();
                return result;
            }
        }
        self.inputs.advance(at, end);
        ControlFlow::Continue(())
    }

    fn run_records(
        &mut self,
        at: usize,
        feed: &mut Feed<'_>,
        budget: &mut Budget,
    ) -> ControlFlow<Stop> {
        while let Some(view) = feed.next() {
            let view = match view {
                Ok(view) => view,
                Err(failure) => return ControlFlow::Break(Stop::Fault(failure)),
            };
            if view.offset >= self.inputs.at(at).position {
                budget.take_one(&self.unit)?;
                self.run_record(at, &view)?;
                self.stats.processed += 1;
            }
            feed.done();
            self.fire_due(budget)?;
        }
        ControlFlow::Continue(())
    }

    fn run_record(&mut self, at: usize, view: &RecordView<'_>) -> ControlFlow<Stop> {
        let partition = self.inputs.at(at).partition;
        let time_ms = self.process(partition, view);
        let cause = || Cause::Record(partition, view.offset);
        if let Some((fault, attempts)) = self.end_unit(cause)? {
            let letter = DeadLetter {
                plan: &self.pipeline.plan,
                fault: &fault,
                attempts,
                partition,
                offset: view.offset,
            };
            letter.push_record(&mut self.unit.outputs, view);
        }
        let next = Offset(view.offset.0.saturating_add(1));
        self.inputs.advance(at, next);
        if let Some(time_ms) = time_ms {
            let (now_ms, options) = (self.unit.now_ms, &self.pipeline.plan.options);
            self.inputs.observe(at, time_ms, now_ms, options);
        }
        ControlFlow::Continue(())
    }

    /// Sends a record through the tree, as a unit that is not ended yet. Gives its event time, if it
    /// has one.
    #[inline]
    fn process(&mut self, partition: PartitionId, view: &RecordView<'_>) -> Option<i64> {
        let plan: &Plan = &self.pipeline.plan;
        let unit = &mut self.unit;
        unit.begin(Origin {
            partition,
            offset: view.offset,
            ..Origin::default()
        });
        let mut record = Record {
            partition,
            offset: view.offset,
            timestamp: view.timestamp,
            key: view.key,
            value: view.value,
            headers: view.into(),
        };
        if let Some(event_time) = &plan.event_time {
            match event_time(&record) {
                Ok(time_ms) => record.timestamp = time_ms,
                Err(error) => {
                    unit.fail(None, error);
                    return None;
                }
            }
        }
        let processors = &mut self.processors;
        deliver(unit, plan, &plan.root, None, processors, &record, false);
        Some(record.timestamp)
    }

    /// Keeps the unit, or undoes it. Says what failed and in how many attempts if it is given up.
    #[inline]
    pub(super) fn end_unit(
        &mut self,
        cause: impl FnOnce() -> Cause,
    ) -> ControlFlow<Stop, Option<(Fault, u32)>> {
        if self.unit.has_missed() {
            self.unit.undo();
            return ControlFlow::Break(Stop::Pause);
        }
        self.admitted = false;
        let Some(fault) = self.unit.end() else {
            self.stats.emitted += self.unit.emitted;
            self.stats.late += self.unit.late;
            if !self.retries.is_empty() {
                self.retries.done(&cause());
            }
            return ControlFlow::Continue(None);
        };
        let options = &self.pipeline.plan.options;
        match self
            .retries
            .failed(cause(), &fault.error, options, self.unit.now_ms)
        {
            Verdict::Again => {
                self.stats.retried += 1;
                ControlFlow::Break(Stop::Pause)
            }
            Verdict::GiveUp { attempts } => {
                self.stats.failed += 1;
                self.unit.parts.gave_up(fault.part);
                ControlFlow::Continue(Some((fault, attempts)))
            }
        }
    }
}
