//! Producers that try again until they know, and a reader that must never see anything vanish.

use super::super::{A, values_of};
use super::world::{BUSY_US, World};
use crate::input::{Input, Ticket};
use crate::output::Reply;
use flowstone_wire::native::Acks;
use flowstone_wire::{BatchBuilder, CheckedBatch, Codec, ErrorCode, Failure, Offset, ProducerId};
use std::collections::BTreeMap;

/// An answer that does not come for so long is not waited for.
const PATIENCE_US: u64 = 700_000;

#[derive(Default)]
struct Producer {
    /// The next sequence to be acknowledged.
    sequence: u32,
    out: Option<(Ticket, usize, u64)>,
    done: bool,
}

#[derive(Default)]
pub(super) struct Clients {
    producers: Vec<Producer>,
    tickets: u64,
    by_ticket: BTreeMap<Ticket, Option<usize>>,
    /// Values that were acknowledged, with their offsets.
    pub(super) acked: Vec<(String, Offset)>,
    /// What the reader has seen, from offset 0 on.
    pub(super) seen: Vec<String>,
    /// Whether everything is read once more, and how far that is.
    pub(super) again: bool,
    pub(super) seen_again: usize,
    /// Answers to what [`World::ask`] asked.
    pub(super) answers: BTreeMap<Ticket, Result<Reply, Failure>>,
}

/// Tickets from here on are of [`World::ask`].
const ASKED: u64 = 1 << 32;

pub(super) fn value(producer: usize, sequence: u32) -> String {
    format!("{producer}.{sequence}")
}

fn batch(producer: usize, sequence: u32) -> CheckedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    let padding = "x".repeat((sequence as usize * 37) % 300);
    let text = format!("{} {padding}", value(producer, sequence));
    assert!(builder.push(1, Some(b"k"), Some(text.as_bytes()), &[]));
    builder.set_producer(ProducerId(7 + producer as u64), 1, sequence);
    builder.finish()
}

