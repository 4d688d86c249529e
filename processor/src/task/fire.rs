//! Firing the timers that are due, and giving up those that fail.

use super::dead_letter::DeadLetter;
use super::retries::Cause;
use super::{Budget, Stop, Task};
use crate::context::{Context, Incoming};
use crate::processor::{Processor, TimeKind, Timer};
use crate::timers::{Origin, TimerId};
use crate::unit::{EventClock, Fault};
use std::ops::ControlFlow;

impl Task {
    /// Fires every timer that is due.
    #[inline]
    pub(super) fn fire_due(&mut self, budget: &mut Budget) -> ControlFlow<Stop> {
        let watermark_ms = self.inputs.watermark_ms();
        while let Some(kind) = self.unit.timers.due(watermark_ms, self.unit.now_ms) {
            budget.take_one(&self.unit)?;
            self.fire_first(kind, watermark_ms)?;
            self.stats.timers += 1;
        }
        self.unit.clock = EventClock::all_at(watermark_ms);
        ControlFlow::Continue(())
    }

    fn fire_first(&mut self, kind: TimeKind, watermark_ms: i64) -> ControlFlow<Stop> {
        self.unit.begin(Origin::default());
        let Some((id, origin)) = self.unit.timers.take_first(kind) else {
            return ControlFlow::Break(Stop::Pause);
        };
        self.unit.origin = origin;
        let clock_before = self.unit.clock;
        self.unit.clock = clock_before.max(match kind {
            TimeKind::Event => EventClock::firing(id.at_ms, id.node),
            TimeKind::Processing => EventClock::all_at(watermark_ms),
        });
        let node = id.node;
        let timer = Timer {
            kind,
            at_ms: id.at_ms,
            key: id.key,
        };
        let result = self.at_stage(node, |processor, ctx| processor.on_timer(&timer, ctx));
        if let Err(error) = result {
            self.unit.fail(Some(node), error);
        }
        match self.end_unit(|| Cause::Timer(kind, id_of(&timer, node))) {
            ControlFlow::Continue(None) => {}
            ControlFlow::Continue(Some((fault, attempts))) => {
                let rejected = self.reject_timer(&timer, node, origin, &fault, attempts);
                if rejected.is_break() {
                    self.unit.clock = clock_before;
                }
                return rejected;
            }
            ControlFlow::Break(stop) => {
                self.unit.clock = clock_before;
                return ControlFlow::Break(stop);
            }
        }
        ControlFlow::Continue(())
    }

    /// Removes a timer that failed for good, lets its stage put its state in order, and writes the
    /// dead letter.
    fn reject_timer(
        &mut self,
        timer: &Timer,
        node: u16,
        origin: Origin,
        fault: &Fault,
        attempts: u32,
    ) -> ControlFlow<Stop> {
        self.unit.begin(origin);
        self.unit.timers.cancel(timer.kind, id_of(timer, node));
        self.unit.muted = true;
        let value = self.at_stage(node, |processor, ctx| {
            processor.on_timer_rejected(timer, ctx)
        });
        self.unit.muted = false;
        if self.unit.has_missed() {
            self.unit.undo();
            // It fails once more when that is there; nothing that it needed is let go until then.
            self.stats.failed -= 1;
            self.unit.parts.takes_back(fault.part);
            self.admitted = true;
            return ControlFlow::Break(Stop::Pause);
        }
        if self.unit.end().is_some() {
            // Its state could not be put in order within the limits; the timer goes anyway.
            self.unit.begin(origin);
            self.unit.timers.cancel(timer.kind, id_of(timer, node));
            self.unit.commit();
        }
        let letter = DeadLetter {
            plan: &self.pipeline.plan,
            fault,
            attempts,
            partition: origin.partition,
            offset: origin.offset,
        };
        letter.push_timer(&mut self.unit.outputs, timer, value, self.unit.now_ms);
        ControlFlow::Continue(())
    }

    /// Lets the processor of a stage act outside of the way of a record, for a timer or for what the unit came from.
    pub(super) fn at_stage<R>(
        &mut self,
        node: u16,
        act: impl FnOnce(&mut dyn Processor, &mut Context<'_>) -> R,
    ) -> R {
        let origin = self.unit.origin;
        let (front, rest) = self.processors.split_at_mut(usize::from(node) + 1);
        let mut ctx = Context {
            unit: &mut self.unit,
            plan: &self.pipeline.plan,
            rest,
            node,
            incoming: Incoming::Hash(origin.key_hash),
            rekeyed: origin.rekeyed,
        };
        act(front[usize::from(node)].as_mut(), &mut ctx)
    }
}

fn id_of(timer: &Timer, node: u16) -> TimerId {
    TimerId {
        at_ms: timer.at_ms,
        node,
        key: timer.key.clone(),
    }
}
