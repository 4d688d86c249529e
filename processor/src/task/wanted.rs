//! State that is larger than its memory: what a task asks for of the store outside, and takes from it.
//!
//! ```text
//! step --> a unit misses entries --> undone --> Wanted --> the driver reads --> Found --> step again
//! ```
//!
//! A task that nobody keeps a store for has all of its state in memory.

use super::Task;
use super::stored::{Entry, state_key, timer_key, timers_key};
use crate::pipeline::StageId;
use crate::processor::TimeKind;
use crate::spilled::{Missed, Place};
use crate::timers::TimerId;
use flowstone_wire::Failure;
use std::collections::BTreeMap;

/// Entries that a task needs, by the keys that [`Task::take_dirty`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first key.
    pub from: Vec<u8>,
    /// Behind the last one.
    pub to: Vec<u8>,
    /// So many are enough, the first ones; `usize::MAX`: all, whatever they take.
    pub most: usize,
}

/// What the store has of a [`Wanted`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first of its entries, in the order of their keys.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// These are all.
    pub complete: bool,
}

/// What was asked for.
#[derive(Debug)]
pub(super) enum Asked {
    State(u16, Missed<Vec<u8>>),
    Timers(TimeKind, Missed<TimerId>),
}

/// A range of entries that were not loaded.
#[derive(Debug)]
struct Range {
    first: Vec<u8>,
    last: Vec<u8>,
    entries: usize,
    bytes: usize,
}

/// Stored entries that are not loaded with the others because they are too many.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// By what the keys of a stage's state, or of a kind of timers, begin with.
    ranges: BTreeMap<Vec<u8>, Range>,
}

