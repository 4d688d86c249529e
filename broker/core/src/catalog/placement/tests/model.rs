//! Nodes whose replicas do at once what replication does in the end, around the real catalog and the real
//! controller.

use super::super::*;
use crate::catalog::{Addresses, ClusterCommand, Event, Hash, NodeCommand, NodeSpec, Role, Token};
use crate::replica::{Ask, Asked, FollowerReport, LogId, commit_quorum, seal_quorum};
use flowstone_wire::{ConfigVersion, Lsn};
use std::collections::BTreeSet;

const STEP_US: u64 = 50_000;
const DROP_US: u64 = 5_000_000;

#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) incarnation: Incarnation,
    /// Epoch and LSN of the last entry.
    pub(super) durable: (u32, u64),
}

pub(super) struct Model {
    pub(super) catalog: Catalog,
    pub(super) controller: Controller,
    pub(super) now_us: u64,
    dead: BTreeMap<NodeId, u64>,
    pub(super) replicas: BTreeMap<(ShardId, NodeId), Life>,
    /// The last entry that was committed, of each shard.
    committed: BTreeMap<ShardId, (u32, u64)>,
    /// Learners take their time.
    pub(super) slow_copies: bool,
    turns: u64,
}

impl Model {
    pub(super) fn new(nodes: usize, witnesses: usize, shards: u16) -> Self {
        let mut m = Self {
            catalog: Catalog::new(shards),
            controller: Controller::new(Policy::default(), 0),
            now_us: 0,
            dead: BTreeMap::new(),
            replicas: BTreeMap::new(),
            committed: BTreeMap::new(),
            slow_copies: false,
            turns: 0,
        };
        let id = "c1".into();
        let node = spec("n1".into(), Role::Data);
        let found = ClusterCommand::Found { id, node };
        m.catalog.apply(Command::Cluster(found)).unwrap();
        m.open_shards(NodeId(1));
        for role in std::iter::repeat_n(Role::Data, nodes - 1) {
            m.add_node(role);
        }
        for role in std::iter::repeat_n(Role::Witness, witnesses) {
            m.add_node(role);
        }
        m
    }

    /// With everything where it belongs.
    pub(super) fn settled(nodes: usize, witnesses: usize, shards: u16, copies: u8) -> Self {
        let mut m = Self::new(nodes, witnesses, shards);
        let command = ClusterCommand::SetCopies {
            group: None,
            copies: Some(copies),
        };
        m.catalog.apply(Command::Cluster(command)).unwrap();
        m.run_ms(300_000);
        m.assert_settled();
        m
    }

    pub(super) fn now(&self) -> Now {
        Now {
            us: self.now_us,
            unix_ms: self.now_us / 1000,
        }
    }

    pub(super) fn placed(&self, shard: u16) -> &Placed {
        self.catalog.placed(ShardId(shard)).expect("it is led")
    }

    pub(super) fn new_controller(&mut self) {
        self.controller = Controller::new(Policy::default(), self.now_us);
    }

    pub(super) fn add_node(&mut self, role: Role) -> NodeId {
        let number = self.catalog.nodes().count() + 1;
        let hash: Hash = [number as u8; 32];
        let (now_ms, expires_ms) = (self.now_us / 1000, u64::MAX);
        let token = Token { role, expires_ms };
        let add = ClusterCommand::AddToken {
            hash,
            token,
            now_ms,
        };
        self.catalog.apply(Command::Cluster(add)).unwrap();
        let join = NodeCommand::Join {
            token: hash,
            now_ms,
            node: spec(format!("n{number}"), role),
        };
        let Ok((Event::NodeJoined(id), _)) = self.catalog.apply(Command::Node(join)) else {
            panic!("it joins");
        };
        if role == Role::Data {
            self.open_shards(id);
        }
        id
    }

    fn open_shards(&mut self, node: NodeId) {
        for shard in (0..self.catalog.shards()).map(ShardId) {
            let life = Life {
                incarnation: Incarnation(1),
                durable: (0, 0),
            };
            self.replicas.insert((shard, node), life);
        }
    }

    pub(super) fn kill(&mut self, node: NodeId) {
        self.dead.entry(node).or_insert(self.now_us);
    }

    /// A node comes back, with its data or without it.
    pub(super) fn revive(&mut self, node: NodeId, is_empty: bool) {
        self.dead.remove(&node);
        let lives = self.replicas.iter_mut().filter(|((_, n), _)| *n == node);
        for (_, life) in lives.filter(|_| is_empty) {
            life.incarnation.0 += 1;
            life.durable = (0, 0);
        }
    }

    /// Who is not listed has nothing of a shard.
    pub(super) fn forget_strays(&mut self) {
        for ((shard, node), life) in &mut self.replicas {
            let placed = self.catalog.placed(*shard);
            if placed.is_some_and(|p| p.config.listed(*node).is_none()) {
                life.durable = (0, 0);
            }
        }
    }

