//! Letting go of the timers that are due last, and taking them in again.
//!
//! Where a task has several stages, the store outside has the timers of a millisecond in another order than they
//! fire: there all timers of a millisecond are in memory, or none is certain to be.

use super::{Queue, TimerId, Timers, cost};
use crate::processor::TimeKind;
use crate::spilled::{Missed, Place};
use crate::timers::Origin;

/// Most timers that are read at once.
const AHEAD_MOST: usize = 4096;

impl Place for TimerId {
    fn behind(&self) -> Self {
        Self {
            key: self.key.behind(),
            ..*self
        }
    }
}

impl TimerId {
    /// What comes before all timers of a time.
    pub(crate) fn first_at(at_ms: i64) -> Self {
        Self {
            at_ms,
            node: 0,
            key: Vec::new(),
        }
    }
}

impl Queue {
    /// The first place at which a timer may be outside, and where that ends.
    fn first_unknown(&self) -> Option<(TimerId, TimerId)> {
        if self.spilled.is_empty() {
            return None;
        }
        self.spilled
            .first_unknown(&TimerId::first_at(i64::MIN), None)
    }

    /// When the first one is due, as far as can be told: that of a gap may be gone.
    pub(super) fn next_at_ms(&self) -> Option<i64> {
        let known = self.timers.first_key_value().map(|(id, _)| id.at_ms);
        let unknown = self.first_unknown().map(|(id, _)| id.at_ms);
        known.into_iter().chain(unknown).min()
    }
}

impl Timers {
    /// From now on the store outside has what [`Self::take_dirty`] gives.
    pub(crate) fn spill(&mut self, stages: usize) {
        self.on_its_way.get_or_insert_default();
        self.whole_ms = stages > 1;
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

    /// From here to before there, as gaps may begin and end.
    fn range(&self, from: &TimerId, to: &TimerId) -> (TimerId, TimerId) {
        match self.whole_ms {
            true => {
                let behind = to.at_ms.max(from.at_ms).saturating_add(1);
                (TimerId::first_at(from.at_ms), TimerId::first_at(behind))
            }
            false => (from.clone(), to.clone()),
        }
    }

    /// Notes what is not in memory where the store outside may have it.
    pub(super) fn look_for(&self, kind: TimeKind, id: &TimerId) {
        let spilled = &self.queue(kind).spilled;
        if !spilled.is_empty() && spilled.is_unknown(id) && !self.has_changed(kind, id) {
            let (from, to) = self.range(id, &id.behind());
            spilled.miss(from, to, usize::MAX);
        }
    }

    /// A change of a timer that may be outside only.
    pub(super) fn note_blind(&mut self, kind: TimeKind, id: &TimerId) {
        let queue = self.queue(kind);
        if queue.spilled.is_empty() || queue.timers.contains_key(id) {
            return;
        }
        if queue.spilled.is_unknown(id) && !self.has_changed(kind, id) {
            self.outside_bytes = self.outside_bytes.saturating_sub(cost(id));
        }
    }

    /// Whether an earlier timer than the first one in memory may be outside; notes it then.
    pub(super) fn misses_first(&self, kind: TimeKind) -> bool {
        let queue = self.queue(kind);
        let Some((from, to)) = queue.first_unknown() else {
            return false;
        };
        let first = queue.timers.first_key_value();
        if first.is_some_and(|(id, _)| *id < from) {
            return false;
        }
        if self.whole_ms {
            let (from, behind) = self.range(&from, &from);
            if behind < to {
                queue.spilled.miss(behind.clone(), to, AHEAD_MOST);
            }
            queue.spilled.miss(from, behind, usize::MAX);
        } else {
            queue.spilled.miss(from, to, AHEAD_MOST);
        }
        true
    }

    /// Whether something was needed that is not in memory.
    #[inline]
    pub(crate) fn has_missed(&self) -> bool {
        self.event.spilled.has_missed() || self.processing.spilled.has_missed()
    }

    pub(crate) fn take_missed(&mut self) -> Vec<(TimeKind, Missed<TimerId>)> {
        let mut missed = Vec::new();
        for kind in [TimeKind::Event, TimeKind::Processing] {
            let of = self.queue_mut(kind).spilled.take_missed();
            missed.extend(of.map(|missed| (kind, missed)));
        }
        missed
    }

    /// Forgets what was read of gaps where that is much; what is needed of it is read again.
    pub(crate) fn trim(&mut self) {
        self.event.spilled.trim();
        self.processing.spilled.trim();
    }

    /// Takes in a timer that the store outside had, unless memory knows better.
    pub(crate) fn admit(&mut self, kind: TimeKind, id: &TimerId, origin: Origin) {
        if !self.queue(kind).timers.contains_key(id) && !self.has_changed(kind, id) {
            self.load(kind, id, origin);
            self.outside_bytes = self.outside_bytes.saturating_sub(cost(id));
        }
    }

    /// All timers from `from` to before `to`, or the first ones of them up to `last`, were given to
    /// [`Self::admit`].
    pub(crate) fn learn(
        &mut self,
        kind: TimeKind,
        from: TimerId,
        to: TimerId,
        last: Option<TimerId>,
    ) {
        let to = match last {
            None => to,
            // There may be more of its time.
            Some(last) if self.whole_ms => TimerId::first_at(last.at_ms),
            Some(last) => last.behind(),
        };
        self.queue_mut(kind).spilled.learn(from, to);
    }

    /// Timers that were not loaded, from the first to the last one.
    pub(crate) fn leave_out(
        &mut self,
        kind: TimeKind,
        (first, last): (TimerId, TimerId),
        bytes: usize,
    ) {
        let (from, to) = self.range(&first, &last.behind());
        self.queue_mut(kind).spilled.open(from, to);
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
        let upto = self.size_bytes().saturating_sub(most_bytes);
        for kind in [TimeKind::Event, TimeKind::Processing] {
            self.evict_kind(kind, upto);
        }
    }

    fn evict_kind(&mut self, kind: TimeKind, upto: usize) {
        let mut gone: Vec<TimerId> = Vec::new();
        let mut freed = 0;
        for id in self.queue(kind).timers.keys().rev() {
            let same_ms = gone.last().is_some_and(|last| last.at_ms == id.at_ms);
            let may_end = !(self.whole_ms && same_ms);
            if may_end && self.size_bytes().saturating_sub(freed) <= upto {
                break;
            }
            // Nothing comes behind the last millisecond.
            let has_end = !self.whole_ms || id.at_ms < i64::MAX;
            if has_end && !self.has_changed(kind, id) {
                freed += cost(id);
                gone.push(id.clone());
            }
        }
        let (Some(last), Some(first)) = (gone.first(), gone.last()) else {
            return;
        };
        let (from, to) = self.range(first, &last.behind());
        let queue = self.queue_mut(kind);
        queue.spilled.open(from, to);
        for id in &gone {
            queue.timers.remove(id);
        }
        for id in &gone {
            self.sizes.sub(id.node, &id.key, cost(id));
        }
        self.outside_bytes += freed;
    }
}
