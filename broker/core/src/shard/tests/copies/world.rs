//! The world of the copies: nodes, links, time, and what goes wrong.

use super::bucket::{self, Bucket};
use super::clients::Clients;
use super::node::{Done, Effect, Live, Setup, Work};
use crate::catalog::placement::Policy;
use crate::input::{Input, Now, ReplicaInput};
use crate::output::Output;
use crate::replica::sim::catalog::{Catalog, Sent};
use crate::replica::sim::rng::Rng;
use crate::replica::{Asked, Envelope, Input as Told, Phase, Report};
use bytes::Bytes;
use flowstone_storage::snapshot::{Incoming, Part, install};
use flowstone_storage::{SimDisk, layout};
use flowstone_wire::{Incarnation, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// Faults happen and producers send for so long.
pub(super) const BUSY_US: u64 = 6_000_000;
/// Then everything must heal within this.
const HEAL_US: u64 = 30_000_000;

/// What links with the catalog are called in [`World::cut`].
pub(super) const CATALOG: usize = usize::MAX;

/// Reports come every half second.
const POLICY: Policy = Policy {
    silent_us: 1_500_000,
    stuck_us: 2_000_000,
    replace_us: 3_000_000,
    settle_us: 500_000,
    near_bytes: 20_000,
    copies_at_once: 2,
};

pub(super) enum Event {
    Message(Envelope, Vec<Bytes>),
    Snapshot(Envelope, Vec<Part>),
    Work {
        node: usize,
        boot: u64,
        work: Work,
    },
    Tick {
        node: usize,
        boot: u64,
    },
    Bucket {
        node: usize,
        boot: u64,
        asked: Output,
    },
    Asked(Asked),
    Reported(Report),
    Catalog(usize, ReplicaInput),
    Look,
    Produce(usize),
    Read,
    Fault,
}

pub(super) struct Node {
    pub(super) disk: SimDisk,
    pub(super) live: Option<Live>,
    pub(super) boot: u64,
    /// When the last work of each queue is done.
    due_us: [u64; 2],
    tick_us: u64,
}

pub(super) struct Story {
    pub(super) rare: BTreeSet<&'static str>,
    pub(super) acked: usize,
    pub(super) epochs: u64,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now_us: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) catalog: Catalog,
    pub(super) clients: Clients,
    pub(super) setup: Setup,
    pub(super) bucket: Bucket,
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) rare: BTreeSet<&'static str>,
    tells: bool,
    lives: u64,
}

impl World {
    pub(super) fn run(seed: u64, tells: bool) -> Story {
        let mut rng = Rng::new(seed);
        let count = rng.pick(&[2, 3, 3, 5]);
        let mut world = Self::begin(rng, count, tells);
        world.at(20, Event::Read);
        world.at(400_000, Event::Fault);
        for n in 0..world.clients.len() {
            world.at(1000, Event::Produce(n));
        }
        world.go()
    }

    /// So many nodes that are opened, and a catalog that looks after them.
    pub(super) fn begin(mut rng: Rng, count: usize, tells: bool) -> Self {
        let setup = super::checks::setup(&mut rng);
        let node = || Node {
            disk: SimDisk::default(),
            live: None,
            boot: 0,
            due_us: [0; 2],
            tick_us: u64::MAX,
        };
        // As they are opened below.
        let lives: Vec<Incarnation> = (1..=count as u64).map(Incarnation).collect();
        let mut world = Self {
            rng,
            now_us: 1,
            events: BTreeMap::new(),
            count: 0,
            nodes: (0..count).map(|_| node()).collect(),
            catalog: Catalog::new(POLICY, count, count, &lives),
            clients: Clients::new(3),
            setup,
            bucket: Bucket::default(),
            cut: BTreeSet::new(),
            rare: BTreeSet::new(),
            tells,
            lives: 0,
        };
        for n in 0..count {
            world.open(n);
        }
        world.at(10, Event::Look);
        world
    }

