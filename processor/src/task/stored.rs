//! The state of a task as keys and values, for a store outside.
//!
//! ```text
//! 'i' partition (4)                           position, watermark, what its writer has said of itself
//! 'w'                                         watermark of the task, how far its timers fired, and what others were
//!                                             told of it
//! 's' stage (4) key                           state of a stage
//! 't' kind (1) time (8) stage (4) key         a timer, and where it came from
//! ```
//!
//! Numbers in keys are big-endian, the time with its sign bit flipped, so that keys sort like what
//! they say. A stage is known by a hash of its name. Values are postcard, those of stages are theirs.

use super::Task;
use crate::bulk::TaskTime;
use crate::inputs::{InputPartition, Writer};
use crate::pipeline::{Pipeline, Plan, StageId};
use crate::processor::TimeKind;
use crate::timers::{Origin, TimerId};
use crate::unit::EventClock;
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};

const INPUT: u8 = b'i';
const WATERMARK: u8 = b'w';
const STATE: u8 = b's';
const TIMER: u8 = b't';

fn input_key(partition: PartitionId) -> Vec<u8> {
    let mut key = vec![INPUT];
    key.extend_from_slice(&partition.0.to_be_bytes());
    key
}

fn input_value(input: &InputPartition) -> Vec<u8> {
    encoded(&(input.position, input.watermark_ms, input.writer))
}

pub(super) fn state_key(stage: StageId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + key.len());
    out.push(STATE);
    out.extend_from_slice(&stage.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

pub(super) fn timer_key(kind: TimeKind, stage: StageId, id: &TimerId) -> Vec<u8> {
    let mut out = timers_key(kind, id.at_ms);
    out.extend_from_slice(&stage.0.to_be_bytes());
    out.extend_from_slice(&id.key);
    out
}

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a vector takes any number of bytes")
}

/// What stands before all timers of a time and those behind it.
pub(super) fn timers_key(kind: TimeKind, at_ms: i64) -> Vec<u8> {
    let mut key = vec![TIMER, kind_byte(kind)];
    key.extend_from_slice(&(at_ms as u64 ^ 1 << 63).to_be_bytes());
    key
}

fn kind_byte(kind: TimeKind) -> u8 {
    match kind {
        TimeKind::Event => 0,
        TimeKind::Processing => 1,
    }
}

/// An entry, taken apart.
pub(super) enum Entry<'a> {
    Input(PartitionId, Offset, i64, Writer),
    Watermark(i64, Option<EventClock>, Option<TaskTime>),
    State(StageId, &'a [u8], &'a [u8]),
    Timer(TimeKind, i64, StageId, &'a [u8], Origin),
}

impl<'a> Entry<'a> {
    pub(super) fn parse(key: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let (&tag, mut rest) = key.split_first()?;
        Some(match tag {
            INPUT => {
                let partition = PartitionId(u32::from_be_bytes(rest.try_into().ok()?));
                let (position, watermark_ms, writer) =
                    postcard::from_bytes(value).ok().or_else(|| {
                        // The first version wrote two fields.
                        let (position, watermark_ms) = postcard::from_bytes(value).ok()?;
                        Some((position, watermark_ms, Writer::Silent))
                    })?;
                Self::Input(partition, position, watermark_ms, writer)
            }
            WATERMARK if rest.is_empty() => {
                let (watermark_ms, clock, told) =
                    postcard::from_bytes(value).ok().or_else(|| {
                        // As above.
                        let (watermark_ms, clock) = postcard::from_bytes(value).ok()?;
                        Some((watermark_ms, clock, None))
                    })?;
                Self::Watermark(watermark_ms, clock, told)
            }
            STATE => {
                let stage = take_stage(&mut rest)?;
                Self::State(stage, rest, value)
            }
            TIMER => {
                let kind = match rest.split_off_first()? {
                    0 => TimeKind::Event,
                    1 => TimeKind::Processing,
                    _ => return None,
                };
                let (at, tail) = rest.split_first_chunk()?;
                rest = tail;
                let at_ms = (u64::from_be_bytes(*at) ^ 1 << 63) as i64;
                let stage = take_stage(&mut rest)?;
                Self::Timer(kind, at_ms, stage, rest, postcard::from_bytes(value).ok()?)
            }
            _ => return None,
        })
    }
}

