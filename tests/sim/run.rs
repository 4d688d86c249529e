//! A run: virtual time, the queue of what is to happen, and the way from a seed to a verdict.

use crate::check::{Dump, End, History, check_whole};
use crate::clients::{Client, Hand, Sending, crowd};
use crate::host::Done;
use crate::node::Node;
use crate::planted::Plant;
use crate::rng::Rng;
use crate::scenario::Options;
use crate::trace::{LINES, Trace};
use crate::world::{DLQ, LATE, World};
use flowstone_core::{Input, Now, Parcel, Reply, Ticket};
use flowstone_storage::SimDisk;
use flowstone_wire::{Failure, PartitionId, ShardId};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Faults and new requests end at this time.
pub(crate) const BUSY_MS: u64 = 2_500;
/// All that was begun is finished this much later.
const FINISH_US: u64 = 20_000_000;
/// What draining takes at most.
const DRAIN_US: u64 = 3_000_000;
/// What the pipelines take at most when nothing arrives any more, for each shard that a record may pass:
/// a retry of theirs, and one on the way to another shard, waits for a second.
const SETTLE_US: u64 = 3_000_000;
/// Milliseconds since 1970 when a run starts.
const UNIX_MS: i64 = 1_700_000_000_000;

/// Why a run failed.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// The property, a colon, and what is wrong.
    pub(crate) what: String,
    /// The last lines of the trace.
    pub(crate) trace: String,
}

/// Something that is to happen. What belongs to a process carries its number.
pub(crate) enum Event {
    Client(usize),
    Turn(u64, ShardId),
    Work(u64, ShardId, usize),
    Answer(u64, ShardId, Done),
    /// A parcel of this shard arrives.
    Deliver(u64, ShardId, Parcel),
    /// Something is told a shard.
    Step(u64, ShardId, Input),
    Fault,
    /// The fault that lasts is over.
    Heal,
    Start,
    /// The process is ended.
    Stop(u64),
}

impl Event {
    /// The process it belongs to.
    fn life(&self) -> Option<u64> {
        match self {
            Self::Client(_) | Self::Fault | Self::Heal | Self::Start => None,
            Self::Turn(life, _)
            | Self::Work(life, ..)
            | Self::Answer(life, ..)
            | Self::Deliver(life, ..)
            | Self::Step(life, ..)
            | Self::Stop(life) => Some(*life),
        }
    }
}

/// What the disk and the process are going through.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) slow: bool,
    /// Shards whose syncs fail.
    pub(crate) syncs_fail: BTreeSet<ShardId>,
    /// Shards of which a sync may have failed: what they wrote may not be on the disk although it can
    /// be read.
    pub(crate) tainted: BTreeSet<ShardId>,
    pub(crate) full: bool,
    /// The disk stops when it was asked for so much.
    pub(crate) dead_at: Option<u64>,
}

pub(crate) struct Sim {
    pub(crate) seed: u64,
    /// Decides what goes wrong, and what a power cut leaves.
    pub(crate) rng: Rng,
    pub(crate) options: Options,
    pub(crate) disk: SimDisk,
    pub(crate) world: World,
    /// Each has its own chance.
    pub(crate) clients: Vec<(Rng, Box<dyn Client>)>,
    pub(crate) history: History,
    pub(crate) trace: Trace,
    pub(crate) now_us: u64,
    pub(crate) jump_ms: i64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    pub(crate) node: Option<Node>,
    /// Number of the process.
    pub(crate) life: u64,
    pub(crate) askers: BTreeMap<Ticket, usize>,
    pub(crate) tickets: u64,
    pub(crate) trouble: Trouble,
    pub(crate) closing: bool,
}

/// What a run was that kept every promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Of its trace.
    pub(crate) hash: u64,
    /// Rare things that happened.
    pub(crate) rare: Vec<&'static str>,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, options: Options) -> Result<Kept, Broken> {
    let mut sim = Sim::new(seed, options);
    let result = catch_unwind(AssertUnwindSafe(|| sim.run()));
    match result.unwrap_or_else(|panic| Err(format!("panic: {}", said(&*panic)))) {
        Ok(()) => Ok(Kept {
            hash: sim.trace.hash(),
            rare: sim.trace.all_rare().collect(),
        }),
        Err(what) => Err(Broken {
            what,
            trace: sim.trace.text(),
        }),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a word")
}

