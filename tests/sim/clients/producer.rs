//! A producer: several batches in flight, sent again in order where it cannot know that they are
//! stored; or without numbers, then sent once.

use super::{Client, Hand};
use crate::pipelines::{BAD, FLAKY, GOOD, STUBBORN};
use crate::record::{New, Rec, batch_of};
use crate::world::SOURCE;
use flowstone_core::{Input, Reply, Ticket};
use flowstone_wire::native::{Acks, ProduceAnswer};
use flowstone_wire::{ErrorCode, Failure, PartitionId};
use std::collections::VecDeque;

/// Batches in flight.
const WINDOW: usize = 5;
/// What is answered with the same offset when it comes again: less than the shard remembers.
const REMEMBERED: usize = 4;

/// A batch on its way.
#[derive(Clone, Debug)]
struct Batch {
    sequence: u32,
    records: Vec<New>,
    /// `None` while it waits to be sent, again or for the first time.
    ticket: Option<Ticket>,
}

pub(super) struct Producer {
    number: u64,
    partition: PartitionId,
    acks: Acks,
    idempotent: bool,
    big: bool,
    epoch: u16,
    next_sequence: u32,
    made: u64,
    batches: VecDeque<Batch>,
    /// Acked batches, and where they are.
    stored: VecDeque<(Batch, u64)>,
    /// A retry of a stored batch that is under way.
    again: Option<(Ticket, u64)>,
}

impl Producer {
    pub(super) fn new(
        number: u64,
        partition: PartitionId,
        acks: Acks,
        idempotent: bool,
        big: bool,
    ) -> Self {
        Self {
            number,
            partition,
            acks,
            idempotent,
            big,
            epoch: 0,
            next_sequence: 0,
            made: 0,
            batches: VecDeque::new(),
            stored: VecDeque::new(),
            again: None,
        }
    }

    fn producer(&self, sequence: u32) -> Option<(u64, u16, u32)> {
        self.idempotent
            .then_some((self.number, self.epoch, sequence))
    }

    fn record(&mut self, hand: &mut Hand<'_>) -> New {
        self.made += 1;
        let does = match hand.rng.below(20) {
            0 => BAD,
            1 => STUBBORN,
            2 => FLAKY,
            _ => GOOD,
        };
        let (id, n) = (
            format!("{}-{}", self.number, self.made),
            hand.rng.below(100),
        );
        let filler = if self.big {
            hand.rng.between(0, 900)
        } else {
            0
        };
        let filler = "x".repeat(filler as usize);
        New {
            key: format!("k{}", hand.rng.below(4)),
            value: format!("{{\"id\":\"{id}\",\"n\":{n},\"do\":\"{does}\"{filler}}}"),
            timestamp: hand.now.unix_ms + hand.rng.below(60) as i64 - 30,
        }
    }

    fn make(&mut self, hand: &mut Hand<'_>) {
        let is_source = SOURCE.contains(&self.partition);
        let count = hand.rng.between(1, if self.big { 4 } else { 2 });
        if is_source && hand.world.source_bytes < count * 150 {
            return;
        }
        if is_source {
            hand.world.source_bytes -= count * 150;
        }
        let records: Vec<New> = (0..count).map(|_| self.record(hand)).collect();
        let sequence = self.next_sequence;
        self.next_sequence += count as u32;
        self.batches.push_back(Batch {
            sequence,
            records,
            ticket: None,
        });
    }

    fn input(&self, ticket: Ticket, batch: &Batch) -> Input {
        Input::Produce {
            ticket: Some(ticket),
            partition: self.partition,
            batch: batch_of(&batch.records, self.producer(batch.sequence)),
            acks: self.acks,
        }
    }

    fn send_waiting(&mut self, hand: &mut Hand<'_>) {
        for at in 0..self.batches.len() {
            if self.batches[at].ticket.is_none() {
                let ticket = hand.ticket("a producer");
                self.batches[at].ticket = Some(ticket);
                hand.send(self.partition, self.input(ticket, &self.batches[at]));
            }
        }
    }

    /// Sends a stored batch again: the answer must be that of the first time.
    fn send_again(&mut self, hand: &mut Hand<'_>) {
        if self.idempotent && self.again.is_none() && !self.stored.is_empty() {
            let (batch, offset) = hand.rng.pick(self.stored.make_contiguous()).clone();
            let ticket = hand.ticket("a retry");
            self.again = Some((ticket, offset));
            hand.send(self.partition, self.input(ticket, &batch));
        }
    }

