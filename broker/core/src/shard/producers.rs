//! Idempotent producers: which sequences were stored, so that a retry is stored once.
//!
//! As in Kafka (KIP-98): a producer numbers its records per partition; a batch must start where the
//! last one ended. The last [`PRODUCER_WINDOW`] batches are remembered to answer retries.

use flowstone_wire::limits::{PRODUCER_WINDOW, PRODUCERS_MAX};
use flowstone_wire::{BatchHeader, ErrorCode, Failure, Lsn, Offset, PartitionId, ProducerId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A producer and a partition it writes to.
pub(super) type Key = (ProducerId, PartitionId);

/// A stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    base_sequence: u32,
    records: u32,
    base_offset: Offset,
    lsn: Lsn,
}

/// What is known of a producer in a partition; also its row in the state store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProducerState {
    epoch: u16,
    /// Sequence of its next record.
    next_sequence: u32,
    /// Its last batches, oldest first. Never empty.
    stored: VecDeque<Stored>,
    #[serde(skip)]
    dirty: bool,
}

/// What a batch of a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    /// The next one, or of no producer.
    New,
    /// Stored before, here and at this LSN.
    Duplicate(Offset, Lsn),
}

/// All producers of the shard.
#[derive(Debug, Default)]
pub(super) struct Producers {
    states: BTreeMap<Key, ProducerState>,
    dirty: Vec<Key>,
}

impl Producers {
    /// Holds a batch against what was stored.
    pub(super) fn check(
        &self,
        partition: PartitionId,
        h: &BatchHeader,
    ) -> Result<Sequence, Failure> {
        if h.producer_id.0 == 0 {
            return Ok(Sequence::New);
        }
        let Some(state) = self.states.get(&(h.producer_id, partition)) else {
            return first_batch(
                h,
                ErrorCode::UnknownProducer,
                "the broker does not remember it",
            );
        };
        if h.producer_epoch < state.epoch {
            let what = format!(
                "producer {} has epoch {}, this batch has {}: a newer incarnation took over",
                h.producer_id, state.epoch, h.producer_epoch
            );
            return Err(Failure::new(ErrorCode::ProducerFenced, what));
        }
        if h.producer_epoch > state.epoch {
            return first_batch(h, ErrorCode::OutOfOrderSequence, "it starts a new epoch");
        }
        if h.base_sequence == state.next_sequence {
            return Ok(Sequence::New);
        }
        if h.producer_id.is_outbound() {
            // It comes in order and from one place: what is not ahead is here. The half of the
            // numbers that lies behind is far more than can be under way.
            let behind = state.next_sequence.wrapping_sub(h.base_sequence) < 1 << 31;
            if let Some(last) = state.stored.back().filter(|_| behind) {
                return Ok(Sequence::Duplicate(last.base_offset, last.lsn));
            }
        }
        let same = |s: &&Stored| s.base_sequence == h.base_sequence && s.records == h.record_count;
        match state.stored.iter().find(same) {
            Some(s) => Ok(Sequence::Duplicate(s.base_offset, s.lsn)),
            None => Err(Failure::new(
                ErrorCode::OutOfOrderSequence,
                format!(
                    "producer {} sent sequence {} where {} was due",
                    h.producer_id, h.base_sequence, state.next_sequence
                ),
            )),
        }
    }

    /// Notes a batch that was appended, or read by recovery.
    pub(super) fn note(&mut self, h: &BatchHeader) {
        if h.producer_id.0 == 0 {
            return;
        }
        let key = (h.producer_id, h.partition);
        let state = self.states.entry(key).or_default();
        if state.epoch != h.producer_epoch {
            state.stored.clear();
            state.epoch = h.producer_epoch;
        }
        let window = if h.producer_id.is_outbound() {
            1
        } else {
            PRODUCER_WINDOW
        };
        if state.stored.len() >= window {
            state.stored.pop_front();
        }
        state.stored.push_back(Stored {
            base_sequence: h.base_sequence,
            records: h.record_count,
            base_offset: h.base_offset,
            lsn: h.lsn,
        });
        state.next_sequence = h.base_sequence.wrapping_add(h.record_count);
        if !std::mem::replace(&mut state.dirty, true) {
            self.dirty.push(key);
        }
        if self.states.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
    }

    /// Makes room for a while: forgets the tenth that wrote least recently.
    fn forget_oldest(&mut self) {
        let last = |s: &ProducerState| s.stored.back().map_or(Lsn(0), |s| s.lsn);
        // Tasks of other shards stay: they go on with their sequences whatever happens.
        let clients = self.states.iter().filter(|(k, _)| !k.0.is_outbound());
        let mut by_age: Vec<(Lsn, Key)> = clients.map(|(k, s)| (last(s), *k)).collect();
        by_age.sort_unstable();
        for (_, key) in by_age.iter().take(PRODUCERS_MAX / 10) {
            self.remove(*key);
        }
    }

    fn remove(&mut self, key: Key) {
        if self.states.remove(&key).is_some_and(|s| !s.dirty) {
            self.dirty.push(key);
        }
    }

    pub(super) fn forget_partition(&mut self, partition: PartitionId) {
        let gone: Vec<Key> = self
            .states
            .keys()
            .filter(|k| k.1 == partition)
            .copied()
            .collect();
        for key in gone {
            self.remove(key);
        }
    }

    /// Takes the rows that changed since the last call; `None` for a producer that was forgotten.
    pub(super) fn take_dirty(&mut self) -> Vec<(Key, Option<ProducerState>)> {
        let keys = std::mem::take(&mut self.dirty);
        let take = |key: Key| {
            let state = self.states.get_mut(&key).map(|s| {
                s.dirty = false;
                s.clone()
            });
            (key, state)
        };
        keys.into_iter().map(take).collect()
    }

    /// Takes a row of the state store.
    pub(super) fn load(&mut self, key: Key, state: ProducerState) {
        self.states.insert(key, state);
    }
}

fn first_batch(h: &BatchHeader, code: ErrorCode, why: &str) -> Result<Sequence, Failure> {
    if h.base_sequence == 0 {
        return Ok(Sequence::New);
    }
    let what = format!(
        "producer {} starts with sequence {}, but {why}; take a new producer id",
        h.producer_id, h.base_sequence
    );
    Err(Failure::new(code, what))
}