    /// Whether what is committed can be found without what a node has.
    pub(super) fn can_lose(&self, node: NodeId) -> bool {
        self.catalog.all_placed().all(|(shard, p)| {
            let sets = [
                Some(&p.config.members),
                p.active.as_ref().map(|a| &a.members),
            ];
            sets.into_iter().flatten().all(|set| {
                let whole = set
                    .iter()
                    .filter(|m| m.node != node && self.is_whole(shard, **m));
                whole.count() >= seal_quorum(set.len())
            })
        })
    }

    fn is_whole(&self, shard: ShardId, who: Member) -> bool {
        let life = self.replicas.get(&(shard, who.node));
        life.is_some_and(|l| l.incarnation == who.incarnation)
    }

    fn is_up(&self, shard: ShardId, who: Member) -> bool {
        !self.dead.contains_key(&who.node) && self.is_whole(shard, who)
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        let until_us = self.now_us + ms * 1000;
        while self.now_us < until_us {
            self.now_us += STEP_US;
            self.turns += 1;
            for shard in (0..self.catalog.shards()).map(ShardId) {
                self.turn(shard);
            }
            let nodes: Vec<NodeId> = self.catalog.nodes().map(|n| n.id).collect();
            for node in nodes {
                if !self.dead.contains_key(&node) {
                    self.controller.heard(&self.catalog, node, self.now());
                }
            }
            let commands = self.controller.look(&self.catalog, self.now());
            commands.into_iter().for_each(|c| self.agree(c));
        }
    }

    /// What the controller proposes is never refused, and never lets somebody lead who may lack something.
    fn agree(&mut self, command: Command) {
        if let Command::Shard(ShardCommand::Appoint(new)) = &command
            && let Some(placed) = self.catalog.placed(new.shard)
        {
            assert!(placed.may_lead(new.leader), "{new:?} after {placed:?}");
            let present = |m: &&Member| self.is_whole(new.shard, **m);
            assert!(new.members.iter().any(|m| present(&m)));
        }
        let told = format!("{command:?}");
        let done = self.catalog.apply(command);
        assert!(done.is_ok(), "{told}: {done:?}");
    }

    /// What the replicas of a shard do.
    fn turn(&mut self, shard: ShardId) {
        let placed = self.catalog.placed(shard).cloned();
        if let Some(placed) = &placed {
            self.learn(shard, placed);
            if self.is_up(shard, placed.config.leader) {
                self.lead(shard, placed);
            }
        }
        let all: Vec<NodeId> = self.catalog.nodes().map(|n| n.id).collect();
        for node in all {
            if !self.dead.contains_key(&node)
                && let Some(report) = self.report(shard, node)
            {
                let now = self.now();
                self.controller.reported(&self.catalog, shard, report, now);
            }
        }
    }

    fn ask(&mut self, shard: ShardId, placed: &Placed, from: Member, ask: Ask) {
        let asked = Asked {
            from,
            epoch: placed.config.epoch,
            version: placed.config.version,
            ask,
        };
        let now = self.now();
        if let Answer::Do(command) = self.controller.asked(&self.catalog, shard, &asked, now) {
            self.agree(command);
        }
    }

    fn learn(&mut self, shard: ShardId, placed: &Placed) {
        let listed = placed.config.members.iter().chain(&placed.config.learners);
        let over: Vec<NodeId> = listed
            .filter(|m| !self.is_whole(shard, **m) && !self.dead.contains_key(&m.node))
            .map(|m| m.node)
            .collect();
        for node in over {
            let incarnation = self.replicas[&(shard, node)].incarnation;
            let me = Member { node, incarnation };
            let placed = self.catalog.placed(shard).unwrap().clone();
            self.ask(shard, &placed, me, Ask::Learn);
        }
    }

    fn lead(&mut self, shard: ShardId, placed: &Placed) {
        let config = &placed.config;
        let up = |all: &[Member]| -> Vec<Member> {
            let all = all.iter().copied();
            all.filter(|m| self.is_up(shard, *m)).collect()
        };
        let (sealed, members) = (up(&config.previous), up(&config.members));
        if !placed.is_active() {
            if sealed.len() < seal_quorum(config.previous.len()) && !config.previous.is_empty() {
                return;
            }
            let end = |m: &Member| self.replicas[&(shard, m.node)].durable;
            let own = end(&config.leader);
            if let Some(longer) = sealed.iter().copied().find(|m| end(m) > own) {
                let (epoch, lsn) = end(&longer);
                let end = LogId {
                    epoch: Epoch(epoch),
                    lsn: Lsn(lsn),
                };
                let member = longer;
                return self.ask(shard, placed, config.leader, Ask::Lead { member, end });
            }
            let committed = self.committed.get(&shard).copied().unwrap_or_default();
            assert!(
                own >= committed,
                "{} begins without {committed:?}",
                config.leader
            );
        }
        self.append(shard, placed, &members);
        let away = |m: &&Member| {
            let since_us = self.dead.get(&m.node);
            since_us.is_some_and(|us| self.now_us > us + DROP_US)
        };
        if let Some(member) = config.members.iter().find(away) {
            return self.ask(shard, placed, config.leader, Ask::Drop(*member));
        }
        if members.len() < commit_quorum(config.members.len()) {
            return;
        }
        if !placed.is_active() {
            return self.ask(shard, placed, config.leader, Ask::Activate);
        }
        let end = self.replicas[&(shard, config.leader.node)].durable;
        self.committed.insert(shard, end);
        self.change_set(shard, placed);
    }

