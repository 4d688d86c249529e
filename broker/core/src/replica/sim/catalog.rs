//! The catalog of a run: the real one and the real controller, in one place and far away. What they send
//! and hear is late, so old configurations linger and nodes are thought dead that are not; and a careless
//! operator is at work beside them. The runs of whole shards (`shard::tests::copies`) have the same one.
#![cfg(test)]

use super::rng::Rng;
use crate::catalog::placement::{Answer, Controller, Now, Policy};
use crate::catalog::{
    self, Addresses, Appointment, Cluster, ClusterCommand, Command, Event, Node, NodeState, Role,
    ShardCommand,
};
use crate::replica::{Ask, Asked, Config, Input, Member, Report};
use flowstone_wire::{ConfigVersion, Epoch, Incarnation, NodeId, ShardId};
use std::collections::BTreeMap;

const SHARD: ShardId = ShardId(0);

/// What is short in a run of replicas.
pub(super) const POLICY: Policy = Policy {
    silent_us: 120_000,
    stuck_us: 250_000,
    replace_us: 600_000,
    settle_us: 150_000,
    near_bytes: 4_000,
    copies_at_once: 2,
};

pub(crate) struct Catalog {
    agreed: catalog::Catalog,
    controller: Controller,
    nodes: usize,
    pub(crate) config: Config,
    /// The newest configuration that was activated.
    pub(super) active: Option<Config>,
    /// Each epoch as it began, and when it was activated.
    pub(crate) epochs: BTreeMap<Epoch, Config>,
    pub(super) activated_us: BTreeMap<Epoch, u64>,
    /// Makes no mistakes and no changes any more, but those that are needed.
    pub(super) is_calm: bool,
}

/// What is sent, and to whom; `None` is everyone.
pub(crate) type Sent = Vec<(Option<NodeId>, Input)>;

fn now(us: u64) -> Now {
    Now {
        us,
        unix_ms: us / 1000,
    }
}

/// A catalog of so many nodes, all of which take shards.
fn of_nodes(nodes: usize, copies: usize) -> catalog::Catalog {
    let cluster = Cluster {
        id: "0".into(),
        copies: copies as u8,
        next_node: nodes as u32,
    };
    let node = |n: usize| Node {
        id: NodeId(n as u32),
        name: format!("n{n}"),
        addresses: Addresses::default(),
        role: Role::Data,
        state: NodeState::Active,
        fingerprints: Vec::new(),
    };
    let node_row = |n| {
        let value = postcard::to_stdvec(&node(n)).unwrap();
        (format!("node/{n}"), value)
    };
    let mut rows: Vec<(String, Vec<u8>)> = (0..nodes).map(node_row).collect();
    rows.push(("cluster".into(), postcard::to_stdvec(&cluster).unwrap()));
    let rows = rows.iter().map(|(k, v)| (&k[..], &v[..]));
    catalog::Catalog::from_rows(1, rows).unwrap()
}

impl Catalog {
    /// One of nodes with these lives: the first ones are members, and so many are wanted.
    pub(crate) fn new(
        policy: Policy,
        members: usize,
        wanted: usize,
        lives: &[Incarnation],
    ) -> Self {
        let nodes = lives.len();
        let member = |n: usize| Member {
            node: NodeId(n as u32),
            incarnation: lives[n],
        };
        let mut agreed = of_nodes(nodes, wanted);
        let first = Appointment {
            shard: SHARD,
            basis: ConfigVersion(0),
            above: Epoch(0),
            leader: member(0),
            members: (0..members).map(member).collect(),
            learners: Vec::new(),
            now_ms: 0,
        };
        let first = Command::Shard(ShardCommand::Appoint(first));
        agreed.apply(first).unwrap();
        let config = agreed.placed(SHARD).unwrap().config.clone();
        Self {
            agreed,
            controller: Controller::new(policy, 0),
            nodes,
            epochs: BTreeMap::from([(config.epoch, config.clone())]),
            config,
            active: None,
            activated_us: BTreeMap::new(),
            is_calm: false,
        }
    }

    /// Agrees on a command, if it is not refused.
    fn carry_out(&mut self, command: Command, now_us: u64) -> Sent {
        let Ok((event, _)) = self.agreed.apply(command) else {
            return Vec::new();
        };
        match event {
            Event::Appointed(config) => {
                self.config = config.clone();
                self.epochs.entry(config.epoch).or_insert(config.clone());
                vec![(None, Input::Appointed(config))]
            }
            Event::Activated(epoch) => {
                self.active = Some(self.config.clone());
                self.activated_us.insert(epoch, now_us);
                vec![(Some(self.config.leader.node), Input::Activated(epoch))]
            }
            _ => Vec::new(),
        }
    }

