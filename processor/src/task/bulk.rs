//! Running the records of a step many at a time.
//!
//! ```text
//! gather up to `bulk_records` --> read --> watermarks --> process --> due timers --> gather ...
//!                                                            |
//!                                                            +- ok:     keep, gather more
//!                                                            \- fails:  undo, gather half as many;
//!                                                                       one alone: as any record
//! ```

use super::dead_letter::DeadLetter;
use super::feed::{self, Feed, Resume};
use super::retries::Cause;
use super::{Budget, Input, Stop, Task, pace};
use crate::bulk::{Bulk, BulkRecord, Reading};
use crate::context::{Context, Incoming};
use crate::processor::ProcessError;
use crate::timers::Origin;
use crate::unit::Fault;
use flowstone_wire::{Failure, Offset};
use std::ops::ControlFlow;

/// After so many bytes of keys and values a unit takes no further record.
const BULK_BYTES_MAX: usize = 1 << 20;

/// Records of the input that are taken together, and what follows when they are dealt with.
struct Gathered<'a> {
    records: Vec<BulkRecord<'a>>,
    /// The input of each record, by its place among the inputs.
    places: Vec<usize>,
    /// Bytes of their keys and values.
    bytes: usize,
    /// Where each touched input stands behind these records.
    ends: Vec<(usize, Offset)>,
    /// The place inside the last batch, if it was not taken whole.
    resume: Option<Resume>,
    /// What was found in the input that is not what it should be; told when nothing is before it.
    fault: Option<Failure>,
    /// All of the input was taken.
    all: bool,
}

impl Task {
    pub(super) fn run_bulk(
        &mut self,
        input: &[Input<'_>],
        budget: &mut Budget,
    ) -> ControlFlow<Stop> {
        loop {
            budget.check(&self.unit)?;
            let gathered = self.gather(input, self.pace.most().min(budget.records));
            if gathered.records.is_empty() {
                self.settle(&gathered);
                return match gathered.fault {
                    Some(failure) => ControlFlow::Break(Stop::Fault(failure)),
                    None => ControlFlow::Continue(()),
                };
            }
            let count = gathered.records.len();
            if !self.run_gathered(&gathered)? {
                self.pace.failed(count);
                continue;
            }
            self.pace.kept();
            self.settle(&gathered);
            budget.records -= count;
            self.stats.processed += count as u64;
            self.fire_due(budget)?;
            if gathered.all {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Takes the next records of the input, at most so many.
    fn gather<'a>(&self, input: &[Input<'a>], most: usize) -> Gathered<'a> {
        let mut gathered = Gathered {
            records: Vec::with_capacity(most.min(pace::RECORDS_MAX)),
            places: Vec::with_capacity(most.min(pace::RECORDS_MAX)),
            bytes: 0,
            ends: Vec::new(),
            resume: None,
            fault: None,
            all: false,
        };
        for batch in input {
            match self.gather_batch(batch, most, &mut gathered) {
                Ok(true) => {}
                Ok(false) => return gathered,
                Err(failure) => {
                    gathered.fault = Some(failure);
                    return gathered;
                }
            }
        }
        gathered.all = true;
        gathered
    }

    /// Takes records of a batch; says whether it was taken whole.
    fn gather_batch<'a>(
        &self,
        batch: &Input<'a>,
        most: usize,
        gathered: &mut Gathered<'a>,
    ) -> Result<bool, Failure> {
        let at = self.place(batch)?;
        let known = gathered.ends.iter().position(|(place, _)| *place == at);
        let position = match known {
            Some(known) => gathered.ends[known].1,
            None => self.inputs.at(at).position,
        };
        let end = feed::next_offset(&batch.header);
        if end <= position {
            return Ok(true);
        }
        let known = known.unwrap_or_else(|| {
            gathered.ends.push((at, position));
            gathered.ends.len() - 1
        });
        if !batch.header.is_control() {
            let mut feed = Feed::new(batch, self.resume, position);
            while let Some(view) = feed.next() {
                if gathered.records.len() >= most || gathered.bytes >= BULK_BYTES_MAX {
                    gathered.resume = feed.resume();
                    return Ok(false);
                }
                let view = view?;
                if view.offset >= gathered.ends[known].1 {
                    gathered.records.push(BulkRecord {
                        source: self.inputs.at(at).source,
                        partition: batch.partition,
                        view,
                    });
                    gathered.places.push(at);
                    gathered.bytes += view.key.map_or(0, <[u8]>::len);
                    gathered.bytes += view.value.map_or(0, <[u8]>::len);
                    gathered.ends[known].1 = Offset(view.offset.0.saturating_add(1));
                }
                feed.done();
            }
        }
        gathered.ends[known].1 = end;
        Ok(true)
    }

