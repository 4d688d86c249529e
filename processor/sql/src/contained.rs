//! A program whose panics are failures of the records that it was given: functions of SQL are code of others.

use crate::flow::reject;
use crate::program::Program;
use flowstone_processor::contained::contained;
use flowstone_processor::{
    Bulk, BulkProcessor, BulkRecord, Context, Part, ProcessError, Reading, TaskTime, Timer,
};

/// A program, and what it was when it was made.
pub(crate) struct Contained {
    program: Program,
    fresh: Program,
}

impl Contained {
    pub(crate) fn new(program: &Program) -> Self {
        Self {
            program: program.clone(),
            fresh: program.clone(),
        }
    }

    /// Calls the program. One that has panicked is made anew; its state is in the store, where what it did is
    /// undone.
    fn call<T>(&mut self, work: impl FnOnce(&mut Program) -> T) -> Result<T, ProcessError> {
        let program = &mut self.program;
        contained(|| work(program)).map_err(|text| {
            self.program = self.fresh.clone();
            reject(format!(
                "a function cannot be computed, it panicked: {text}"
            ))
        })
    }
}

impl BulkProcessor for Contained {
    fn read(&mut self, records: &[BulkRecord<'_>]) -> Vec<Result<Reading, String>> {
        self.call(|program| program.read(records))
            .unwrap_or_else(|fault| {
                self.program.fail(fault);
                vec![Ok(Reading::default()); records.len()]
            })
    }

    fn process(&mut self, bulk: &Bulk<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        self.call(|program| program.process(bulk, ctx))?
    }

    fn tell_time(&mut self, time: TaskTime, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        self.call(|program| program.tell_time(time, ctx))?
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        self.call(|program| program.on_timer(timer, ctx))?
    }

    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        self.call(|program| program.on_timer_rejected(timer, ctx))
            .unwrap_or(None)
    }

    fn parts(&self) -> Vec<Part> {
        self.program.parts()
    }
}