impl Clients {
    pub(super) fn new(count: usize) -> Self {
        let producers = (0..count).map(|_| Producer::default()).collect();
        Self {
            producers,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    pub(super) fn acked(&self) -> usize {
        self.acked.len()
    }

    pub(super) fn are_done(&self) -> bool {
        self.producers.iter().all(|p| p.done)
    }

    /// How many values each producer knows to be stored.
    pub(super) fn sequences(&self) -> impl Iterator<Item = u32> {
        self.producers.iter().map(|p| p.sequence)
    }

    /// The node is gone: nothing that it was asked is answered.
    pub(super) fn forget(&mut self, node: usize) {
        for p in &mut self.producers {
            if p.out.is_some_and(|(_, n, _)| n == node) {
                p.out = None;
            }
        }
    }

    fn ticket(&mut self, producer: Option<usize>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.by_ticket.insert(ticket, producer);
        ticket
    }
}

impl World {
    fn leader(&mut self) -> usize {
        if self.rng.percent(25) {
            return self.rng.index(self.nodes.len());
        }
        self.catalog.config.leader.node.0 as usize
    }

    /// A producer sends, if it waits for nothing; says when to look again.
    pub(super) fn produce(&mut self, n: usize) -> u64 {
        let again_us = self.rng.between(2_000, 40_000);
        let (now_us, busy) = (self.now_us, self.now_us < BUSY_US);
        let p = &mut self.clients.producers[n];
        if p.out
            .is_some_and(|(_, _, at_us)| now_us < at_us + PATIENCE_US)
        {
            return again_us;
        }
        // What is undecided is sent until it is decided.
        if !busy && p.out.is_none() && p.done {
            return again_us;
        }
        let sequence = p.sequence;
        let node = self.leader();
        let ticket = self.clients.ticket(Some(n));
        self.clients.producers[n].out = Some((ticket, node, now_us));
        self.tell(|| format!("producer {n} sends {sequence} to node {node}"));
        let acks = Acks::Durable;
        let (partition, batch) = (A, batch(n, sequence));
        self.input(
            node,
            Input::Produce {
                ticket: Some(ticket),
                partition,
                batch,
                acks,
            },
        );
        if self.nodes[node].live.is_none() {
            self.clients.forget(node);
        }
        again_us
    }

    /// Sends one batch to a node; what is answered is kept.
    pub(super) fn ask(&mut self, node: usize, sequence: u32) -> Ticket {
        self.clients.tickets += 1;
        let ticket = Ticket(ASKED + self.clients.tickets);
        let (partition, batch) = (A, batch(0, sequence));
        self.input(
            node,
            Input::Produce {
                ticket: Some(ticket),
                partition,
                batch,
                acks: Acks::Durable,
            },
        );
        ticket
    }

    pub(super) fn read(&mut self) {
        self.read_at(self.clients.seen.len());
    }

    /// Reads on from the beginning, of what was seen before.
    pub(super) fn read_again(&mut self) {
        self.read_at(self.clients.seen_again);
        let until_us = self.now_us + 20_000;
        self.until("a second reader", |w| w.now_us >= until_us);
    }

    /// Reads somewhere in what was seen before: it may lie anywhere.
    pub(super) fn read_back(&mut self) {
        let at = self.rng.index(self.clients.seen.len() + 1);
        self.read_at(at);
    }

    fn read_at(&mut self, offset: usize) {
        let node = self.leader();
        let ticket = self.clients.ticket(None);
        let offset = Offset(offset as u64);
        self.input(
            node,
            Input::Fetch {
                ticket,
                partition: A,
                offset,
                max_bytes: 4096,
                wait_ms: 0,
            },
        );
    }

    pub(super) fn answered(&mut self, ticket: Ticket, result: Result<Reply, Failure>) {
        if ticket.0 > ASKED {
            let before = self.clients.answers.insert(ticket, result);
            assert!(before.is_none(), "{ticket:?} is answered twice");
            return;
        }
        let Some(who) = self.clients.by_ticket.remove(&ticket) else {
            panic!("{ticket:?} is answered twice");
        };
        match (who, result) {
            (Some(n), result) => self.was_produced(n, ticket, result),
            (None, Ok(Reply::Fetched(_, slices))) => {
                for (header, values) in slices.iter().flat_map(values_of) {
                    let from = header.base_offset.0 as usize;
                    let end = from + values.len();
                    if self.clients.again && from <= self.clients.seen_again {
                        self.clients.seen_again = self.clients.seen_again.max(end);
                    }
                    for (i, value) in values.into_iter().enumerate() {
                        match self.clients.seen.get(from + i) {
                            Some(seen) => assert_eq!(*seen, value, "what was seen has changed"),
                            None if from + i == self.clients.seen.len() => {
                                self.clients.seen.push(value)
                            }
                            None => panic!(
                                "offset {} comes behind {}",
                                from + i,
                                self.clients.seen.len()
                            ),
                        }
                    }
                }
            }
            (None, Ok(other)) => panic!("{other:?}"),
            (None, Err(e)) => {
                let known = [ErrorCode::NotLeader, ErrorCode::UnknownPartition];
                let looks = e.code == ErrorCode::TierUnavailable
                    && self.setup.config.tier_after_ms.is_some();
                assert!(looks || known.contains(&e.code), "a reader got {e}");
            }
        }
    }

    fn was_produced(&mut self, n: usize, ticket: Ticket, result: Result<Reply, Failure>) {
        let busy = self.now_us < BUSY_US;
        let p = &mut self.clients.producers[n];
        let current = p.out.is_some_and(|(t, _, _)| t == ticket);
        match result {
            Ok(Reply::Produced(answer)) if current => {
                let value = value(n, p.sequence);
                (p.out, p.done) = (None, !busy);
                p.sequence += 1;
                self.clients.acked.push((value, answer.base_offset));
                if answer.duplicate {
                    self.rare.insert("a retry was a duplicate");
                }
            }
            // It was not waited for any more.
            _ if !current => {}
            Err(e) => {
                let lost = e.code == ErrorCode::LeadershipLost;
                let known = [
                    ErrorCode::NotLeader,
                    ErrorCode::Busy,
                    ErrorCode::ShuttingDown,
                ];
                assert!(lost || known.contains(&e.code), "producer {n} got {e}");
                p.out = None;
                if lost {
                    self.rare.insert("an outcome was lost");
                }
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
}
