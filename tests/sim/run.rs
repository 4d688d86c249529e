//! A run: virtual time, the queue of what is to happen, and the way from a seed to a verdict.

use crate::check::{End, History};
use crate::clients::{Client, Hand, crowd};
use crate::node::{Done, Node};
use crate::planted::Plant;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::World;
use flowstone_core::{Input, Now, Reply, Ticket};
use flowstone_storage::SimDisk;
use flowstone_wire::Failure;
use std::collections::BTreeMap;

/// Faults and new requests end at this time.
const BUSY_US: u64 = 2_500_000;
/// All that was begun is finished this much later.
const FINISH_US: u64 = 20_000_000;
/// What the pipelines take when nothing arrives any more: a retry of theirs waits for a second.
const SETTLE_US: u64 = 3_000_000;
/// Milliseconds since 1970 when a run starts.
const UNIX_MS: i64 = 1_700_000_000_000;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) plant: Option<Plant>,
}

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
    Turn(u64),
    Work(u64, usize),
    Answer(u64, Done),
    Fault,
    /// The fault that lasts is over.
    Heal,
    Start,
    /// The process is ended.
    Stop(u64),
}

/// What the disk and the process are going through.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) slow: bool,
    pub(crate) syncs_fail: bool,
    /// A sync failed: what this process wrote may not be on the disk although it can be read.
    pub(crate) tainted: bool,
    pub(crate) full: bool,
    /// The disk stops when it was asked for so much.
    pub(crate) dead_at: Option<u64>,
}

pub(crate) struct Sim {
    pub(crate) rng: Rng,
    pub(crate) options: Options,
    pub(crate) disk: SimDisk,
    pub(crate) world: World,
    pub(crate) clients: Vec<Box<dyn Client>>,
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
    pub(crate) turn_due: bool,
    pub(crate) ticked_us: u64,
    pub(crate) trouble: Trouble,
    pub(crate) closing: bool,
}

/// Runs a seed. Returns the hash of its trace.
pub(crate) fn run(seed: u64, options: Options) -> Result<u64, Broken> {
    let mut sim = Sim::new(seed, options);
    match sim.run() {
        Ok(()) => Ok(sim.trace.hash()),
        Err(what) => Err(Broken {
            what,
            trace: sim.trace.text(),
        }),
    }
}

impl Sim {
    fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::new(&mut rng);
        let clients = crowd(&world, &mut rng);
        Self {
            rng,
            options,
            disk: SimDisk::default(),
            world,
            clients,
            history: History::default(),
            trace: Trace::default(),
            now_us: 0,
            jump_ms: 0,
            queue: BTreeMap::new(),
            events: 0,
            node: None,
            life: 0,
            askers: BTreeMap::new(),
            tickets: 0,
            turn_due: false,
            ticked_us: 0,
            trouble: Trouble::default(),
            closing: false,
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
        self.after(0, Event::Start);
        for client in 0..self.clients.len() {
            let us = self.rng.between(100, 50_000);
            self.after(us, Event::Client(client));
        }
        let us = self.rng.between(1000, 400_000);
        self.after(us, Event::Fault);
        self.run_until(BUSY_US)?;
        self.close()?;
        let end = self.now_us + FINISH_US;
        while !self.is_done() {
            if self.now_us >= end {
                return Err("liveness: what was begun is not finished without faults".into());
            }
            self.run_until(self.now_us + 100_000)?;
        }
        self.run_until(self.now_us + SETTLE_US)?;
        self.finish()
    }

    fn is_done(&self) -> bool {
        self.node.is_some() && self.clients.iter().all(|c| c.is_done())
    }

    /// Looks at the end, and again after a power cut and after an orderly stop.
    fn finish(&mut self) -> Result<(), String> {
        let dump = self.dump()?;
        self.history.check_end(&self.world, &dump)?;
        self.end(End::PowerCut)?;
        self.run_until(self.now_us + 200_000)?;
        let again = self.dump()?;
        self.history.check_end(&self.world, &again)?;
        self.step(Input::Drain)?;
        let life = self.life;
        self.run_until(self.now_us + SETTLE_US)?;
        if self.life == life {
            return Err("liveness: draining does not end".into());
        }
        let last = self.dump()?;
        self.history.check_end(&self.world, &last)
    }

    /// Lets things happen until a time.
    fn run_until(&mut self, until_us: u64) -> Result<(), String> {
        loop {
            let event_us = self.queue.first_key_value().map(|((at, _), _)| *at);
            let tick_us = self.tick_us();
            let next_us = [event_us, tick_us]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(until_us);
            if next_us >= until_us {
                self.now_us = until_us;
                return Ok(());
            }
            self.now_us = self.now_us.max(next_us);
            if tick_us == Some(next_us) {
                self.ticked_us = self.now_us;
                self.step(Input::Tick)?;
            } else if let Some((_, event)) = self.queue.pop_first() {
                self.happen(event)?;
            }
            self.history.liveness.check(self.now_us)?;
        }
    }

    /// When the shard wants its next tick. A deadline that stays in the past is served as a real
    /// driver does: again and again, but not without a pause.
    fn tick_us(&self) -> Option<u64> {
        let pause_us = if self.trouble.slow { 3000 } else { 300 };
        let deadline = self.node.as_ref()?.shard.deadline()?;
        Some(deadline.max(self.ticked_us + pause_us))
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Client(client) => self.client(client),
            Event::Turn(life) if life == self.life => {
                self.turn_due = false;
                self.step(Input::Turn)
            }
            Event::Work(life, lane) if life == self.life => self.work(lane),
            Event::Answer(life, done) if life == self.life => self.take(done),
            Event::Stop(life) if life == self.life => self.end_somehow(),
            Event::Fault => self.fault(),
            Event::Heal => {
                self.heal();
                Ok(())
            }
            Event::Start => self.start(),
            Event::Turn(_) | Event::Work(..) | Event::Answer(..) | Event::Stop(_) => Ok(()),
        }
    }

    fn client(&mut self, client: usize) -> Result<(), String> {
        let us = self.rng.between(1000, 60_000);
        self.after(us, Event::Client(client));
        if self.node.is_none() {
            return Ok(());
        }
        let send = self.hand(client, |client, hand| client.act(hand));
        for input in send {
            self.step(input)?;
        }
        Ok(())
    }

    /// Lets a client do something; returns what it sends.
    fn hand(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut dyn Client, &mut Hand<'_>),
    ) -> Vec<Input> {
        let mut send = Vec::new();
        let now = self.now();
        let mut hand = Hand {
            now,
            rng: &mut self.rng,
            world: &mut self.world,
            history: &mut self.history,
            send: &mut send,
            askers: &mut self.askers,
            client,
            tickets: &mut self.tickets,
            closing: self.closing,
        };
        act(&mut *self.clients[client], &mut hand);
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
        let Some(client) = self.askers.remove(&ticket) else {
            return Err(format!("liveness: nobody asked {ticket:?}"));
        };
        let mut answered = Ok(());
        let send = self.hand(client, |c, hand| answered = c.answer(ticket, result, hand));
        debug_assert!(send.is_empty(), "clients ask when it is their turn");
        answered
    }
}
