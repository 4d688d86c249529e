//! The world of a run: nodes, network, catalog, and what happens when.
#![cfg(test)]

use super::catalog::{Catalog, POLICY, Sent};
use super::device::Op;
use super::disk::{Disk, End, Entry};
use super::label::Label;
use super::net::Net;
use super::node::Node;
use super::oracle::Oracle;
use super::rng::Rng;
use crate::replica::rules::Plant;
use crate::replica::{Asked, Envelope, Input, Limits, Report};
use flowstone_wire::{Incarnation, Lsn};
use std::collections::BTreeMap;

/// Virtual time with faults.
const BUSY_US: u64 = 1_200_000;
/// Virtual time in which everything must be well again.
const HEAL_US: u64 = 4_000_000;

/// What is small in a run, so that limits are met.
pub(super) const LIMITS: Limits = Limits {
    heartbeat_us: 5_000,
    resend_us: 15_000,
    doubt_us: 60_000,
    drop_us: 200_000,
    ask_us: 20_000,
    report_us: 20_000,
    window_bytes: 16_000,
    chunk_bytes: 4_000,
    admit_bytes: 4_000,
};

/// A message with what travels beside it.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) envelope: Envelope,
    pub(super) entries: Vec<Entry>,
    /// The chain at the end of a snapshot.
    pub(super) chain: u64,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    Packet(usize, Box<Packet>),
    /// To a process of a node; void if that has ended.
    Tell(usize, u64, Input),
    /// From the catalog.
    Told(usize, Input),
    Asked(Asked),
    Reported(Box<Report>),
    /// The disk is through with an operation of a process.
    Done(usize, u64, Op),
    Produce,
    Look,
    Catalog,
    Fault,
    Heal,
    Start(usize),
    /// The power of a process's node goes.
    Crash(usize, u64),
}

/// What a run is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) plant: Option<Plant>,
    /// See [`Oracle::outcomes_only`].
    pub(super) outcomes_only: bool,
    /// Whether to keep the story, and not its hash alone.
    pub(super) tells: bool,
}

