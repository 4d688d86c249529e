//! The timers of a task, ordered by when they are due, with an undo journal for the current unit.

mod evict;

use crate::processor::TimeKind;
use crate::sizes::Sizes;
use crate::spilled::Spilled;
use crate::store::ENTRY_COST_BYTES;
use flowstone_wire::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a change of a timer is taken to cost in a delta beside its key.
const CHANGE_COST_BYTES: usize = 56;

/// The identity of a timer among those of its kind; the order is the one in which they fire: of
/// several that are due at the same time a stage comes before the ones behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    pub(crate) at_ms: i64,
    pub(crate) node: u16,
    pub(crate) key: Vec<u8>,
}

/// The record that a unit of work, or a timer, came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
    /// Of the record's key as the stage that set the timer saw it.
    pub(crate) key_hash: u64,
    /// Whether that key was another one than the input record's.
    pub(crate) rekeyed: bool,
}

/// The timers of a kind.
#[derive(Debug, Default)]
struct Queue {
    timers: BTreeMap<TimerId, Origin>,
    /// Where timers may be outside only.
    spilled: Spilled<TimerId>,
}

/// All timers of a task.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    event: Queue,
    processing: Queue,
    sizes: Sizes,
    undo: Vec<Undo>,
    /// The first one of an id says whether it was there before the step.
    changed: Vec<(TimeKind, TimerId, bool)>,
    changed_mark: usize,
    change_bytes: usize,
    change_bytes_mark: usize,
    dirty: BTreeSet<(TimeKind, TimerId)>,
    /// What the store outside was given and may not have yet; `None` where there is none.
    on_its_way: Option<BTreeSet<(TimeKind, TimerId)>>,
    /// What was let go is taken to be as much as this.
    outside_bytes: usize,
    /// Stages are not ordered as outside: gaps begin and end between milliseconds.
    whole_ms: bool,
}

#[derive(Debug)]
struct Undo {
    kind: TimeKind,
    id: TimerId,
    old: Option<Origin>,
    /// `dirty` has the timer because of this.
    marked: bool,
}

fn cost(id: &TimerId) -> usize {
    id.key.len() + size_of::<TimerId>() + size_of::<Origin>() + ENTRY_COST_BYTES
}

impl Timers {
    fn queue(&self, kind: TimeKind) -> &Queue {
        match kind {
            TimeKind::Event => &self.event,
            TimeKind::Processing => &self.processing,
        }
    }

    fn queue_mut(&mut self, kind: TimeKind) -> &mut Queue {
        match kind {
            TimeKind::Event => &mut self.event,
            TimeKind::Processing => &mut self.processing,
        }
    }

    /// Sets a timer; one that is set already keeps its origin.
    pub(crate) fn set(&mut self, kind: TimeKind, id: TimerId, origin: Origin) {
        if !self.queue(kind).timers.contains_key(&id) {
            self.look_for(kind, &id);
            self.change(kind, id, Some(origin));
        }
    }

    pub(crate) fn cancel(&mut self, kind: TimeKind, id: TimerId) {
        if self.queue(kind).timers.contains_key(&id) {
            self.change(kind, id, None);
        } else {
            self.look_for(kind, &id);
        }
    }

    fn change(&mut self, kind: TimeKind, id: TimerId, origin: Option<Origin>) {
        let old = self.replace(kind, &id, origin);
        self.changed.push((kind, id.clone(), old.is_some()));
        self.change_bytes += id.key.len() + CHANGE_COST_BYTES;
        // It is not to be looked for outside, where it still is.
        let is_gone = self.on_its_way.is_some() && old.is_some();
        let marked = is_gone && self.dirty.insert((kind, id.clone()));
        self.undo.push(Undo {
            kind,
            id,
            old,
            marked,
        });
    }

    fn replace(&mut self, kind: TimeKind, id: &TimerId, origin: Option<Origin>) -> Option<Origin> {
        let old = match origin {
            Some(origin) => {
                self.sizes.add(id.node, &id.key, cost(id));
                self.queue_mut(kind).timers.insert(id.clone(), origin)
            }
            None => self.queue_mut(kind).timers.remove(id),
        };
        if old.is_some() {
            self.sizes.sub(id.node, &id.key, cost(id));
        }
        old
    }