fn take_stage(rest: &mut &[u8]) -> Option<StageId> {
    let (stage, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(StageId(u32::from_be_bytes(*stage)))
}

impl Task {
    fn watermark_value(&self) -> Vec<u8> {
        let clock = self.clock_was_behind.then_some(self.unit.clock);
        encoded(&(self.inputs.watermark_ms(), clock, self.told))
    }

    /// The entries that changed since the last call, or since the task was made or loaded: a key with
    /// its value now, or `None` if it is gone. Applied in this order to the entries known before they
    /// give what [`Self::snapshot`] gives.
    pub fn take_dirty(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let plan: &Plan = &self.pipeline.plan;
        let stage = |node: u16| plan.nodes[usize::from(node)].id;
        let mut entries = Vec::new();
        self.inputs.take_dirty(|input| {
            entries.push((input_key(input.partition), Some(input_value(input))));
        });
        self.unit.store.take_dirty(|node, key, value| {
            entries.push((state_key(stage(node), key), value.map(<[u8]>::to_vec)));
        });
        self.unit.timers.take_dirty(|kind, id, origin| {
            entries.push((timer_key(kind, stage(id.node), id), origin.map(encoded)));
        });
        if std::mem::take(&mut self.watermark_dirty) {
            entries.push((vec![WATERMARK], Some(self.watermark_value())));
        }
        entries
    }

    /// All entries that are in memory.
    pub fn snapshot(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let stage = |node: u16| self.pipeline.plan.nodes[usize::from(node)].id;
        let inputs = self
            .inputs
            .iter()
            .map(|input| (input_key(input.partition), input_value(input)));
        let states = self
            .unit
            .store
            .iter()
            .map(|(node, key, value)| (state_key(stage(node), key), value.to_vec()));
        let timers = self
            .unit
            .timers
            .iter()
            .map(|(kind, id, origin)| (timer_key(kind, stage(id.node), id), encoded(origin)));
        let is_known = self.watermark() != i64::MIN || self.told.is_some();
        let watermark =
            (is_known || self.clock_was_behind).then(|| (vec![WATERMARK], self.watermark_value()));
        inputs
            .chain(states)
            .chain(timers)
            .chain(watermark)
            .collect()
    }

    /// A task from its entries, in any order; then [`Self::add_partition`] for what may be new.
    /// Entries of stages that the pipeline does not have are counted as [`Self::unclaimed`].
    ///
    /// # Errors
    /// [`ErrorCode::Damaged`] for an entry that cannot be read.
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        pipeline: &Pipeline,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Failure> {
        let mut task = Self::new(pipeline, &[]);
        for (key, value) in entries {
            let (key, value) = (key.as_ref(), value.as_ref());
            let entry = Entry::parse(key, value).ok_or_else(|| task.unreadable(key))?;
            task.take_entry(entry);
        }
        task.inputs.clean();
        Ok(task)
    }

    pub(super) fn unreadable(&self, key: &[u8]) -> Failure {
        let what = format!(
            "stored entry '{}' of pipeline '{}' cannot be read: restore its state",
            key[..key.len().min(40)].escape_ascii(),
            self.pipeline.name()
        );
        Failure::new(ErrorCode::Damaged, what)
    }

    fn take_entry(&mut self, entry: Entry<'_>) {
        let plan: &Plan = &self.pipeline.plan;
        match entry {
            Entry::Input(partition, position, watermark_ms, writer) => {
                self.inputs.set(partition, position, watermark_ms);
                self.inputs.set_writer(partition, writer);
            }
            Entry::Watermark(watermark_ms, clock, told) => {
                self.told = told;
                self.inputs.set_watermark(watermark_ms);
                self.unit.clock = clock.unwrap_or(EventClock::all_at(watermark_ms));
                self.clock_was_behind = clock.is_some();
            }
            Entry::State(stage, key, value) => match plan.node_of(stage) {
                Some(node) => self.unit.store.load(node, key, value),
                None => self.unclaimed += 1,
            },
            Entry::Timer(kind, at_ms, stage, key, origin) => match plan.node_of(stage) {
                Some(node) => {
                    let key = key.to_vec();
                    let id = TimerId { at_ms, node, key };
                    self.unit.timers.load(kind, &id, origin);
                }
                None => self.unclaimed += 1,
            },
        }
    }
}