/// How a run went.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) hash: u64,
    pub(super) events: u64,
    /// Entries that were committed, and epochs that became active.
    pub(super) committed: u64,
    pub(super) epochs: u64,
    pub(super) rare: Vec<&'static str>,
    pub(super) failure: Option<String>,
    pub(super) lines: Vec<String>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) options: Options,
    pub(super) now_us: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) net: Net,
    pub(super) catalog: Catalog,
    pub(super) oracle: Oracle,
    /// Numbers that were given to contents and lives.
    pub(super) given: u64,
    pub(super) is_calm: bool,
    /// Whether promises do not wait for syncs of the log.
    pub(super) promises_apart: bool,
    /// Times between faults, and between what producers send.
    pub(super) fault_us: u64,
    produce_us: u64,
    hash: u64,
    lines: Vec<String>,
    pub(super) rare: Vec<&'static str>,
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = rng.pick(&[2, 3, 3, 3, 4, 5, 5]);
        let wanted = rng.between(1, nodes as u64) as usize;
        let members = rng.between(1, wanted as u64) as usize;
        let lives: Vec<Incarnation> = (1..=nodes as u64).map(Incarnation).collect();
        let mut world = Self {
            net: Net::new(nodes + 1, &mut rng),
            catalog: Catalog::new(POLICY, members.max(wanted - 1).max(1), wanted, &lives),
            promises_apart: rng.percent(70),
            fault_us: rng.pick(&[15_000, 40_000, 100_000]),
            produce_us: rng.pick(&[400, 2_000, 6_000]),
            nodes: lives
                .into_iter()
                .enumerate()
                .map(|(n, life)| Node::new(n, Disk::new(life)))
                .collect(),
            given: 1000,
            rng,
            options,
            now_us: 0,
            queue: BTreeMap::new(),
            events: 0,
            oracle: Oracle::new(options.outcomes_only),
            is_calm: false,
            hash: 0,
            lines: Vec::new(),
            rare: Vec::new(),
        };
        for node in 0..nodes {
            world.after(0, Event::Start(node));
        }
        for event in [Event::Produce, Event::Look, Event::Catalog, Event::Fault] {
            world.after(1_000, event);
        }
        world
    }

    /// Runs a seed.
    pub(super) fn run(seed: u64, options: Options) -> Story {
        let mut world = Self::new(seed, options);
        let failure = world.live().err();
        Story {
            hash: world.hash,
            events: world.events,
            committed: world.oracle.committed().0,
            epochs: world.catalog.activated_us.len() as u64,
            rare: world.rare,
            failure,
            lines: world.lines,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.run_until(BUSY_US)?;
        self.calm()?;
        let until_us = self.now_us + HEAL_US;
        loop {
            self.run_until(self.now_us + 50_000)?;
            match self.is_well() {
                Ok(()) => return self.check_end(),
                Err(what) if self.now_us >= until_us => return Err(format!("liveness: {what}")),
                Err(_) => {}
            }
        }
    }

    fn run_until(&mut self, until_us: u64) -> Result<(), String> {
        while let Some(first) = self.queue.first_entry() {
            if first.key().0 > until_us {
                break;
            }
            let ((at_us, _), event) = first.remove_entry();
            self.now_us = at_us;
            self.happens(event)?;
        }
        self.now_us = until_us;
        Ok(())
    }

    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    pub(super) fn at(&mut self, at_us: u64, event: Event) {
        self.events += 1;
        self.queue.insert((at_us, self.events), event);
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        self.note(&event);
        match event {
            Event::Packet(to, packet) => self.arrives(to, *packet)?,
            Event::Tell(node, run, input) => self.tell(node, run, input)?,
            Event::Told(node, input) => {
                let run = self.nodes[node].run;
                self.tell(node, run, input)?;
            }
            Event::Asked(asked) => {
                let sent = self.catalog.take_ask(asked, self.now_us, &mut self.rng);
                self.send_out(sent);
            }
            Event::Reported(report) => {
                let sent = self.catalog.take_report(*report, self.now_us);
                self.send_out(sent);
            }
            Event::Done(node, run, op) => self.done(node, run, op)?,
            Event::Produce => {
                self.produce()?;
                let us = self.rng.between(1, self.produce_us * 2);
                self.after(us, Event::Produce);
            }
            Event::Look => {
                self.look()?;
                self.after(3_000, Event::Look);
            }
            Event::Catalog => {
                let sent = self.catalog.look(self.now_us, &mut self.rng);
                self.send_out(sent);
                self.after(10_000, Event::Catalog);
            }
            Event::Fault => self.fault()?,
            Event::Heal => self.net.heal(),
            Event::Start(node) => self.start(node)?,
            Event::Crash(node, run) => self.crash(node, run)?,
        }
        Ok(())
    }

    /// Sends what the catalog says.
    pub(super) fn send_out(&mut self, sent: Sent) {
        for (to, input) in sent {
            let all = match to {
                Some(node) => node.0 as usize..node.0 as usize + 1,
                None => 0..self.nodes.len(),
            };
            for to in all {
                let arrivals = self
                    .net
                    .arrivals(self.nodes.len(), to, self.now_us, &mut self.rng);
                for at_us in arrivals.into_iter().flatten() {
                    self.at(at_us, Event::Told(to, input.clone()));
                }
            }
        }
    }

    /// Faults end; nodes come back.
    fn calm(&mut self) -> Result<(), String> {
        self.is_calm = true;
        self.produce_us = self.produce_us.max(2_000);
        self.catalog.is_calm = true;
        self.net.calm();
        let one = self.rng.index(self.nodes.len());
        if self.rng.percent(40) && self.can_go_on_without(one) {
            self.nodes[one].is_gone = true;
            self.happened("a node stayed away");
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until_us = 0;
            self.nodes[node].is_slow = false;
            self.nodes[node].syncs_fail = false;
            if self.nodes[node].replica.is_some()
                && (self.nodes[node].has_failed || self.nodes[node].is_gone)
            {
                self.end(node, End::PowerCut, 0)?;
            }
        }
        Ok(())
    }

    /// Whether there is a leader, and everyone in the set has everything.
    fn is_well(&self) -> Result<(), String> {
        let config = &self.catalog.config;
        let Some(leader) = self
            .nodes
            .iter()
            .find(|n| n.replica.as_ref().is_some_and(|r| r.is_sure()))
        else {
            return Err(format!("nobody is sure to lead; {config:?}"));
        };
        let committed = leader.replica.as_ref().unwrap().committed();
        if committed < self.oracle.committed() || leader.disk.end() > Lsn(committed.0 + 40) {
            return Err(format!("node {} lags behind itself", leader.number));
        }
        for member in config.members.iter().chain(&config.learners) {
            let node = &self.nodes[member.node.0 as usize];
            if node.is_gone {
                continue;
            }
            if node.disk.life != member.incarnation || node.disk.durable().0 + 40 < committed.0 {
                return Err(format!(
                    "{member} has not caught up to {committed}; {config:?}"
                ));
            }
        }
        Ok(())
    }

    /// What was committed is there, on every member as far as it goes.
    fn check_end(&mut self) -> Result<(), String> {
        for member in self.catalog.config.members.clone() {
            let node = member.node.0 as usize;

            let known = self.nodes[node]
                .replica
                .as_ref()
                .map_or(Lsn(0), |r| r.committed());
            self.oracle.has_committed(&self.nodes[node], known)?;
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        let (kind, node) = match event {
            Event::Packet(to, packet) => (u64::from(packet.envelope.header.epoch.0) << 8, *to),
            Event::Tell(node, ..) => (1, *node),
            Event::Told(node, _) => (2, *node),
            Event::Done(node, ..) => (3, *node),
            Event::Start(node) => (4, *node),
            Event::Asked(_) => (5, 0),
            Event::Reported(_) => (6, 0),
            _ => (7, 0),
        };
        self.mix(self.now_us ^ kind << 48 ^ (node as u64) << 40);
        if self.options.tells
            && !matches!(
                event,
                Event::Produce | Event::Look | Event::Catalog | Event::Reported(_)
            )
        {
            self.tell_story(format_args!("{}", Label(event)));
        }
    }

    /// Makes something that happened part of the hash.
    pub(super) fn mix(&mut self, what: u64) {
        self.hash = (self.hash ^ what)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29);
    }

    pub(super) fn tell_story(&mut self, what: std::fmt::Arguments<'_>) {
        if self.options.tells {
            self.lines.push(format!("{:>8} {what}", self.now_us));
        }
    }

    pub(super) fn happened(&mut self, what: &'static str) {
        if !self.rare.contains(&what) {
            self.rare.push(what);
        }
    }

    pub(super) fn disks(&self) -> Vec<&Disk> {
        self.nodes.iter().map(|n| &n.disk).collect()
    }
}
