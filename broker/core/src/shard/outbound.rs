//! Outputs for partitions of other shards: kept until the other shard has them on its disk.
//!
//! ```text
//! step --> group in the log --durable--> Carry --> Deliver on the other shard --durable--> Carried
//!                                          ^                                                  |
//!                                          +------------ again, after a failure --------------+
//! ```
//!
//! A lane is the way of one pipeline from this shard to one partition. Its batches lie in the internal
//! partition, in the group of the step that gave them out, with a producer id that names the lane and
//! with sequences that have no gaps. The other shard takes each sequence once, so sending again, after
//! a restart too, changes nothing.

mod lane;

use super::Shard;
use super::control::ControlRecord;
use super::materialize::{entry_key, lane_key};
use crate::input::Now;
use crate::output::{Outbox, Output};
use bytes::Bytes;
use flowstone_storage::log::Appended;
use flowstone_storage::state::Change;
use flowstone_wire::{BatchHeader, CheckedBatch, ErrorCode, Failure, Lsn, ProducerId};
use lane::Lane;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that a pipeline may have waiting for other shards; with more it does not step.
const PIPELINE_BYTES_MAX: u64 = 8 << 20;

/// A batch on its way to another shard.
#[derive(Debug)]
pub struct Parcel {
    /// The way it goes: also names the partition, see [`ProducerId::outbound_partition`].
    pub lane: ProducerId,
    /// Its LSN here.
    pub lsn: Lsn,
    /// What is to be appended there.
    pub batch: CheckedBatch,
}

/// All lanes of the shard.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    lanes: BTreeMap<ProducerId, Lane>,
    /// Lanes that hold batches.
    loaded: BTreeSet<ProducerId>,
    /// Bytes held, by pipeline.
    bytes: BTreeMap<u32, u64>,
    /// What arrived and is not recorded in the log yet.
    arrived: BTreeMap<ProducerId, Lsn>,
    /// Lanes whose row in the state store is out of date.
    dirty: BTreeSet<ProducerId>,
    /// Rows of batches that can go.
    gone: Vec<(ProducerId, Lsn)>,
}

impl Outbound {
    /// Takes a lane's row of the state store.
    pub(super) fn load_lane(&mut self, id: ProducerId, next_sequence: u32) {
        self.lanes.entry(id).or_default().next_sequence = next_sequence;
    }

    /// Takes a batch's row of the state store.
    pub(super) fn load_entry(&mut self, id: ProducerId, lsn: Lsn, bytes: Bytes) {
        self.hold(id, lsn, bytes, true);
    }

    /// Takes a batch that was appended, or read by recovery.
    pub(super) fn take(&mut self, header: &BatchHeader, bytes: Bytes) {
        let id = header.producer_id;
        let next = header.base_sequence.wrapping_add(header.record_count);
        self.lanes.entry(id).or_default().next_sequence = next;
        self.dirty.insert(id);
        self.hold(id, header.lsn, bytes, false);
    }

    fn hold(&mut self, id: ProducerId, lsn: Lsn, bytes: Bytes, stored: bool) {
        *self.bytes.entry(id.outbound_pipeline()).or_default() += bytes.len() as u64;
        self.loaded.insert(id);
        let lane = self.lanes.entry(id).or_default();
        lane.hold(lsn, bytes, stored);
    }

    /// The sequence of the next record of a lane.
    pub(super) fn next_sequence(&self, id: ProducerId) -> u32 {
        self.lanes.get(&id).map_or(0, |l| l.next_sequence)
    }