    fn stored(
        &mut self,
        at: usize,
        answer: ProduceAnswer,
        hand: &mut Hand<'_>,
    ) -> Result<(), String> {
        let Some(batch) = self.batches.remove(at) else {
            return Ok(());
        };
        let rec = |(r, number): (&New, u32)| Rec {
            key: r.key.clone(),
            value: r.value.clone(),
            timestamp: r.timestamp,
            producer: self.producer(batch.sequence + number).unwrap_or_default(),
        };
        let records: Vec<Rec> = batch.records.iter().zip(0..).map(rec).collect();
        let base = answer.base_offset.0;
        hand.history
            .acked(self.partition, base, &records, self.acks)?;
        if self.stored.len() == REMEMBERED {
            self.stored.pop_front();
        }
        self.stored.push_back((batch, base));
        Ok(())
    }

    fn refused(&mut self, at: usize, failure: &Failure) -> Result<(), String> {
        if !self.idempotent {
            self.batches.remove(at);
            return Ok(());
        }
        self.batches[at].ticket = None;
        let is_sequence = matches!(
            failure.code,
            ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer | ErrorCode::ProducerFenced
        );
        if !is_sequence || at > 0 {
            return Ok(());
        }
        if self.acks == Acks::Durable {
            return Err(format!(
                "idempotence: producer {} was told: {failure}",
                self.number
            ));
        }
        // What was acked less than durably is gone: the rest goes under a new epoch.
        self.epoch += 1;
        self.next_sequence = 0;
        self.stored.clear();
        for batch in &mut self.batches {
            batch.sequence = self.next_sequence;
            self.next_sequence += batch.records.len() as u32;
        }
        Ok(())
    }

    fn answered_again(
        &mut self,
        offset: u64,
        result: Result<Reply, Failure>,
    ) -> Result<(), String> {
        self.again = None;
        let Ok(Reply::Produced(answer)) = &result else {
            // Less than durable may be gone; then it is not the next sequence either.
            return Ok(());
        };
        if answer.base_offset.0 != offset || !answer.duplicate {
            return Err(format!(
                "idempotence: a retry of producer {} at {offset} was answered {answer:?}",
                self.number
            ));
        }
        Ok(())
    }
}

impl Client for Producer {
    fn act(&mut self, hand: &mut Hand<'_>) {
        let waits = self.batches.iter().any(|b| b.ticket.is_some());
        let refused = self.batches.front().is_some_and(|b| b.ticket.is_none());
        if waits && self.batches.iter().any(|b| b.ticket.is_none()) {
            // Some were refused: all answers first, so that they go out again in order.
            return;
        }
        if !refused && !hand.closing {
            let (room, most) = (
                WINDOW - self.batches.len().min(WINDOW),
                if self.idempotent { 3 } else { 1 },
            );
            for _ in 0..hand.rng.below(most + 1).min(room as u64) {
                self.make(hand);
            }
        }
        self.send_waiting(hand);
        if hand.rng.percent(5) && !hand.closing && !refused {
            self.send_again(hand);
        }
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        hand: &mut Hand<'_>,
    ) -> Result<(), String> {
        if let Some((_, offset)) = self.again.filter(|(t, _)| *t == ticket) {
            return self.answered_again(offset, result);
        }
        let Some(at) = self.batches.iter().position(|b| b.ticket == Some(ticket)) else {
            return Err(format!(
                "a producer was answered {ticket:?} and did not ask"
            ));
        };
        match result {
            Ok(Reply::Produced(answer)) => self.stored(at, answer, hand),
            Ok(other) => Err(format!("a producer was answered {other:?}")),
            Err(failure) => self.refused(at, &failure),
        }
    }

    fn disconnected(&mut self) {
        self.again = None;
        if self.acks != Acks::Durable {
            // What was acked may be gone, and a retry of it would not be one.
            self.stored.clear();
        }
        if self.idempotent {
            self.batches.iter_mut().for_each(|b| b.ticket = None);
        } else {
            self.batches.clear();
        }
    }

    fn is_done(&self) -> bool {
        self.batches.is_empty() && self.again.is_none()
    }
}
