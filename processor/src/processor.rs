//! The code of a stage: the trait, its errors and its timers.

use crate::context::Context;
use crate::parts::Part;
use crate::record::Record;
use serde::{Deserialize, Serialize};

/// A stage of a pipeline.
///
/// One value exists per task. All that must survive a restart, and all that must be undone when a
/// record fails, belongs into the state of the [`Context`], not into fields of the processor: those
/// are neither in the deltas nor undone. Clocks, randomness and look-ups are allowed, because
/// results are recorded and never computed again.
pub trait Processor: Send {
    /// Takes one record.
    ///
    /// # Errors
    /// [`ProcessError`]; all that this record caused, in every stage, is then undone.
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError>;

    /// Takes a timer that this stage has set and whose time has come.
    ///
    /// # Errors
    /// [`ProcessError`]; all that this timer caused is then undone.
    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let _ = (timer, ctx);
        Ok(())
    }

    /// Puts the state in order after a timer of this stage was given up.
    ///
    /// State changes and timers count; what is emitted here does not. The bytes that it returns
    /// become the value of the dead-letter record, which is empty otherwise.
    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        let _ = (timer, ctx);
        None
    }

    /// What the stage consists of, if it is the first one and has parts.
    fn parts(&self) -> Vec<Part> {
        Vec::new()
    }

    /// The stage, if it takes many records at once.
    #[doc(hidden)]
    fn as_bulk(&mut self) -> Option<&mut dyn crate::bulk::BulkProcessor> {
        None
    }
}

/// Makes the processor of a stage, once per task.
pub(crate) type Factory = dyn Fn() -> Box<dyn Processor> + Send + Sync;

/// Why a record or a timer failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessError {
    /// It may succeed later: try again with a growing pause, then give it to the dead letters.
    Retry(String),
    /// It will never succeed: give it to the dead letters now.
    Reject(String),
}

impl ProcessError {
    /// The text of the error.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(reason) | Self::Reject(reason) => reason,
        }
    }
}

impl std::fmt::Display for ProcessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProcessError {}

/// Which time a timer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimeKind {
    /// Event time: due when the watermark has reached it.
    Event,
    /// Processing time: due when the clock of the machine has reached it.
    Processing,
}

impl TimeKind {
    /// The name in headers and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Processing => "processing",
        }
    }
}

/// A timer of a stage. All three fields together are its identity: setting it twice is setting it
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Which time it goes by.
    pub kind: TimeKind,
    /// When it is due, milliseconds since 1970. A time that has passed is due at once.
    pub at_ms: i64,
    /// What it is for, up to 64 KiB; the stage chooses.
    pub key: Vec<u8>,
}