impl LeftOut {
    /// Notes an entry. Says whether it may be left out; what may not must be loaded.
    pub fn note(&mut self, key: &[u8], value: &[u8]) -> bool {
        let of = match Entry::parse(key, value) {
            Some(Entry::State(..)) => &key[..5],
            Some(Entry::Timer(..)) => &key[..2],
            _ => return false,
        };
        if !self.ranges.contains_key(of) {
            let range = Range {
                first: key.to_vec(),
                last: Vec::new(),
                entries: 0,
                bytes: 0,
            };
            self.ranges.insert(of.to_vec(), range);
        }
        if let Some(range) = self.ranges.get_mut(of) {
            range.last.clear();
            range.last.extend_from_slice(key);
            range.entries += 1;
            range.bytes += key.len() + value.len();
        }
        true
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

fn stage_of(state_key: &[u8]) -> StageId {
    let bytes = state_key.get(1..5).and_then(|b| b.try_into().ok());
    StageId(u32::from_be_bytes(
        bytes.expect("the keys of state have a stage"),
    ))
}

impl Task {
    /// From now on the driver keeps a store with all that [`Self::take_dirty`] gives, beside what was
    /// loaded: state that does not fit into memory stays there alone.
    pub fn spill(&mut self) {
        self.unit.store.spill();
        self.unit.timers.spill(self.pipeline.plan.nodes.len());
    }

    /// The store has these entries as well. To be said before [`Self::apply`] and the first step.
    pub fn leave_out(&mut self, left_out: &LeftOut) {
        self.spill();
        for (of, range) in &left_out.ranges {
            let (first, last) = (&range.first[..], &range.last[..]);
            if of.len() == 2 {
                let kind = match of[1] {
                    0 => TimeKind::Event,
                    _ => TimeKind::Processing,
                };
                if let Some(both) = self.timer_of(first).zip(self.timer_of(last)) {
                    self.unit.timers.leave_out(kind, both, range.bytes);
                }
            } else if let Some(node) = self.pipeline.plan.node_of(stage_of(first)) {
                let counts = (range.entries, range.bytes);
                let store = &mut self.unit.store;
                store.leave_out(node, (&first[5..], &last[5..]), counts);
            } else {
                self.unclaimed += range.entries as u64;
            }
        }
    }

    /// What the task needs before its next step. The driver reads it, and says so by [`Self::admit`].
    pub fn wanted(&self) -> Vec<Wanted> {
        let stage = |node: u16| self.pipeline.plan.nodes[usize::from(node)].id;
        let wanted = |asked: &Asked| match asked {
            Asked::State(node, missed) => Wanted {
                from: state_key(stage(*node), &missed.from),
                to: state_key(stage(*node), &missed.to),
                most: missed.most,
            },
            Asked::Timers(kind, missed) => Wanted {
                from: self.timer_place(*kind, &missed.from),
                to: self.timer_place(*kind, &missed.to),
                most: missed.most,
            },
        };
        self.asked.iter().map(wanted).collect()
    }

    /// Takes what was found of each [`Self::wanted`], in their order; of those at the end there may be nothing
    /// yet. The store must have had all that [`Self::take_dirty`] gave before the last [`Self::stored`] when
    /// it was read, and nothing may have been stored in between.
    ///
    /// # Errors
    /// [`flowstone_wire::ErrorCode::Damaged`] for an entry that cannot be read.
    pub fn admit(&mut self, found: &[Found]) -> Result<(), Failure> {
        for (asked, found) in std::mem::take(&mut self.asked).into_iter().zip(found) {
            let mut last = None;
            for (key, value) in &found.entries {
                match Entry::parse(key, value) {
                    Some(Entry::State(_, key, value)) => {
                        if let Asked::State(node, _) = &asked {
                            self.unit.store.admit(*node, key, value);
                        }
                    }
                    Some(Entry::Timer(kind, at_ms, stage, timer, origin)) => {
                        if let Some(node) = self.pipeline.plan.node_of(stage) {
                            let key = timer.to_vec();
                            let id = TimerId { at_ms, node, key };
                            self.unit.timers.admit(kind, &id, origin);
                        }
                    }
                    _ => return Err(self.unreadable(key)),
                }
                last = Some(key);
            }
            self.learn(asked, last, found.complete);
        }
        self.admitted |= !found.is_empty();
        Ok(())
    }

    /// A range is in memory up to its last entry, or all of it.
    fn learn(&mut self, asked: Asked, last: Option<&Vec<u8>>, complete: bool) {
        match asked {
            Asked::State(node, missed) => {
                let upto = match last {
                    _ if complete => missed.to,
                    Some(last) => last[5..].to_vec().behind(),
                    None => return,
                };
                self.unit.store.learn(node, missed.from, upto);
            }
            Asked::Timers(kind, missed) => {
                let last = match last {
                    _ if complete => None,
                    Some(last) => match self.timer_of(last) {
                        Some(last) => Some(last),
                        None => return,
                    },
                    None => return,
                };
                let Missed { from, to, .. } = missed;
                self.unit.timers.learn(kind, from, to, last);
            }
        }
    }

    /// Where the timers from this one on are outside.
    fn timer_place(&self, kind: TimeKind, id: &TimerId) -> Vec<u8> {
        if id.key.is_empty() && id.node == 0 {
            return timers_key(kind, id.at_ms);
        }
        let stage = self.pipeline.plan.nodes[usize::from(id.node)].id;
        timer_key(kind, stage, id)
    }

    /// The timer of a key; of one of a stage that the pipeline does not have, its time.
    fn timer_of(&self, key: &[u8]) -> Option<TimerId> {
        let at = key.get(2..10)?.try_into().ok()?;
        let at_ms = (u64::from_be_bytes(at) ^ 1 << 63) as i64;
        let stage = StageId(u32::from_be_bytes(key.get(10..14)?.try_into().ok()?));
        match self.pipeline.plan.node_of(stage) {
            Some(node) => Some(TimerId {
                at_ms,
                node,
                key: key.get(14..)?.to_vec(),
            }),
            None => Some(TimerId::first_at(at_ms)),
        }
    }

    /// Gives up what was asked for: it is asked for again by the next step.
    pub fn ask_again(&mut self) {
        self.asked.clear();
    }

    /// The store has all that [`Self::take_dirty`] gave.
    pub fn stored(&mut self) {
        self.unit.store.stored();
        self.unit.timers.stored();
    }

    /// Whether the state is within its memory; what the store has is let go of for that. Where it is not, the
    /// driver stores what [`Self::take_dirty`] gives before the next step.
    pub fn has_room(&mut self) -> bool {
        if self.admitted {
            // What was read for the next unit is not to be read again.
            return true;
        }
        self.unit.store.trim();
        self.unit.timers.trim();
        self.unit.make_room()
    }

    /// State that is in the store outside only, in bytes, as far as it was counted.
    pub fn spilled_bytes(&self) -> usize {
        self.unit.store.outside_bytes() + self.unit.timers.outside_bytes()
    }

    /// Asks for what the last unit has missed.
    pub(super) fn ask(&mut self) {
        if !self.unit.has_missed() {
            return;
        }
        let state = self.unit.store.take_missed().into_iter();
        let timers = self.unit.timers.take_missed().into_iter();
        self.asked
            .extend(state.map(|(node, missed)| Asked::State(node, missed)));
        self.asked
            .extend(timers.map(|(kind, missed)| Asked::Timers(kind, missed)));
    }
}