    fn append(&mut self, shard: ShardId, placed: &Placed, members: &[Member]) {
        let config = &placed.config;
        let lsn = self.replicas[&(shard, config.leader.node)].durable.1 + 1;
        let copied = config.learners.iter().filter(|m| self.is_up(shard, **m));
        let copied = copied.filter(|_| !self.slow_copies || self.turns.is_multiple_of(200));
        let all: BTreeSet<Member> = members.iter().chain(copied).copied().collect();
        for who in all {
            let life = self.replicas.get_mut(&(shard, who.node)).unwrap();
            life.durable = (config.epoch.0, lsn);
        }
    }

    fn change_set(&mut self, shard: ShardId, placed: &Placed) {
        let config = &placed.config;
        let end = self.replicas[&(shard, config.leader.node)].durable;
        let near =
            |m: &&Member| self.is_up(shard, **m) && self.replicas[&(shard, m.node)].durable == end;
        if let Some(learner) = config.learners.iter().find(near) {
            self.ask(shard, placed, config.leader, Ask::Admit(*learner));
        }
    }

    fn report(&self, shard: ShardId, node: NodeId) -> Option<Report> {
        let life = self.replicas.get(&(shard, node))?;
        let incarnation = life.incarnation;
        let me = Member { node, incarnation };
        let config = self.catalog.placed(shard).map(|p| p.config.clone());
        let leads = config.as_ref().is_some_and(|c| c.leader == me);
        let follower = |m: &Member| FollowerReport {
            member: *m,
            lag_bytes: 0,
            heard_us_ago: 0,
        };
        let followers = config.as_ref().filter(|_| leads);
        let followers = followers.map_or(Vec::new(), |c| c.members.iter().map(follower).collect());
        Some(Report {
            me,
            version: config.as_ref().map_or(ConfigVersion(0), |c| c.version),
            phase: if leads {
                Phase::Leading
            } else {
                Phase::Following
            },
            epoch: config.map_or(Epoch(life.durable.0), |c| c.epoch),
            durable: LogId {
                epoch: Epoch(life.durable.0),
                lsn: Lsn(life.durable.1),
            },
            committed: Lsn(0),
            copies: 0,
            followers,
        })
    }

    /// Every shard is where it is wanted, led where it is preferred, and nodes have the same to do.
    pub(super) fn assert_settled(&self) {
        let takers = self.catalog.nodes().filter(|n| n.takes_shards());
        let takers: Vec<NodeId> = takers.map(|n| n.id).collect();
        let all_drain = takers.is_empty();
        let (mut shards, mut leads) = (BTreeMap::new(), BTreeMap::new());
        for taker in &takers {
            shards.insert(*taker, 0);
            leads.insert(*taker, 0);
        }
        for (shard, placed) in self.catalog.all_placed() {
            let config = &placed.config;
            let members: BTreeSet<NodeId> = config.members.iter().map(|m| m.node).collect();
            let homes: BTreeSet<NodeId> = placed.homes.iter().copied().collect();
            assert_eq!(members, homes, "shard {shard}: {placed:?}");
            assert_eq!(config.learners, [], "shard {shard}: {placed:?}");
            assert!(placed.is_active(), "shard {shard}: {placed:?}");
            assert_eq!(
                config.leader.node, placed.homes[0],
                "shard {shard}: {placed:?}"
            );
            if all_drain {
                continue;
            }
            let copies = self.catalog.copies_of(shard).min(takers.len());
            assert_eq!(homes.len(), copies, "shard {shard}: {placed:?}");
            homes.iter().for_each(|n| *shards.get_mut(n).unwrap() += 1);
            *leads.get_mut(&placed.homes[0]).unwrap() += 1;
        }
        let (least, most) = (shards.values().min(), shards.values().max());
        let spread = most.unwrap_or(&0) - least.unwrap_or(&0);
        assert!(spread <= 1, "{shards:?}");
        // Nodes that share no shard cannot take leads from one another.
        for (shard, placed) in self.catalog.all_placed().filter(|_| !all_drain) {
            let count = |n: &NodeId| leads[n];
            let least = placed.homes.iter().map(count).min().unwrap();
            assert!(
                count(&placed.homes[0]) <= least + 1,
                "shard {shard}: {leads:?}"
            );
        }
    }
}

fn spec(name: String, role: Role) -> NodeSpec {
    NodeSpec {
        name,
        addresses: Addresses::default(),
        role,
        fingerprint: None,
    }
}
