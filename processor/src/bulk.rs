//! A stage that takes many records at once: the seam for columns.
//!
//! ```text
//! records of a step --> read:    event time of each, or why it cannot be read
//!                   --> watermark of the task before each of them
//!                   --> process: all that can be read, as one unit
//! ```
//!
//! A unit that fails is undone and taken again in two halves, down to the one record that cannot be
//! dealt with; that one goes to the dead letters. Each record comes with the watermark that held
//! before it, so a stage decides about it as if the records had come one by one, and the results do
//! not depend on how the input is cut.

use crate::context::Context;
use crate::parts::Part;
use crate::processor::{ProcessError, Processor, Timer};
use crate::record::Record;
use flowstone_wire::{PartitionId, RecordView};
use serde::{Deserialize, Serialize};

/// One record of the input, with where it came from.
#[derive(Clone, Copy, Debug)]
pub struct BulkRecord<'a> {
    /// The source that the partition belongs to: an index into [`crate::Pipeline::sources`].
    pub source: u16,
    /// The input partition.
    pub partition: PartitionId,
    /// The record.
    pub view: RecordView<'a>,
}

/// The records of one unit.
#[derive(Clone, Copy, Debug)]
pub struct Bulk<'a> {
    /// The records; those of one partition in the order of their offsets.
    pub records: &'a [BulkRecord<'a>],
    /// For each record the watermark of the task before it, milliseconds since 1970; `i64::MIN` as
    /// long as it is not known.
    pub watermarks: &'a [i64],
    /// The watermark of the task behind all of them.
    pub watermark_after: i64,
    /// Whether the record was read; one that was not is passed over.
    pub readable: &'a [bool],
}

/// What a record says about the time of its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the watermark of the partition may come to, milliseconds since 1970; `None`: it says nothing about time.
    pub time_ms: Option<i64>,
    /// Whoever writes the partition has nothing more for now. Counts where
    /// [`crate::SourceOptions::told`] is set.
    pub idle: bool,
}

impl From<Option<i64>> for Reading {
    fn from(time_ms: Option<i64>) -> Self {
        let idle = false;
        Self { time_ms, idle }
    }
}

/// How far a task is in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTime {
    /// Milliseconds since 1970; `i64::MIN` as long as it is not known.
    pub watermark_ms: i64,
    /// No partition has had something to read for a while: others need not wait for this task.
    pub idle: bool,
}

/// The first stage of a pipeline, taking many records at once.
///
/// What is said of [`Processor`] about state and fields holds here too, with one exception: what
/// [`Self::read`] keeps is for the call of [`Self::process`] that follows.
pub trait BulkProcessor: Send {
    /// Reads the records. Gives for each what it says about time, or why it cannot be read.
    ///
    /// Called again with a part of the same records if dealing with all of them fails.
    fn read(&mut self, records: &[BulkRecord<'_>]) -> Vec<Result<Reading, String>>;

    /// Deals with the records that were read last.
    ///
    /// # Errors
    /// [`ProcessError`]; all that these records caused is then undone.
    fn process(&mut self, bulk: &Bulk<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError>;

    /// Tells the tasks behind an exchange how far this one is: at the end of a step in which that changed, and when
    /// the task has become idle.
    ///
    /// # Errors
    /// [`ProcessError`]; it is told again at the next step.
    fn tell_time(&mut self, _: TaskTime, _: &mut Context<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    /// Takes a timer that this stage has set and whose time has come.
    ///
    /// # Errors
    /// [`ProcessError`]; all that this timer caused is then undone.
    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError>;

    /// Puts the state in order after a timer was given up, as [`Processor::on_timer_rejected`].
    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>>;

    /// As [`Processor::parts`].
    fn parts(&self) -> Vec<Part> {
        Vec::new()
    }
}

/// The input record that an emitted one comes from.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The input partition.
    pub partition: PartitionId,
    /// Offset of the input record.
    pub offset: flowstone_wire::Offset,
    /// The key is another one than the input record's: the partition is chosen by its hash.
    pub rekeyed: bool,
}

/// A bulk stage in its place among the others.
pub(crate) struct BulkStage(pub(crate) Box<dyn BulkProcessor>);

impl Processor for BulkStage {
    fn process(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), ProcessError> {
        let text = "this stage takes the records of the input only, and many at once";
        Err(ProcessError::Reject(text.into()))
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        self.0.on_timer(timer, ctx)
    }

    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        self.0.on_timer_rejected(timer, ctx)
    }

    fn parts(&self) -> Vec<Part> {
        self.0.parts()
    }

    fn as_bulk(&mut self) -> Option<&mut dyn BulkProcessor> {
        Some(&mut *self.0)
    }
}
