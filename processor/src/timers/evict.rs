//! Letting go of the timers that are due last, and taking them in again.
//!
//! Gaps are told by times: all timers of a millisecond are in memory, or none is certain to be. So a timer never
//! fires before another one of its time that should come first.

use super::{Queue, TimerId, Timers, cost};
use crate::processor::TimeKind;
use crate::spilled::{Missed, Place};
use crate::timers::Origin;

/// Most timers behind the next ones that are read with them.
const AHEAD_MOST: usize = 1024;

impl Queue {
    /// When the first one is due, as far as can be told: that of a gap may be gone.
    pub(super) fn next_at_ms(&self) -> Option<i64> {
        let known = self.timers.first_key_value().map(|(id, _)| id.at_ms);
        if self.spilled.is_empty() {
            return known;
        }
        let unknown = self.spilled.first_unknown(&i64::MIN, None);
        known.into_iter().chain(unknown.map(|(at, _)| at)).min()
    }
}

impl Timers {
    /// From now on the store outside has what [`Self::take_dirty`] gives.
    pub(crate) fn spill(&mut self) {
        self.on_its_way.get_or_insert_default();
    }

    /// What is outside only, as far as it was counted.
    pub(crate) fn outside_bytes(&self) -> usize {
        self.outside_bytes
    }

    fn has_changed(&self, kind: TimeKind, id: &TimerId) -> bool {
        let id = (kind, id.clone());
        let on_its_way = self.on_its_way.as_ref();
        self.dirty.contains(&id) || on_its_way.is_none_or(|ids| ids.contains(&id))
    }

    /// Notes what is not in memory where the store outside may have it.
    pub(super) fn look_for(&self, kind: TimeKind, id: &TimerId) {
        let spilled = &self.queue(kind).spilled;
        if !spilled.is_empty() && spilled.is_unknown(&id.at_ms) && !self.has_changed(kind, id) {
            spilled.miss(id.at_ms, id.at_ms.behind(), usize::MAX);
        }
    }

    /// A change of a timer that may be outside only.
    pub(super) fn note_blind(&mut self, kind: TimeKind, id: &TimerId) {
        let queue = self.queue(kind);
        if queue.spilled.is_empty() || queue.timers.contains_key(id) {
            return;
        }
        if queue.spilled.is_unknown(&id.at_ms) && !self.has_changed(kind, id) {
            self.outside_bytes = self.outside_bytes.saturating_sub(cost(id));
        }
    }

    /// Whether an earlier timer than the first one in memory, or one of its time, may be outside; notes it then.
    pub(super) fn misses_first(&self, kind: TimeKind) -> bool {
        let queue = self.queue(kind);
        if queue.spilled.is_empty() {
            return false;
        }
        let Some((from, to)) = queue.spilled.first_unknown(&i64::MIN, None) else {
            return false;
        };
        let first = queue.timers.first_key_value();
        if first.is_some_and(|(id, _)| id.at_ms < from) {
            return false;
        }
        queue.spilled.miss(from, from.behind(), usize::MAX);
        if from.behind() < to {
            queue.spilled.miss(from.behind(), to, AHEAD_MOST);
        }
        true
    }

    /// Whether something was needed that is not in memory.
    #[inline]
    pub(crate) fn has_missed(&self) -> bool {
        self.event.spilled.has_missed() || self.processing.spilled.has_missed()
    }

    pub(crate) fn take_missed(&mut self) -> Vec<(TimeKind, Missed<i64>)> {
        let mut missed = Vec::new();
        for kind in [TimeKind::Event, TimeKind::Processing] {
            let of = self.queue_mut(kind).spilled.take_missed();
            missed.extend(of.map(|missed| (kind, missed)));
        }
        missed
    }

    /// Takes in a timer that the store outside had, unless memory knows better.
    pub(crate) fn admit(&mut self, kind: TimeKind, id: &TimerId, origin: Origin) {
        if !self.queue(kind).timers.contains_key(id) && !self.has_changed(kind, id) {
            self.load(kind, id, origin);
            self.outside_bytes = self.outside_bytes.saturating_sub(cost(id));
        }
    }

    /// All timers of these times were given to [`Self::admit`].
    pub(crate) fn learn(&mut self, kind: TimeKind, from_ms: i64, to_ms: i64) {
        self.queue_mut(kind).spilled.learn(from_ms, to_ms);
    }

    /// Timers that were not loaded, of the first time to the last one.
    pub(crate) fn leave_out(&mut self, kind: TimeKind, (first, last): (i64, i64), bytes: usize) {
        self.queue_mut(kind).spilled.open(first, last.behind());
        self.outside_bytes += bytes;
    }

    /// The store outside has all that it was given.
    pub(crate) fn stored(&mut self) {
        if let Some(on_its_way) = &mut self.on_its_way {
            on_its_way.clear();
        }
    }

    /// Lets go of timers that are outside as well, the last ones first, about so many bytes.
    pub(crate) fn evict(&mut self, most_bytes: usize) {
        let upto = self.size_bytes.saturating_sub(most_bytes);
        for kind in [TimeKind::Event, TimeKind::Processing] {
            self.evict_kind(kind, upto);
        }
    }

    fn evict_kind(&mut self, kind: TimeKind, upto: usize) {
        let mut gone: Vec<TimerId> = Vec::new();
        let mut freed = 0;
        for id in self.queue(kind).timers.keys().rev() {
            // Whole milliseconds only.
            let ends = gone.last().is_none_or(|last| last.at_ms != id.at_ms);
            if ends && self.size_bytes.saturating_sub(freed) <= upto {
                break;
            }
            if !self.has_changed(kind, id) {
                freed += cost(id);
                gone.push(id.clone());
            }
        }
        let (Some(last), Some(first)) = (gone.first(), gone.last()) else {
            return;
        };
        let (first, last) = (first.at_ms, last.at_ms);
        let queue = self.queue_mut(kind);
        queue.spilled.open(first, last.behind());
        for id in &gone {
            queue.timers.remove(id);
        }
        self.size_bytes -= freed;
        self.outside_bytes += freed;
    }
}