    /// The records are dealt with.
    fn settle(&mut self, gathered: &Gathered<'_>) {
        for (at, end) in &gathered.ends {
            self.inputs.advance(*at, *end);
        }
        self.resume = gathered.resume;
    }

    /// Deals with the records as one unit. Says whether it was kept; one record alone always is,
    /// if need be as a dead letter.
    fn run_gathered(&mut self, gathered: &Gathered<'_>) -> ControlFlow<Stop, bool> {
        let first = &gathered.records[0];
        let touched: Vec<usize> = gathered.ends.iter().map(|(at, _)| *at).collect();
        let checkpoint = self.inputs.checkpoint(&touched);
        self.unit.begin(Origin {
            partition: first.partition,
            offset: first.view.offset,
            ..Origin::default()
        });
        let (readings, readable) = self.read_and_process(gathered);
        if self.unit.has_missed() {
            self.inputs.restore(checkpoint);
            self.unit.undo();
            return ControlFlow::Break(Stop::Pause);
        }
        if self.unit.fault.is_some() {
            self.inputs.restore(checkpoint);
            if gathered.records.len() > 1 {
                self.unit.end();
                return ControlFlow::Continue(false);
            }
        }
        let cause = || Cause::Record(first.partition, first.view.offset);
        if let Some((fault, attempts)) = self.end_unit(cause)? {
            self.push_letter(first, &fault, attempts);
        } else {
            self.push_unreadable(gathered, readings, &readable);
        }
        ControlFlow::Continue(true)
    }

    /// Lets the stage deal with the records; what fails is in the unit.
    fn read_and_process(
        &mut self,
        gathered: &Gathered<'_>,
    ) -> (Vec<Result<Reading, String>>, Vec<bool>) {
        let (front, rest) = self.processors.split_at_mut(1);
        let Some(stage) = front[0].as_bulk() else {
            let text = "the first stage does not take many records at once";
            self.unit.fail(Some(0), ProcessError::Reject(text.into()));
            return (Vec::new(), Vec::new());
        };
        let readings = stage.read(&gathered.records);
        let (now_ms, options) = (self.unit.now_ms, &self.pipeline.plan.options);
        let mut watermarks = Vec::with_capacity(readings.len());
        for (reading, at) in readings.iter().zip(&gathered.places) {
            watermarks.push(self.inputs.watermark_ms());
            if let Ok(reading) = reading {
                self.inputs.take_reading(*at, *reading, now_ms, options);
            }
        }
        let readable: Vec<bool> = readings.iter().map(Result::is_ok).collect();
        let bulk = Bulk {
            records: &gathered.records,
            watermarks: &watermarks,
            watermark_after: self.inputs.watermark_ms(),
            readable: &readable,
        };
        let mut ctx = Context {
            unit: &mut self.unit,
            plan: &self.pipeline.plan,
            rest,
            node: 0,
            incoming: Incoming::Key(None),
            rekeyed: false,
        };
        if let Err(error) = stage.process(&bulk, &mut ctx) {
            self.unit.fail(Some(0), error);
        }
        (readings, readable)
    }

    fn push_unreadable(
        &mut self,
        gathered: &Gathered<'_>,
        readings: Vec<Result<Reading, String>>,
        readable: &[bool],
    ) {
        if readable.iter().all(|r| *r) {
            return;
        }
        for (record, reading) in gathered.records.iter().zip(readings) {
            if let Err(reason) = reading {
                self.stats.failed += 1;
                let fault = Fault {
                    node: Some(0),
                    part: None,
                    error: ProcessError::Reject(reason),
                };
                self.push_letter(record, &fault, 1);
            }
        }
    }

    fn push_letter(&mut self, record: &BulkRecord<'_>, fault: &Fault, attempts: u32) {
        let letter = DeadLetter {
            plan: &self.pipeline.plan,
            fault,
            attempts,
            partition: record.partition,
            offset: record.view.offset,
        };
        letter.push_record(&mut self.unit.outputs, &record.view);
    }
}