    /// The same, sometimes with the mistakes of a controller that knows little: another leader than the
    /// best one, a set with the dead in it.
    fn decide(&mut self, mut command: Command, now_us: u64, rng: &mut Rng) -> Sent {
        if let Command::Shard(ShardCommand::Appoint(new)) = &mut command
            && !self.is_calm
            && new.leader != self.config.leader
        {
            if rng.percent(25) {
                let mut others = new.members.clone();
                others.extend(self.active.iter().flat_map(|a| &a.members));
                let other = rng.pick(&others);
                new.members.retain(|m| m.node != other.node);
                new.members.push(other);
                new.leader = other;
            }
            if rng.percent(70) {
                let listed = |m: &Member| new.members.iter().all(|n| n.node != m.node);
                let rest = self.config.members.iter().copied();
                let rest: Vec<Member> = rest.filter(listed).collect();
                new.members.extend(rest);
            }
            new.learners
                .retain(|l| new.members.iter().all(|m| m.node != l.node));
        }
        self.carry_out(command, now_us)
    }

    pub(crate) fn take_report(&mut self, report: Report, now_us: u64) -> Sent {
        let node = report.me.node;
        let is_behind = self
            .controller
            .reported(&self.agreed, SHARD, report, now(now_us));
        if !is_behind {
            return Vec::new();
        }
        vec![(Some(node), Input::Appointed(self.config.clone()))]
    }

    pub(crate) fn take_ask(&mut self, asked: Asked, now_us: u64, rng: &mut Rng) -> Sent {
        let from = Some(asked.from.node);
        let answer = self
            .controller
            .asked(&self.agreed, SHARD, &asked, now(now_us));
        match answer {
            Answer::Nothing => Vec::new(),
            Answer::Config(config) => vec![(from, Input::Appointed(config))],
            Answer::Activated(epoch) => vec![(from, Input::Activated(epoch))],
            Answer::Do(command) if asked.ask == Ask::Activate => self.carry_out(command, now_us),
            Answer::Do(command) => self.decide(command, now_us, rng),
        }
    }

    /// Looks at what nodes have told.
    pub(crate) fn look(&mut self, now_us: u64, rng: &mut Rng) -> Sent {
        let commands = self.controller.look(&self.agreed, now(now_us));
        let sent = commands.into_iter();
        sent.flat_map(|command| self.decide(command, now_us, rng))
            .collect()
    }

    /// No more mistakes and changes, and every node is to have a copy.
    pub(crate) fn calm_with_all(&mut self, now_us: u64) -> Sent {
        self.is_calm = true;
        let command = ClusterCommand::SetCopies {
            group: None,
            copies: Some(self.nodes as u8),
        };
        self.carry_out(Command::Cluster(command), now_us)
    }

    /// An operator moves things: another leader, one member less, other places, other numbers.
    pub(crate) fn meddle(&mut self, now_us: u64, rng: &mut Rng) -> Sent {
        let config = self.config.clone();
        let others = config.members.iter().copied();
        let others: Vec<Member> = others.filter(|m| *m != config.leader).collect();
        let appoint = |leader: Member, members: Vec<Member>| {
            Command::Shard(ShardCommand::Appoint(Appointment {
                shard: SHARD,
                basis: config.version,
                above: Epoch(0),
                leader,
                members,
                learners: config.learners.clone(),
                now_ms: 0,
            }))
        };
        let command = match rng.below(5) {
            0 if !others.is_empty() => appoint(rng.pick(&others), config.members.clone()),
            1 if !others.is_empty() => {
                let gone = rng.pick(&others);
                let rest = config.members.iter().copied().filter(|m| *m != gone);
                appoint(config.leader, rest.collect())
            }
            2 => Command::Cluster(ClusterCommand::SetCopies {
                group: None,
                copies: Some(rng.between(1, self.nodes as u64) as u8),
            }),
            3 => {
                let was = self.agreed.placed(SHARD).unwrap().homes.clone();
                let mut homes = was.clone();
                let node = NodeId(rng.index(self.nodes) as u32);
                homes.retain(|n| *n != node);
                homes.insert(0, node);
                let shard = SHARD;
                Command::Shard(ShardCommand::SetHomes { shard, was, homes })
            }
            _ => appoint(config.leader, config.members.clone()),
        };
        self.carry_out(command, now_us)
    }
}
