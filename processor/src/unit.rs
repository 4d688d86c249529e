//! A unit of work: one record or timer through the whole tree, kept or undone as one.

use crate::output::{Draft, OutputMark, Outputs};
use crate::parts::PartBook;
use crate::pipeline::{PipelineOptions, Plan, SinkRef};
use crate::processor::ProcessError;
use crate::store::Store;
use crate::timers::{Origin, Timers};
use flowstone_wire::limits;
use serde::{Deserialize, Serialize};

/// Most bytes of outputs that one record or timer may cause.
pub(crate) const UNIT_OUTPUT_BYTES_MAX: usize = 32 << 20;
/// Most bytes of state and timer changes that one record or timer may cause.
pub(crate) const UNIT_CHANGE_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(UNIT_OUTPUT_BYTES_MAX > limits::RECORD_VALUE_BYTES_MAX);

/// How far event time has come for the stages.
///
/// When the watermark jumps, timers fire one by one and time passes with them: at a timer of time
/// `t` the stages up to its own are at `t`, the ones behind it are 1 ms earlier, because their own
/// timers of time `t` have not fired yet. So what a window emits on closing is not late for a
/// window behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EventClock {
    at_ms: i64,
    /// Stages up to this number are at `at_ms`.
    node: u16,
}

impl EventClock {
    /// All stages are at `at_ms`.
    pub(crate) const fn all_at(at_ms: i64) -> Self {
        Self {
            at_ms,
            node: u16::MAX,
        }
    }

    /// A timer of stage `node` fires.
    pub(crate) const fn firing(at_ms: i64, node: u16) -> Self {
        Self { at_ms, node }
    }

    /// What a stage sees.
    pub(crate) fn seen_by(self, node: u16) -> i64 {
        if node <= self.node {
            self.at_ms
        } else {
            self.at_ms.saturating_sub(1)
        }
    }
}

/// What failed, and where: `None` is the event time, before any stage.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) node: Option<u16>,
    /// The part of the stage.
    pub(crate) part: Option<usize>,
    pub(crate) error: ProcessError,
}

/// What the current unit may change, and what it has counted.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) store: Store,
    pub(crate) timers: Timers,
    pub(crate) outputs: Outputs,
    pub(crate) parts: PartBook,
    outputs_mark: OutputMark,
    pub(crate) now_ms: i64,
    pub(crate) clock: EventClock,
    pub(crate) origin: Origin,
    pub(crate) fault: Option<Fault>,
    /// Emitted records go nowhere.
    pub(crate) muted: bool,
    pub(crate) emitted: u64,
    pub(crate) late: u64,
    state_bytes_max: usize,
}

