//! What tasks give out for another shard on its way there, and the answer on its way back.
//!
//! ```text
//! shard --Carry--> (mailbox full: Busy) --delay, in order per lane--> Deliver on the other shard
//!   ^                                                                            |
//!   +------------------------ Carried <--delay, in any order---------------------+
//! ```
//!
//! All of it is in the memory of the process, and ends with it.

use crate::planted::Plant;
use crate::record::{New, batch_of, records_of};
use crate::rng::Rng;
use crate::run::{Event, Sim};
use crate::scenario::Part;
use flowstone_core::{Input, Parcel, Reply, Ticket};
use flowstone_wire::batch::Stamp;
use flowstone_wire::native::Acks;
use flowstone_wire::{
    CheckedBatch, Epoch, ErrorCode, Failure, Lsn, Offset, PartitionId, ProducerId, ShardId,
};
use std::collections::BTreeMap;

/// A parcel whose answer is to come: who gave it out, and its place there.
#[derive(Clone, Copy, Debug)]
struct Sent {
    from: ShardId,
    lane: ProducerId,
    lsn: Lsn,
}

/// What is under way between the shards of a process.
pub(crate) struct Carrier {
    rng: Rng,
    /// When the last parcel of each lane arrives: none overtakes it.
    last_us: BTreeMap<ProducerId, u64>,
    delivered: BTreeMap<Ticket, Sent>,
}

impl Carrier {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            last_us: BTreeMap::new(),
            delivered: BTreeMap::new(),
        }
    }

    /// Whether something is delivered and not answered.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.delivered.is_empty()
    }

    fn delay_us(&mut self, may_be_slow: bool) -> u64 {
        let most = match self.rng.below(20) {
            0 if may_be_slow => 200_000,
            1..4 if may_be_slow => 10_000,
            _ => 300,
        };
        self.rng.below(most)
    }
}

impl Sim {
    fn is_slow(&self) -> bool {
        self.options.has(Part::SlowCarry) && !self.closing
    }

    /// Takes a parcel from a shard.
    pub(crate) fn carry(&mut self, from: ShardId, parcel: Parcel) {
        let Parcel { lane, lsn, batch } = parcel;
        let (sent, partition) = (Sent { from, lane, lsn }, lane.outbound_partition());
        let full = self.full_percent();
        let (slow, now_us) = (self.is_slow(), self.now_us);
        let plant = self.options.plant;
        let known = self.world.open.contains_key(&partition);
        let Some(node) = &mut self.node else { return };
        let is_full = node.carrier.rng.percent(full);
        let is_dropped = plant == Some(Plant::DropParcel) && node.carrier.rng.percent(5);
        let (higher, lower) = (
            "a parcel went to a higher shard",
            "a parcel went to a lower shard",
        );
        let is_higher = self.world.shard_of(partition) > from;
        self.trace.rare(if is_higher { higher } else { lower });
        if is_dropped {
            return self.answer_parcel(sent, Ok(()));
        }
        if !known {
            self.trace
                .rare("a parcel was given out for a deleted topic");
            return self.answer_parcel(sent, Err(unknown(partition)));
        }
        if is_full {
            self.trace.rare("a parcel found a full mailbox");
            let failure = match plant {
                Some(Plant::FullIsUnknown) => unknown(partition),
                _ => Failure::new(ErrorCode::Busy, "the mailbox is full"),
            };
            return self.answer_parcel(sent, Err(failure));
        }
        let last_us = node.carrier.last_us.get(&lane).copied().unwrap_or_default();
        let at_us = last_us.max(now_us + node.carrier.delay_us(slow));
        node.carrier.last_us.insert(lane, at_us);
        let parcel = Parcel { lane, lsn, batch };
        self.after(at_us - now_us, Event::Deliver(self.life, from, parcel));
    }

    fn full_percent(&self) -> u64 {
        let is_off = self.closing || !self.options.has(Part::FullMailboxes);
        if is_off { 0 } else { self.world.full_percent }
    }