    /// Lets go of what the other shard has.
    pub(super) fn let_go(&mut self, id: ProducerId, upto: Lsn) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let held = self.bytes.entry(id.outbound_pipeline()).or_default();
        for entry in lane.let_go(upto) {
            *held -= entry.bytes.len() as u64;
            if entry.stored {
                self.gone.push((id, entry.lsn));
            }
        }
        if lane.is_empty() {
            self.loaded.remove(&id);
        }
    }

    /// Whether a pipeline may give out more.
    pub(super) fn has_room(&self, pipeline: u32) -> bool {
        self.waiting_bytes(pipeline) < PIPELINE_BYTES_MAX
    }

    /// Bytes of a pipeline that wait for other shards.
    pub(super) fn waiting_bytes(&self, pipeline: u32) -> u64 {
        self.bytes.get(&pipeline).copied().unwrap_or(0)
    }

    /// Why batches of a pipeline do not get to where they go, if so.
    pub(super) fn error(&self, pipeline: u32) -> Option<&str> {
        let lanes = self
            .loaded
            .iter()
            .filter_map(|id| self.lanes.get_key_value(id));
        lanes
            .filter(|(id, _)| id.outbound_pipeline() == pipeline)
            .find_map(|(_, lane)| lane.error())
    }

    /// The driver's time at which something is to be sent again.
    pub(super) fn deadline_us(&self) -> Option<u64> {
        let lanes = self.loaded.iter().filter_map(|id| self.lanes.get(id));
        lanes.filter_map(Lane::retry_at_us).min()
    }

    /// What the state store must learn.
    pub(super) fn take_changes(&mut self, changes: &mut Vec<Change>) {
        for (id, lsn) in self.gone.drain(..) {
            changes.push((entry_key(id, lsn), None));
        }
        for id in std::mem::take(&mut self.dirty) {
            let next = self.next_sequence(id);
            changes.push((lane_key(id), Some(next.to_be_bytes().to_vec())));
        }
        for id in &self.loaded {
            let lane = self.lanes.get_mut(id).expect("what is loaded is a lane");
            for (lsn, bytes) in lane.take_unstored() {
                changes.push((entry_key(*id, lsn), Some(bytes.to_vec())));
            }
        }
    }
}

impl Shard {
    /// Keeps a batch that was just appended for another shard.
    pub(super) fn hold_outbound(&mut self, appended: Appended) {
        // It leaves when it is durable, and the other shard waits for it.
        self.urgent = self.urgent.max(appended.header.lsn);
        self.outbound.take(&appended.header, appended.bytes);
    }

    /// Records what has arrived, so that a restart need not send it again.
    pub(super) fn record_arrived(&mut self, now: Now, out: &mut Outbox) {
        if self.outbound.arrived.is_empty() || self.draining {
            return;
        }
        let arrived = self.outbound.arrived.iter().map(|(id, lsn)| (*id, *lsn));
        let record = ControlRecord::Carried(arrived.collect());
        let Some(batch) = record.to_batch(now.unix_ms) else {
            return;
        };
        // Without room it waits: nothing is wrong when it is not there.
        if self.admit(u64::from(batch.header().size), out).is_ok() {
            self.append(now, self.control_partition(), batch);
            self.outbound.arrived.clear();
        }
    }

    /// Sends what is durable. Before every partition is known nothing leaves: the other shards may
    /// not know theirs either.
    pub(super) fn carry(&mut self, now: Now, out: &mut Outbox) {
        if !self.knows_all || self.draining || self.fenced.is_some() {
            return;
        }
        let durable = self.committed();
        let mut broken = None;
        for id in &self.outbound.loaded {
            let lane = self
                .outbound
                .lanes
                .get_mut(id)
                .expect("what is loaded is a lane");
            while let Some((lsn, bytes)) = lane.next_to_send(now, durable) {
                match CheckedBatch::from_log(&bytes) {
                    Ok(batch) => out.push(Output::Carry(Parcel {
                        lane: *id,
                        lsn,
                        batch,
                    })),
                    Err(e) => broken = Some(format!("a batch for another shard, LSN {lsn}: {e}")),
                }
            }
        }
        if let Some(reason) = broken {
            self.fence(reason, out);
        }
    }

    /// Takes in what came of a parcel.
    pub(super) fn carried(
        &mut self,
        now: Now,
        id: ProducerId,
        lsn: Lsn,
        result: Result<(), Failure>,
        out: &mut Outbox,
    ) {
        let Some(lane) = self.outbound.lanes.get_mut(&id) else {
            return;
        };
        let arrived = match result {
            Ok(()) => true,
            Err(failure) if failure.code == ErrorCode::UnknownPartition => {
                let partition = id.outbound_partition();
                out.push(Output::Report(format!(
                    "partition {partition} was deleted: what a pipeline gives out for it is dropped"
                )));
                true
            }
            Err(failure) => {
                if let Some(news) = lane.fail(now, failure) {
                    out.push(Output::Report(news));
                }
                false
            }
        };
        lane.answered(arrived);
        if arrived {
            self.outbound.let_go(id, lsn);
            let upto = self.outbound.arrived.entry(id).or_insert(lsn);
            *upto = lsn.max(*upto);
            self.tasks.feed_starved();
        }
    }
}