    /// The kind of the next timer that is due at this watermark and this time.
    #[inline]
    pub(crate) fn due(&self, watermark_ms: i64, now_ms: i64) -> Option<TimeKind> {
        let is_due = |queue: &Queue, time_ms| queue.next_at_ms().is_some_and(|at| at <= time_ms);
        if is_due(&self.event, watermark_ms) {
            Some(TimeKind::Event)
        } else if is_due(&self.processing, now_ms) {
            Some(TimeKind::Processing)
        } else {
            None
        }
    }

    /// Takes out the first timer of this kind, as part of the unit. `None` where it is not in memory: then it was
    /// missed.
    pub(crate) fn take_first(&mut self, kind: TimeKind) -> Option<(TimerId, Origin)> {
        if self.misses_first(kind) {
            return None;
        }
        let (id, origin) = self.queue(kind).timers.first_key_value()?;
        let (id, origin) = (id.clone(), *origin);
        self.change(kind, id.clone(), None);
        Some((id, origin))
    }

    /// When the first timer of this kind is due.
    pub(crate) fn next_at_ms(&self, kind: TimeKind) -> Option<i64> {
        self.queue(kind).next_at_ms()
    }

    /// Cost of the timers of a stage in memory whose keys begin with this byte.
    pub(crate) fn size_bytes_of(&self, node: u16, first: u8) -> usize {
        self.sizes.of(node, first)
    }

    /// Cost of all timers in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.sizes.total()
    }

    /// Cost of the changes of this step.
    pub(crate) fn change_bytes(&self) -> usize {
        self.change_bytes
    }

    /// Cost of the changes of this unit.
    pub(crate) fn unit_change_bytes(&self) -> usize {
        self.change_bytes - self.change_bytes_mark
    }

    /// The changes of the unit count.
    #[inline]
    pub(crate) fn commit_unit(&mut self) {
        self.undo.clear();
        self.changed_mark = self.changed.len();
        self.change_bytes_mark = self.change_bytes;
    }

    /// The changes of the unit never were.
    pub(crate) fn roll_back_unit(&mut self) {
        while let Some(undo) = self.undo.pop() {
            self.replace(undo.kind, &undo.id, undo.old);
            if undo.marked {
                self.dirty.remove(&(undo.kind, undo.id));
            }
        }
        self.changed.truncate(self.changed_mark);
        self.change_bytes = self.change_bytes_mark;
    }

    /// Ends the step: hands out every timer that it changed, with its origin if it is set now.
    pub(crate) fn finish_step(&mut self, mut each: impl FnMut(TimeKind, TimerId, Option<Origin>)) {
        let mut changed = std::mem::take(&mut self.changed);
        // Stable, so that the first entry of an id stays first and is the one that is kept.
        changed.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        changed.dedup_by(|b, a| a.0 == b.0 && a.1 == b.1);
        for (kind, id, existed) in changed.drain(..) {
            let origin = self.queue(kind).timers.get(&id).copied();
            if origin.is_some() || existed {
                self.dirty.insert((kind, id.clone()));
                each(kind, id, origin);
            }
        }
        self.changed = changed;
        self.changed_mark = 0;
        self.change_bytes = 0;
        self.change_bytes_mark = 0;
    }

    /// Replays a change.
    pub(crate) fn apply(&mut self, kind: TimeKind, id: TimerId, origin: Option<Origin>) {
        self.note_blind(kind, &id);
        self.replace(kind, &id, origin);
        self.dirty.insert((kind, id));
    }

    /// Takes over a timer from outside; it is not dirty.
    pub(crate) fn load(&mut self, kind: TimeKind, id: &TimerId, origin: Origin) {
        self.replace(kind, id, Some(origin));
    }

    /// The timers that changed since the last call, with their origin if they are set.
    pub(crate) fn take_dirty(&mut self, mut each: impl FnMut(TimeKind, &TimerId, Option<&Origin>)) {
        let dirty = std::mem::take(&mut self.dirty);
        for (kind, id) in &dirty {
            each(*kind, id, self.queue(*kind).timers.get(id));
        }
        if let Some(on_its_way) = &mut self.on_its_way {
            on_its_way.extend(dirty);
        }
    }

    /// Every timer in memory.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TimeKind, &TimerId, &Origin)> {
        [TimeKind::Event, TimeKind::Processing]
            .into_iter()
            .flat_map(|kind| {
                self.queue(kind)
                    .timers
                    .iter()
                    .map(move |(id, origin)| (kind, id, origin))
            })
    }
}

#[cfg(test)]
mod tests;