    /// Steps the shard that a parcel goes to.
    pub(crate) fn deliver(&mut self, from: ShardId, parcel: Parcel) -> Result<(), String> {
        let Parcel { lane, lsn, batch } = parcel;
        let partition = lane.outbound_partition();
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let sent = Sent { from, lane, lsn };
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        node.carrier.delivered.insert(ticket, sent);
        let what = format!("a parcel of {from} for {partition}");
        self.history.liveness.asked(ticket, self.now_us, what);
        if self.options.plant == Some(Plant::AnswerTooEarly) {
            self.answer_parcel(sent, Ok(()));
        }
        let input = match self.options.plant {
            Some(Plant::DeliverUnnumbered) => Input::Produce {
                ticket: Some(ticket),
                partition,
                batch: unnumbered(batch)?,
                acks: Acks::Durable,
            },
            _ => Input::Deliver { ticket, batch },
        };
        self.step(self.world.shard_of(partition), input)
    }

    /// Takes the answer to a delivery, if it is one.
    pub(crate) fn delivered(&mut self, ticket: Ticket, result: &Result<Reply, Failure>) -> bool {
        let node = self.node.as_mut();
        let Some(sent) = node.and_then(|n| n.carrier.delivered.remove(&ticket)) else {
            return false;
        };
        let known = self
            .world
            .open
            .contains_key(&sent.lane.outbound_partition());
        if let Some(what) = rare_answer(result, known) {
            self.trace.rare(what);
        }
        if self.options.plant != Some(Plant::AnswerTooEarly) {
            let result = result.as_ref().map(drop).map_err(Clone::clone);
            self.answer_parcel(sent, result);
        }
        true
    }

    /// Brings an answer back, in a while. Where the catalog has the partition it is being opened,
    /// which is no reason to drop what goes there.
    fn answer_parcel(&mut self, sent: Sent, result: Result<(), Failure>) {
        let Sent { from, lane, lsn } = sent;
        let known = self.world.open.contains_key(&lane.outbound_partition());
        let planted = self.options.plant;
        let result = result.map_err(|failure| match failure.code {
            ErrorCode::UnknownPartition if known && planted != Some(Plant::FullIsUnknown) => {
                Failure::new(ErrorCode::Busy, "the partition is being opened")
            }
            _ => failure,
        });
        let slow = self.is_slow();
        let Some(node) = &mut self.node else { return };
        if planted == Some(Plant::LoseCarried) && node.carrier.rng.percent(20) {
            return;
        }
        let us = node.carrier.delay_us(slow);
        let input = Input::Carried { lane, lsn, result };
        self.after(us, Event::Step(self.life, from, input));
    }
}

/// What is rare about an answer to a delivery.
fn rare_answer(result: &Result<Reply, Failure>, known: bool) -> Option<&'static str> {
    use ErrorCode::{
        OutOfOrderSequence, ShardFenced, ShuttingDown, UnknownPartition, UnknownProducer,
    };
    Some(match result.as_ref().map_err(|failure| failure.code) {
        Ok(Reply::Produced(answer)) if answer.duplicate => "a parcel came a second time",
        Err(OutOfOrderSequence | UnknownProducer) => "a parcel came after a gap",
        Err(ShardFenced) => "a parcel came to a fenced shard",
        Err(ShuttingDown) => "a parcel came to a draining shard",
        Err(UnknownPartition) if known => "a parcel came before its topic",
        Err(UnknownPartition) => "a parcel came to a deleted topic",
        _ => return None,
    })
}

fn unknown(partition: PartitionId) -> Failure {
    let what = format!("there is no partition {partition}");
    Failure::new(ErrorCode::UnknownPartition, what)
}

/// Planted: the records without what tells them from those that are there.
fn unnumbered(batch: CheckedBatch) -> Result<CheckedBatch, String> {
    let stamp = Stamp {
        partition: PartitionId(0),
        base_offset: Offset(0),
        lsn: Lsn(0),
        epoch: Epoch(0),
    };
    let records: Vec<New> = records_of(&batch.stamp(stamp).1)?
        .into_iter()
        .map(|(_, r)| New {
            key: r.key,
            value: r.value,
            timestamp: r.timestamp,
        })
        .collect();
    Ok(batch_of(&records, None))
}
