//! Those who use the shard: producers, readers, consumer groups, and whoever makes and deletes topics.

mod admin;
mod closer;
mod group;
mod producer;
mod reader;

use crate::check::History;
use crate::rng::Rng;
use crate::world::{BULK, EXPIRING, LOUD, SOURCE, World};
use flowstone_core::{Input, Now, Reply, Ticket};
use flowstone_wire::native::Acks;
use flowstone_wire::{Failure, PartitionId};
use producer::Producer;
use reader::Reader;
use std::collections::BTreeMap;

/// What a client can see and do.
pub(crate) struct Hand<'a> {
    pub(crate) now: Now,
    pub(crate) rng: &'a mut Rng,
    pub(crate) world: &'a mut World,
    pub(crate) history: &'a mut History,
    /// Inputs for the shard, in order.
    pub(crate) send: &'a mut Vec<Input>,
    /// Who is to get the answers.
    pub(crate) askers: &'a mut BTreeMap<Ticket, usize>,
    pub(crate) client: usize,
    pub(crate) tickets: &'a mut u64,
    /// Nothing fails any more: what was begun is to be finished, and nothing new begun.
    pub(crate) closing: bool,
}

impl Hand<'_> {
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
    /// Is called now and then while the shard is up.
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

/// A mixed crowd.
pub(crate) fn crowd(world: &World, rng: &mut Rng) -> Vec<Box<dyn Client>> {
    let mut all: Vec<Box<dyn Client>> = Vec::new();
    let mut producers = 0;
    let mut add = |all: &mut Vec<Box<dyn Client>>, partition, acks, idempotent, big| {
        producers += 1;
        all.push(Box::new(Producer::new(
            producers, partition, acks, idempotent, big,
        )));
    };
    if !world.tasks.is_empty() {
        for partition in SOURCE {
            add(&mut all, partition, Acks::Durable, true, false);
            if rng.percent(50) {
                add(
                    &mut all,
                    partition,
                    *rng.pick(&[Acks::Durable, Acks::Written]),
                    true,
                    false,
                );
            }
        }
    }
    for partition in [BULK, LOUD, EXPIRING[0], EXPIRING[1]] {
        let acks = *rng.pick(&[Acks::Durable, Acks::Durable, Acks::Written, Acks::None]);
        let idempotent = rng.percent(60);
        add(&mut all, partition, acks, idempotent, true);
        all.push(Box::new(Reader::new(partition)));
    }
    add(&mut all, BULK, Acks::Durable, true, true);
    add(&mut all, LOUD, Acks::Written, true, true);
    let watched: Vec<PartitionId> = world.open.keys().copied().collect();
    for _ in 0..3 {
        all.push(Box::new(Reader::new(*rng.pick(&watched))));
    }
    all.push(Box::new(group::Group::new("readers", BULK)));
    all.push(Box::new(group::Group::new("readers", LOUD)));
    all.push(Box::new(group::Group::new("others", BULK)));
    all.push(Box::new(admin::Admin::default()));
    if !world.tasks.is_empty() {
        all.push(Box::new(closer::Closer::default()));
    }
    all
}
