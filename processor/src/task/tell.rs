//! What others wait for: the time of this task, where it writes to an exchange, and who is idle.

use super::Task;
use crate::processor::TimeKind;
use crate::timers::Origin;

/// A step that is less late than this was not asleep, however soon partitions are idle.
const SLEPT_MS: i64 = 1_000;

impl Task {
    /// When a step is worth its while because partitions become idle.
    pub(super) fn idle_deadline(&self) -> Option<i64> {
        let options = self.pipeline.options();
        let tells = self.pipeline.exchange().is_some();
        let event_ms = self.unit.timers.next_at_ms(TimeKind::Event);
        if !tells && event_ms.is_none() {
            return None;
        }
        let rises_at_ms = self.inputs.idle_deadline_ms(options, event_ms);
        let all_idle_at_ms = self.inputs.all_idle_at_ms(options).filter(|_| tells);
        [rises_at_ms, all_idle_at_ms].into_iter().flatten().min()
    }

    /// Whether the step comes so long after it was due that whoever runs the task did nothing meanwhile, as
    /// where a machine was asleep or its clock was set: what there is to read may not be here yet.
    pub(super) fn has_slept(&self, now_ms: i64) -> bool {
        let late_ms = self.idle_deadline().map(|due| now_ms.saturating_sub(due));
        late_ms.is_some_and(|ms| ms >= self.pipeline.options().idle_ms.max(SLEPT_MS))
    }

    /// Tells the tasks behind an exchange how far this one is, if they do not know.
    pub(super) fn tell_time(&mut self) {
        if self.pipeline.exchange().is_none() {
            return;
        }
        let time = self.inputs.time();
        // The first step tells that there is somebody to wait for. A row says that too, and records that say nothing
        // about time make nobody active: then it is said again that nobody needs to wait.
        let has_sent = !self.unit.outputs.is_empty();
        if self.told == Some(time) && !(time.idle && has_sent) {
            return;
        }
        // What rows have said stands until this is told, be it at a later step.
        self.told = self.told.filter(|_| !has_sent);
        if self.unit.has_missed() {
            return;
        }
        self.unit.begin(Origin {
            rekeyed: true,
            ..Origin::default()
        });
        let told = self.at_stage(0, |stage, ctx| match stage.as_bulk() {
            Some(stage) => stage.tell_time(time, ctx),
            None => Ok(()),
        });
        if let Err(error) = told {
            self.unit.fail(Some(0), error);
        }
        if self.unit.end().is_none() {
            (self.told, self.told_changed) = (Some(time), true);
        }
    }
}
