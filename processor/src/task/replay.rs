//! Deltas: what a step changed, and applying it to another task of the same pipeline.

use super::Task;
use crate::delta::{Blob, Delta, DeltaState, InputChange, StateChange, TimerChange};
use crate::inputs::Writer;
use crate::output::Outputs;
use crate::timers::TimerId;
use crate::unit::EventClock;

impl Task {
    /// Ends the step: all that changed since the last one, if anything did.
    pub(super) fn finish_step(&mut self) -> Option<Delta> {
        let state = self.changes();
        let outputs = &mut self.unit.outputs;
        if state.is_empty() && outputs.is_empty() {
            return None;
        }
        let next = Outputs::sized_like(outputs);
        let outputs = std::mem::replace(outputs, next);
        Some(Delta { outputs, state })
    }

    fn changes(&mut self) -> DeltaState {
        let nodes = &self.pipeline.plan.nodes;
        let mut state = DeltaState::default();
        self.inputs.take_changed(|input| {
            if input.writer != Writer::Silent {
                state.writers.push((input.partition, input.writer));
            }
            state.inputs.push(InputChange {
                partition: input.partition,
                position: input.position,
                watermark_ms: input.watermark_ms,
            });
        });
        state.watermark_ms = self.inputs.take_changed_watermark();
        state.told = self.told.filter(|_| std::mem::take(&mut self.told_changed));
        self.unit.store.finish_step(|node, key, value| {
            state.states.push(StateChange {
                stage: nodes[usize::from(node)].id,
                key: Blob(key),
                value: value.map(Blob),
            });
        });
        self.unit.timers.finish_step(|kind, id, origin| {
            state.timers.push(TimerChange {
                stage: nodes[usize::from(id.node)].id,
                kind,
                at_ms: id.at_ms,
                key: Blob(id.key),
                origin,
            });
        });
        let clock = self.unit.clock;
        let is_behind = clock != EventClock::all_at(self.inputs.watermark_ms());
        state.clock = is_behind.then_some(clock);
        let has_moved = state.watermark_ms.is_some() || state.told.is_some();
        self.watermark_dirty |= has_moved || is_behind || self.clock_was_behind;
        self.clock_was_behind = is_behind;
        state
    }

    /// Replays the changes of a step of a task of this pipeline. Deltas are applied in the order in
    /// which they were given out. Changes of stages that the pipeline no longer has are counted as
    /// [`Self::unclaimed`].
    pub fn apply(&mut self, delta: &DeltaState) {
        for input in &delta.inputs {
            let (position, watermark_ms) = (input.position, input.watermark_ms);
            self.inputs.set(input.partition, position, watermark_ms);
        }
        for (partition, writer) in &delta.writers {
            self.inputs.set_writer(*partition, *writer);
        }
        if let Some(watermark_ms) = delta.watermark_ms {
            self.inputs.set_watermark(watermark_ms);
        }
        let all = EventClock::all_at(self.inputs.watermark_ms());
        self.unit.clock = delta.clock.unwrap_or(all);
        self.told = delta.told.or(self.told);
        let has_moved = delta.watermark_ms.is_some() || delta.told.is_some();
        self.watermark_dirty |= has_moved || delta.clock.is_some() || self.clock_was_behind;
        self.clock_was_behind = delta.clock.is_some();
        for change in &delta.states {
            match self.pipeline.plan.node_of(change.stage) {
                Some(node) => {
                    let value = change.value.as_ref().map(|v| &v.0[..]);
                    self.unit.store.apply(node, &change.key.0, value);
                }
                None => self.unclaimed += 1,
            }
        }
        for change in &delta.timers {
            match self.pipeline.plan.node_of(change.stage) {
                Some(node) => {
                    let id = TimerId {
                        at_ms: change.at_ms,
                        node,
                        key: change.key.0.clone(),
                    };
                    self.unit.timers.apply(change.kind, id, change.origin);
                }
                None => self.unclaimed += 1,
            }
        }
    }
}