impl Unit {
    /// State may become as large as these options say.
    pub(crate) fn set_limit(&mut self, options: &PipelineOptions) {
        self.state_bytes_max = options.state_bytes_max;
    }

    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            store: Store::new(plan.nodes.len()),
            timers: Timers::default(),
            outputs: Outputs::default(),
            parts: PartBook::default(),
            outputs_mark: OutputMark::default(),
            now_ms: 0,
            clock: EventClock::all_at(i64::MIN),
            origin: Origin::default(),
            fault: None,
            muted: false,
            emitted: 0,
            late: 0,
            state_bytes_max: plan.options.state_bytes_max,
        }
    }

    /// Starts a unit.
    #[inline]
    pub(crate) fn begin(&mut self, origin: Origin) {
        self.origin = origin;
        self.fault = None;
        self.emitted = 0;
        self.late = 0;
        self.parts.begin();
        self.outputs_mark = self.outputs.mark();
    }

    /// The first failure counts; what comes behind it is undone anyway.
    pub(crate) fn fail(&mut self, node: Option<u16>, error: ProcessError) {
        let part = self.parts.current();
        self.fault.get_or_insert(Fault { node, part, error });
    }

    /// Ends the unit: keeps it, or undoes it and says what failed.
    #[inline]
    pub(crate) fn end(&mut self) -> Option<Fault> {
        let Some(fault) = self.fault.take() else {
            self.commit();
            return None;
        };
        self.undo();
        Some(fault)
    }

    /// Whether the unit needed something that is not in memory: what it did then counts for nothing.
    #[inline]
    pub(crate) fn has_missed(&self) -> bool {
        self.store.has_missed() || self.timers.has_missed()
    }

    /// The unit never was.
    pub(crate) fn undo(&mut self) {
        self.fault = None;
        self.store.roll_back_unit();
        self.timers.roll_back_unit();
        self.outputs.cut_back(self.outputs_mark);
    }

    #[inline]
    pub(crate) fn commit(&mut self) {
        self.store.commit_unit();
        self.timers.commit_unit();
        self.parts.commit();
    }

    /// Emits a record to a sink.
    #[inline]
    pub(crate) fn emit(&mut self, node: Option<u16>, draft: &Draft<'_>) {
        if self.fault.is_some() || self.muted {
            return;
        }
        if let Err(error) = self.outputs.push(draft) {
            self.fail(node, error);
            return;
        }
        let is_late = draft.sink == SinkRef::LATE;
        match is_late {
            true => self.late += 1,
            false => self.emitted += 1,
        }
        self.parts.emitted(is_late);
        if self.outputs.bytes_since(self.outputs_mark) > UNIT_OUTPUT_BYTES_MAX {
            let text = "one record or timer emits more than 32 MiB: emit less at once";
            self.fail(node, ProcessError::Reject(text.into()));
        }
    }

    /// Memory of state and timers, in bytes.
    pub(crate) fn state_bytes(&self) -> usize {
        self.store.size_bytes() + self.timers.size_bytes()
    }

    /// The same, of the entries of a stage whose keys begin with this byte.
    pub(crate) fn state_bytes_of(&self, node: u16, first: u8) -> usize {
        self.store.size_bytes_of(node, first) + self.timers.size_bytes_of(node, first)
    }

    fn is_over(&self, size_bytes: usize) -> bool {
        size_bytes > self.state_bytes_max
    }

    /// Lets go of what a store outside has, where the state takes more memory than it may. Says whether that was
    /// enough: not where most of it has changed since the store took changes.
    pub(crate) fn make_room(&mut self) -> bool {
        let size_bytes = self.state_bytes();
        if !self.is_over(size_bytes) || !self.store.spills() {
            return true;
        }
        // A part goes at once, so that it is not looked for with every entry.
        let target = self.state_bytes_max / 4 * 3;
        let excess = size_bytes - target;
        let of_timers =
            (excess as u128 * self.timers.size_bytes() as u128 / size_bytes as u128) as usize;
        self.store.evict(excess - of_timers);
        self.timers.evict(of_timers);
        // Else the next entry would have all of it looked through again.
        self.state_bytes() <= target
    }

    /// Holds a change by `node` against the limits; before it the state took `before_bytes`.
    /// What does not grow is always allowed, or a state over its limit could never shrink.
    pub(crate) fn check_state(&mut self, node: u16, before_bytes: usize) {
        let change_bytes = self.store.unit_change_bytes() + self.timers.unit_change_bytes();
        let size_bytes = self.state_bytes();
        if change_bytes > UNIT_CHANGE_BYTES_MAX {
            let text = "one record or timer changes more than 2 MiB of state: change less at once";
            self.fail(Some(node), ProcessError::Reject(text.into()));
        } else if self.is_over(size_bytes) && !self.store.spills() && size_bytes > before_bytes {
            self.fail(
                Some(node),
                ProcessError::Reject(format!(
                    "the state would take {size_bytes} bytes, over the limit of {}: \
                     raise state_bytes_max, or keep less",
                    self.state_bytes_max
                )),
            );
        }
    }

    /// Bytes of outputs and changes since the start of the step.
    pub(crate) fn step_bytes(&self) -> usize {
        self.outputs.size_bytes() + self.store.change_bytes() + self.timers.change_bytes()
    }
}