    fn go(mut self) -> Story {
        let end_us = BUSY_US + HEAL_US;
        while self.now_us < BUSY_US {
            self.turn();
        }
        self.heal();
        while !self.is_whole() {
            assert!(
                self.now_us < end_us,
                "it does not heal: {}",
                self.standing()
            );
            self.turn();
        }
        self.check();
        let events = self.count;
        self.tell(|| format!("{events} events"));
        Story {
            rare: self.rare,
            acked: self.clients.acked(),
            epochs: self.catalog.epochs.len() as u64,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            unix_ms: 1_000_000 + (self.now_us / 1000) as i64,
            mono_us: self.now_us,
        }
    }

    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>9} {}", self.now_us, what());
        }
    }

    pub(super) fn at(&mut self, after_us: u64, event: Event) {
        self.count += 1;
        self.events
            .insert((self.now_us + after_us, self.count), event);
    }

    /// Lets things happen until it is so.
    pub(super) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end_us = self.now_us + HEAL_US;
        while !is_so(self) {
            assert!(self.now_us < end_us, "{what}: {}", self.standing());
            self.turn();
        }
    }

    fn turn(&mut self) {
        let ((at_us, _), event) = self.events.pop_first().expect("there are always some");
        self.now_us = at_us.max(self.now_us);
        match event {
            Event::Message(envelope, bodies) => {
                let to = envelope.header.to.node;
                let input = ReplicaInput::Peer { envelope, bodies };
                self.input(to.0 as usize, Input::Replica(input));
            }
            Event::Snapshot(envelope, parts) => self.snapshot(envelope, parts),
            Event::Work { node, boot, work } => self.work(node, boot, work),
            // Only the one that was planned last.
            Event::Tick { node, boot }
                if self.nodes[node].boot == boot && self.nodes[node].tick_us == at_us =>
            {
                self.nodes[node].tick_us = u64::MAX;
                self.input(node, Input::Tick);
            }
            Event::Tick { .. } => {}
            Event::Bucket { node, boot, asked } => self.serve(node, boot, asked),
            Event::Asked(Asked { from, .. })
                if self.cut.contains(&(from.node.0 as usize, CATALOG)) => {}
            Event::Asked(asked) => {
                let sent = self.catalog.take_ask(asked, self.now_us, &mut self.rng);
                self.send_all(sent);
            }
            Event::Reported(Report { me, .. })
                if self.cut.contains(&(me.node.0 as usize, CATALOG)) => {}
            Event::Reported(report) => {
                let sent = self.catalog.take_report(report, self.now_us);
                self.send_all(sent);
            }
            Event::Catalog(node, _) if self.cut.contains(&(CATALOG, node)) => {}
            Event::Catalog(node, input) => self.input(node, Input::Replica(input)),
            Event::Look => {
                let sent = self.catalog.look(self.now_us, &mut self.rng);
                self.send_all(sent);
                self.at(100_000, Event::Look);
            }
            Event::Produce(n) => {
                let again_us = self.produce(n);
                self.at(again_us, Event::Produce(n));
            }
            Event::Read => {
                self.read();
                self.read_back();
                self.at(40_000, Event::Read);
            }
            Event::Fault => {
                if self.now_us < BUSY_US {
                    self.fault();
                    let pause_us = self.rng.between(50_000, 1_500_000);
                    self.at(pause_us, Event::Fault);
                }
            }
        }
    }

    pub(super) fn send_all(&mut self, sent: Sent) {
        for (to, told) in sent {
            let all = match to {
                Some(node) => node.0 as usize..node.0 as usize + 1,
                None => 0..self.nodes.len(),
            };
            for n in all {
                let input = match told.clone() {
                    Told::Appointed(config) => ReplicaInput::Appointed(config),
                    Told::Activated(epoch) => ReplicaInput::Activated(epoch),
                    other => unreachable!("no catalog says {other:?}"),
                };
                let after_us = self.rng.between(500, 30_000);
                self.at(after_us, Event::Catalog(n, input));
            }
        }
    }

    /// Gives a node an input, and a turn.
    pub(super) fn input(&mut self, n: usize, input: Input) {
        let now = self.now();
        let Some(live) = self.nodes[n].live.as_mut() else {
            return;
        };
        let mut effects = live.step(now, input);
        effects.extend(live.step(now, Input::Turn));
        self.perform(n, effects);
    }

    fn perform(&mut self, n: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, result) => self.answered(ticket, result),
                Effect::Send(envelope, bodies) => self.send(n, envelope, &bodies),
                Effect::Ask(asked) => {
                    let after_us = self.rng.between(500, 30_000);
                    self.at(after_us, Event::Asked(asked));
                }
                Effect::Report(report) => {
                    let after_us = self.rng.between(500, 5_000);
                    self.at(after_us, Event::Reported(report));
                }
                Effect::Work(queue, work) => self.queue(n, queue, work),
                Effect::Bucket(asked) => self.ask_bucket(n, asked),
                Effect::Told => {}
                Effect::Reopen => {
                    self.rare.insert("a leader retired");
                    self.queue(n, 1, Work::Open);
                }
                Effect::Install => self.queue(n, 1, Work::Install),
                Effect::Fenced(why) => panic!("node {n} is fenced: {why}"),
            }
        }
        self.plan_tick(n);
    }

    fn plan_tick(&mut self, n: usize) {
        let now_us = self.now_us;
        let node = &mut self.nodes[n];
        let deadline = node.live.as_ref().and_then(|l| l.shard.deadline());
        let Some(at_us) = deadline.map(|at| at.max(now_us + 100)) else {
            return;
        };
        if at_us < node.tick_us {
            node.tick_us = at_us;
            let boot = node.boot;
            self.at(at_us - now_us, Event::Tick { node: n, boot });
        }
    }

    fn queue(&mut self, n: usize, queue: usize, work: Work) {
        match &work {
            Work::Do(Output::Cut(_)) => drop(self.rare.insert("a log was cut")),
            Work::Do(Output::Settle(_)) => drop(self.rare.insert("a segment was settled")),
            Work::Do(output) => self.rare.extend(bucket::rare(output)),
            _ => {}
        }
        let slow = self.rng.percent(3);
        let took_us = self.rng.between(50, if slow { 300_000 } else { 4_000 });
        let now_us = self.now_us;
        let node = &mut self.nodes[n];
        let due_us = node.due_us[queue].max(now_us) + took_us;
        node.due_us[queue] = due_us;
        let boot = node.boot;
        self.at(
            due_us - now_us,
            Event::Work {
                node: n,
                boot,
                work,
            },
        );
    }

    fn work(&mut self, n: usize, boot: u64, work: Work) {
        if self.nodes[n].boot != boot {
            return;
        }
        match work {
            Work::Open => {
                self.nodes[n].live = None;
                self.rare.insert("a shard was opened again");
                self.open(n);
            }
            Work::Install => {
                self.nodes[n].live = None;
                self.rare.insert("a snapshot was installed");
                let disk = &self.nodes[n].disk;
                if self.rng.percent(30) {
                    // The process ends in the middle; the next start goes on with it.
                    disk.stop_after(self.rng.below(40));
                    let _ = install(disk, &layout::shard_dir(ShardId(0)));
                    self.nodes[n].disk = self.nodes[n].disk.kill();
                } else {
                    install(disk, &layout::shard_dir(ShardId(0))).unwrap();
                }
                self.open(n);
            }
            Work::Do(output) => {
                let node = &mut self.nodes[n];
                let live = node.live.as_mut().expect("it runs in this boot");
                match live.work(&node.disk, &self.bucket, output) {
                    Done::Input(input) => self.input(n, input),
                    Done::Answer(ticket, result) => self.answered(ticket, result),
                    Done::Snapshot(envelope, parts) => {
                        let header = envelope.header;
                        if !self.cut.contains(&(n, header.to.node.0 as usize)) {
                            let after_us = self.rng.between(1_000, 300_000);
                            self.at(after_us, Event::Snapshot(envelope, parts));
                        }
                        let sent = ReplicaInput::SnapshotSent(header.to);
                        self.input(n, Input::Replica(sent));
                    }
                    Done::Nothing => {}
                }
            }
        }
    }

    fn snapshot(&mut self, envelope: Envelope, parts: Vec<Part>) {
        let n = envelope.header.to.node.0 as usize;
        let node = &self.nodes[n];
        let running = node.live.as_ref().filter(|l| !l.shard.has_ended());
        if running.is_none() {
            return;
        }
        let shared = std::sync::Arc::new(node.disk.clone());
        let mut incoming = Incoming::begin(
            shared,
            &layout::shard_dir(ShardId(0)),
            self.setup.config.log,
        )
        .unwrap();
        let taken: Result<(), _> = parts.into_iter().try_for_each(|p| incoming.take(p));
        if taken.is_ok() && incoming.is_whole() {
            let bodies = Vec::new();
            self.input(n, Input::Replica(ReplicaInput::Peer { envelope, bodies }));
        }
    }

    fn open(&mut self, n: usize) {
        self.lives += 1;
        let now = self.now();
        let node = &mut self.nodes[n];
        node.boot += 1;
        (node.due_us, node.tick_us) = ([0; 2], u64::MAX);
        let id = NodeId(n as u32);
        let mut live = Live::open(&node.disk, id, self.lives, &self.setup);
        let effects = live.introduce(now, &self.setup);
        node.live = Some(live);
        self.perform(n, effects);
    }

    fn send(&mut self, from: usize, envelope: Envelope, bodies: &[Bytes]) {
        let to = envelope.header.to.node.0 as usize;
        let lost = self.now_us < BUSY_US && self.rng.percent(2);
        if lost || self.cut.contains(&(from, to)) {
            return;
        }
        let times = if self.rng.percent(2) { 2 } else { 1 };
        for _ in 0..times {
            let slow = self.rng.percent(2);
            let after_us = self.rng.between(100, if slow { 400_000 } else { 2_000 });
            let bodies = bodies.iter().map(|b| Bytes::copy_from_slice(b)).collect();
            self.at(after_us, Event::Message(envelope.clone(), bodies));
        }
    }

    /// Whether everything was sent, and is everywhere.
    pub(super) fn is_whole(&self) -> bool {
        let config = &self.catalog.config;
        let all = || self.nodes.iter().map(|n| n.live.as_ref());
        let Some(Some(leader)) = all().nth(config.leader.node.0 as usize) else {
            return false;
        };
        let (end, log) = (leader.shard.committed(), leader.shard.log());
        let same = |l: &Live| l.shard.committed() == end && l.shard.log().durable() == end;
        let leads = leader
            .shard
            .replica()
            .is_some_and(|r| r.phase() == Phase::Leading && r.is_sure());
        self.clients.are_done()
            && config.members.len() == self.nodes.len()
            && leads
            && log.written() == end
            && !log.has_staged()
            && all().all(|l| l.is_some_and(same))
    }

    fn standing(&self) -> String {
        let of = |n: &Node| match &n.live {
            None => "down".into(),
            Some(l) => format!(
                "{:?} committed {} written {}",
                l.shard.replica().map(|r| r.phase()),
                l.shard.committed(),
                l.shard.log().written()
            ),
        };
        let nodes: Vec<String> = self.nodes.iter().map(of).collect();
        format!(
            "{nodes:?}, {:?}, clients done: {}",
            self.catalog.config,
            self.clients.are_done()
        )
    }
}