impl Sim {
    fn new(seed: u64, options: Options) -> Self {
        let world = World::new(&mut Rng::of_part(seed, 0), &options);
        let clients = crowd(&world, seed, &options);
        Self {
            seed,
            rng: Rng::of_part(seed, 1),
            disk: SimDisk::default(),
            world,
            clients,
            history: History::default(),
            trace: Trace::new(options.lines.unwrap_or(LINES)),
            now_us: 0,
            jump_ms: 0,
            queue: BTreeMap::new(),
            events: 0,
            node: None,
            life: 0,
            askers: BTreeMap::new(),
            tickets: 0,
            trouble: Trouble::default(),
            closing: false,
            options,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let unix_ms = UNIX_MS + (self.now_us / 1000) as i64 + self.jump_ms;
        Now {
            unix_ms,
            mono_us: self.now_us,
        }
    }

    /// Has something happen after a while.
    pub(crate) fn after(&mut self, us: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now_us + us, self.events), event);
    }

    fn run(&mut self) -> Result<(), String> {
        self.trace
            .note(0, format_args!("   {} shards", self.world.shards));
        self.after(0, Event::Start);
        for client in 0..self.clients.len() {
            let us = self.clients[client].0.between(100, 50_000);
            self.after(us, Event::Client(client));
        }
        let us = self.rng.between(1000, 400_000);
        self.after(us, Event::Fault);
        self.run_until(self.options.busy_ms.unwrap_or(BUSY_MS) * 1000)?;
        self.close()?;
        let end = self.now_us + FINISH_US;
        while !self.is_done() {
            if self.now_us >= end {
                return Err("liveness: what was begun is not finished without faults".into());
            }
            self.run_until(self.now_us + 100_000)?;
        }
        self.settle()?;
        self.finish()
    }

    fn is_done(&self) -> bool {
        self.node.is_some() && self.clients.iter().all(|(_, c)| c.is_done())
    }

    /// Lets the pipelines come to their end: all that is wanted must be there in time.
    fn settle(&mut self) -> Result<(), String> {
        let end = self.now_us + SETTLE_US * u64::from(self.world.shards);
        loop {
            self.run_until(self.now_us + 500_000)?;
            let dump = self.dump()?;
            self.history.check(&self.world, &dump)?;
            match check_whole(&self.world, &dump) {
                Err(what) if self.now_us >= end => return Err(what),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Looks at the end once more a while later, and again after a power cut and after an orderly stop.
    fn finish(&mut self) -> Result<(), String> {
        self.run_until(self.now_us + 1_000_000)?;
        let dump = self.dump()?;
        self.history.check_end(&self.world, &dump)?;
        self.end(End::PowerCut)?;
        self.run_until(self.now_us + 200_000)?;
        let again = self.dump()?;
        self.history.check_end(&self.world, &again)?;
        self.drain()?;
        let life = self.life;
        self.run_until(self.now_us + DRAIN_US)?;
        if self.life == life {
            return Err("liveness: draining does not end".into());
        }
        let kept = self.node.as_ref().map(Node::stored_parcels);
        let kept = kept.transpose().map_err(|e| e.to_string())?;
        if let Some(kept @ 1..) = kept {
            return Err(format!(
                "leftovers: {kept} batches are kept that are where they go"
            ));
        }
        let last = self.dump()?;
        self.note_rare(&last);
        self.history.check_end(&self.world, &last)
    }

    fn note_rare(&mut self, dump: &Dump) {
        let has = |p: PartitionId| dump.get(&p).is_some_and(|part| !part.records.is_empty());
        if has(LATE[1]) {
            self.trace.rare("a late record");
        }
        if self.world.shards > 1 && has(DLQ[4]) {
            self.trace
                .rare("a letter of a pipeline behind another shard");
        }
    }

    /// Lets things happen until a time.
    fn run_until(&mut self, until_us: u64) -> Result<(), String> {
        loop {
            let event_us = self.queue.first_key_value().map(|((at, _), _)| *at);
            let pause_us = if self.trouble.slow { 3000 } else { 300 };
            let tick = self.node.as_ref().and_then(|n| n.next_tick(pause_us));
            let tick_us = tick.map(|(at, _)| at);
            let next_us = [event_us, tick_us].into_iter().flatten().min();
            let Some(next_us) = next_us.filter(|at| *at < until_us) else {
                self.now_us = until_us;
                return Ok(());
            };
            self.now_us = self.now_us.max(next_us);
            match tick {
                Some((at, shard)) if at == next_us => self.tick(shard)?,
                _ => {
                    if let Some((_, event)) = self.queue.pop_first() {
                        self.happen(event)?;
                    }
                }
            }
            self.history.liveness.check(self.now_us)?;
        }
    }

    fn tick(&mut self, shard: ShardId) -> Result<(), String> {
        if let Some(node) = &mut self.node {
            node.host(shard).ticked_us = self.now_us;
        }
        self.step(shard, Input::Tick)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if event.life().is_some_and(|life| life != self.life) {
            return Ok(());
        }
        match event {
            Event::Client(client) => self.client(client),
            Event::Turn(_, shard) => {
                if let Some(node) = &mut self.node {
                    node.host(shard).turn_due = false;
                }
                self.step(shard, Input::Turn)
            }
            Event::Work(_, shard, lane) => self.work(shard, lane),
            Event::Answer(_, shard, done) => self.take(shard, done),
            Event::Deliver(_, from, parcel) => self.deliver(from, parcel),
            Event::Step(_, shard, input) => self.tell(shard, input),
            Event::Stop(_) => self.end_somehow(),
            Event::Fault => self.fault(),
            Event::Heal => {
                self.heal();
                Ok(())
            }
            Event::Start => self.start(),
        }
    }

    /// Steps a shard with what was sent a while ago.
    fn tell(&mut self, shard: ShardId, input: Input) -> Result<(), String> {
        match &input {
            // It was deleted in the meantime.
            Input::OpenPartition { partition, .. } if !self.world.open.contains_key(partition) => {
                Ok(())
            }
            _ => self.step(shard, input),
        }
    }

    fn client(&mut self, client: usize) -> Result<(), String> {
        let us = self.clients[client].0.between(1000, 60_000);
        self.after(us, Event::Client(client));
        if self.node.is_none() {
            return Ok(());
        }
        for Sending { shard, us, input } in self.hand(client, |client, hand| client.act(hand)) {
            match us {
                0 => self.step(shard, input)?,
                us => self.after(us, Event::Step(self.life, shard, input)),
            }
        }
        Ok(())
    }

    /// Lets a client do something; returns what it sends.
    fn hand(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut dyn Client, &mut Hand<'_>),
    ) -> Vec<Sending> {
        let mut send = Vec::new();
        let now = self.now();
        let (rng, who) = &mut self.clients[client];
        let mut hand = Hand {
            now,
            rng,
            options: &self.options,
            world: &mut self.world,
            history: &mut self.history,
            send: &mut send,
            askers: &mut self.askers,
            client,
            tickets: &mut self.tickets,
            closing: self.closing,
        };
        act(&mut **who, &mut hand);
        send
    }

    /// Gives an answer to who asked.
    pub(crate) fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
    ) -> Result<(), String> {
        if self.options.plant == Some(Plant::LoseAnswer) && ticket.0 == 100 {
            return Ok(());
        }
        self.history.liveness.answered(ticket)?;
        if self.delivered(ticket, &result) {
            return Ok(());
        }
        let Some(client) = self.askers.remove(&ticket) else {
            return Err(format!("liveness: nobody asked {ticket:?}"));
        };
        let mut answered = Ok(());
        let send = self.hand(client, |c, hand| answered = c.answer(ticket, result, hand));
        debug_assert!(send.is_empty(), "clients ask when it is their turn");
        answered
    }
}
