//! Those who use the node: producers, readers, consumer groups, and whoever makes and deletes topics.

mod admin;
mod closer;
mod group;
mod producer;
mod reader;

use crate::check::History;
use crate::rng::Rng;
use crate::scenario::{Options, Part};
use crate::world::{BULK, COMPACTED, EXPIRING, LOUD, SOURCE, World};
use flowstone_core::{Input, Now, Reply, Ticket};
use flowstone_wire::native::Acks;
use flowstone_wire::{Failure, PartitionId, ShardId};
use producer::Producer;
use reader::Reader;
use std::collections::BTreeMap;

/// An input on its way to a shard, and how long that takes.
pub(crate) struct Sending {
    pub(crate) shard: ShardId,
    pub(crate) us: u64,
    pub(crate) input: Input,
}

/// What a client can see and do.
pub(crate) struct Hand<'a> {
    pub(crate) now: Now,
    pub(crate) rng: &'a mut Rng,
    pub(crate) options: &'a Options,
    pub(crate) world: &'a mut World,
    pub(crate) history: &'a mut History,
    /// Inputs for the shards, in order.
    pub(crate) send: &'a mut Vec<Sending>,
    /// Who is to get the answers.
    pub(crate) askers: &'a mut BTreeMap<Ticket, usize>,
    pub(crate) client: usize,
    pub(crate) tickets: &'a mut u64,
    /// Nothing fails any more: what was begun is to be finished, and nothing new begun.
    pub(crate) closing: bool,
}

impl Hand<'_> {
    /// Sends something to the shard of a partition.
    pub(crate) fn send(&mut self, partition: PartitionId, input: Input) {
        self.send_to(self.world.shard_of(partition), 0, input);
    }

    /// Sends something to a shard, where it is after a while.
    pub(crate) fn send_to(&mut self, shard: ShardId, us: u64, input: Input) {
        self.send.push(Sending { shard, us, input });
    }

    /// A ticket for a request that is about to be sent.
    pub(crate) fn ticket(&mut self, what: &str) -> Ticket {
        *self.tickets += 1;
        let ticket = Ticket(*self.tickets);
        self.askers.insert(ticket, self.client);
        self.history.liveness.asked(
            ticket,
            self.now.mono_us,
            format!("{} of {what}", self.client),
        );
        ticket
    }
}

/// Somebody who asks.
pub(crate) trait Client {
    /// Is called now and then while the process is up.
    fn act(&mut self, hand: &mut Hand<'_>);

    /// Takes an answer.
    fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        hand: &mut Hand<'_>,
    ) -> Result<(), String>;

    /// The connection broke: what is asked is not answered any more.
    fn disconnected(&mut self);

    /// Whether all that was begun is finished.
    fn is_done(&self) -> bool;
}

/// Numbers of the parts of a run that have their own chance.
const CROWD: u64 = 2;
const FIRST_CLIENT: u64 = 100;

/// A mixed crowd, each with its own chance. Whoever is switched off is missing; the others are the same.
pub(crate) fn crowd(world: &World, seed: u64, options: &Options) -> Vec<(Rng, Box<dyn Client>)> {
    let mut rng = Rng::of_part(seed, CROWD);
    let mut all: Vec<(Part, Box<dyn Client>)> = Vec::new();
    add_producers(world, &mut rng, &mut all);
    for partition in [BULK, LOUD, EXPIRING[0], EXPIRING[1], COMPACTED] {
        all.push((Part::Readers, Box::new(Reader::new(partition))));
    }
    let watched: Vec<PartitionId> = world.open.keys().copied().collect();
    for _ in 0..3 {
        let partition = *rng.pick(&watched);
        all.push((Part::Readers, Box::new(Reader::new(partition))));
    }
    for (group, partition) in [("readers", BULK), ("readers", LOUD), ("others", BULK)] {
        all.push((Part::Groups, Box::new(group::Group::new(group, partition))));
    }
    let mut kept: Vec<(Rng, Box<dyn Client>)> = Vec::new();
    for ((part, client), number) in all.into_iter().zip(FIRST_CLIENT..) {
        if options.has(part) {
            kept.push((Rng::of_part(seed, number), client));
        }
    }
    let admin = Box::new(admin::Admin::default());
    kept.push((Rng::of_part(seed, CROWD + 1), admin));
    if world.source_bytes > 0 {
        let closer = Box::new(closer::Closer::default());
        kept.push((Rng::of_part(seed, CROWD + 2), closer));
    }
    kept
}

fn add_producers(world: &World, rng: &mut Rng, all: &mut Vec<(Part, Box<dyn Client>)>) {
    let mut number = 0;
    let mut add = |part, partition, acks, idempotent, big| {
        number += 1;
        let producer = Producer::new(number, partition, acks, idempotent, big);
        all.push((part, Box::new(producer)));
    };
    for partition in SOURCE.into_iter().filter(|_| world.source_bytes > 0) {
        add(Part::Producers, partition, Acks::Durable, true, false);
        if rng.percent(50) {
            let acks = *rng.pick(&[Acks::Durable, Acks::Written]);
            add(Part::MoreProducers, partition, acks, true, false);
        }
    }
    for partition in [BULK, LOUD, EXPIRING[0], EXPIRING[1], COMPACTED] {
        let acks = *rng.pick(&[Acks::Durable, Acks::Durable, Acks::Written, Acks::None]);
        add(Part::Bulk, partition, acks, rng.percent(60), true);
    }
    add(Part::Bulk, BULK, Acks::Durable, true, true);
    add(Part::Bulk, LOUD, Acks::Written, true, true);
}
