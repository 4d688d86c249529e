//! The catalog as an oracle: one place, always right, and far away. What it sends and hears is late, so
//! old configurations linger, and it thinks nodes dead that are not.
#![cfg(test)]

use super::rng::Rng;
use crate::replica::{Ask, Asked, Config, Input, LogId, Member, Phase, Report};
use flowstone_wire::{ConfigVersion, Epoch, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A node that was not heard for so long is thought dead.
const SILENT_US: u64 = 120_000;
/// A leader that is not active after so long is replaced.
const STUCK_US: u64 = 250_000;

pub(super) struct Catalog {
    pub(super) config: Config,
    /// The newest configuration that was activated.
    pub(super) active: Option<Config>,
    /// Each epoch as it began, and when it was activated.
    pub(super) epochs: BTreeMap<Epoch, Config>,
    pub(super) activated_us: BTreeMap<Epoch, u64>,
    /// The life of each node, as it has told.
    lives: Vec<Incarnation>,
    reports: Vec<Option<(u64, Report)>>,
    /// Members wanted.
    wanted: usize,
    changed_us: u64,
    /// Makes no mistakes and no changes any more, but those that are needed.
    pub(super) is_calm: bool,
}

/// What is sent, and to whom; `None` is everyone.
pub(super) type Sent = Vec<(Option<NodeId>, Input)>;

impl Catalog {
    pub(super) fn new(
        nodes: usize,
        members: usize,
        wanted: usize,
        lives: Vec<Incarnation>,
    ) -> Self {
        let member = |n: usize| Member {
            node: NodeId(n as u32),
            incarnation: lives[n],
        };
        let config = Config {
            version: ConfigVersion(1),
            epoch: Epoch(1),
            leader: member(0),
            members: (0..members).map(member).collect(),
            learners: Vec::new(),
            previous: Vec::new(),
        };
        Self {
            epochs: BTreeMap::from([(Epoch(1), config.clone())]),
            config,
            active: None,
            activated_us: BTreeMap::new(),
            lives,
            reports: vec![None; nodes],
            wanted,
            changed_us: 0,
            is_calm: false,
        }
    }

    fn current(&self, node: NodeId) -> Member {
        Member {
            node,
            incarnation: self.lives[node.0 as usize],
        }
    }

    fn is_current(&self, member: Member) -> bool {
        self.current(member.node) == member
    }

    fn report(&self, member: Member, now_us: u64) -> Option<&Report> {
        let (at_us, report) = self.reports[member.node.0 as usize].as_ref()?;
        let is_fresh = now_us < at_us + SILENT_US && report.me == member;
        is_fresh.then_some(report)
    }

    fn broadcast(&self) -> Sent {
        vec![(None, Input::Appointed(self.config.clone()))]
    }

    /// Begins an epoch.
    fn appoint(&mut self, leader: Member, members: &[Member], now_us: u64) -> Sent {
        let current = members.iter().copied().filter(|m| self.is_current(*m));
        let members: BTreeSet<Member> = current.chain([leader]).collect();
        let is_listed = |m: &Member| members.contains(m);
        let learners = self.config.learners.iter().copied();
        let mut learners: Vec<Member> = learners
            .filter(|m| self.is_current(*m) && !is_listed(m))
            .collect();
        for old in &self.config.members {
            // A member that is over comes back as a learner.
            let life = self.current(old.node);
            if life != *old && !is_listed(&life) && !learners.contains(&life) {
                learners.push(life);
            }
        }
        self.config = Config {
            version: ConfigVersion(self.config.version.0 + 1),
            epoch: Epoch(self.config.epoch.0 + 1),
            leader,
            members: members.into_iter().collect(),
            learners,
            previous: self
                .active
                .as_ref()
                .map_or(Vec::new(), |a| a.members.clone()),
        };
        self.changed_us = now_us;
        self.epochs.insert(self.config.epoch, self.config.clone());
        self.broadcast()
    }

    fn set_learners(&mut self, learners: Vec<Member>) -> Sent {
        self.config.version.0 += 1;
        self.config.learners = learners;
        self.broadcast()
    }

    /// The best leader to be had: of those whose logs can have everything, the longest.
    fn candidate(&self, now_us: u64, rng: &mut Rng) -> Option<Member> {
        // Where no epoch was ever active nothing was committed, and anyone may begin.
        let all = || {
            (0..self.lives.len())
                .map(|n| self.current(NodeId(n as u32)))
                .collect()
        };
        let whole = self
            .active
            .as_ref()
            .map_or_else(all, |a| a.members.clone())
            .into_iter();
        let alive = whole.filter(|m| self.is_current(*m));
        let alive = alive.filter_map(|m| Some((self.report(m, now_us)?, m)));
        let alive: Vec<(LogId, Member)> = alive
            .filter(|(r, _)| r.phase != Phase::Stopped)
            .map(|(r, m)| (r.durable, m))
            .collect();
        if alive.is_empty() {
            return None;
        }
        if !self.is_calm && rng.percent(25) {
            return Some(rng.pick(&alive).1);
        }
        alive.iter().max_by_key(|(end, _)| *end).map(|(_, m)| *m)
    }

    fn replace_leader(&mut self, now_us: u64, rng: &mut Rng) -> Sent {
        let Some(leader) = self.candidate(now_us, rng) else {
            return Vec::new();
        };
        let mut members = self.config.members.clone();
        let dead = |c: &Self, m: &Member| c.report(*m, now_us).is_none();
        if rng.percent(30) || self.is_calm {
            members.retain(|m| !dead(self, m));
        }
        self.appoint(leader, &members, now_us)
    }

    pub(super) fn take_report(&mut self, report: Report, now_us: u64) -> Sent {
        let (node, version) = (report.me.node, report.version);
        self.reports[node.0 as usize] = Some((now_us, report));
        if version == self.config.version {
            return Vec::new();
        }
        vec![(Some(node), Input::Appointed(self.config.clone()))]
    }

    pub(super) fn take_ask(&mut self, asked: Asked, now_us: u64, rng: &mut Rng) -> Sent {
        let answer =
            |config: &Config| vec![(Some(asked.from.node), Input::Appointed(config.clone()))];
        match asked.ask {
            Ask::Learn => return self.learn(asked.from, now_us, rng),
            Ask::Activate if self.activated_us.contains_key(&asked.epoch) => {
                return vec![(Some(asked.from.node), Input::Activated(asked.epoch))];
            }
            _ if asked.version < self.config.version || asked.ask == Ask::Config => {
                return answer(&self.config);
            }
            _ if asked.epoch != self.config.epoch || !self.is_current(asked.from) => {
                return Vec::new();
            }
            _ => {}
        }
        let config = self.config.clone();
        match asked.ask {
            Ask::Activate if asked.from == config.leader => {
                self.active = Some(config);
                self.activated_us.insert(asked.epoch, now_us);
                self.changed_us = now_us;
                vec![(Some(asked.from.node), Input::Activated(asked.epoch))]
            }
            Ask::Reappoint => self.replace_leader(now_us, rng),
            Ask::Lead { member, .. }
                if !self.is_current(member) || self.report(member, now_us).is_none() =>
            {
                self.replace_leader(now_us, rng)
            }
            Ask::Lead { member, .. } => self.appoint(member, &config.members, now_us),
            Ask::Drop(member) if config.members.len() > 1 && member != config.leader => {
                let rest: Vec<Member> = config
                    .members
                    .into_iter()
                    .filter(|m| *m != member)
                    .collect();
                self.appoint(config.leader, &rest, now_us)
            }
            Ask::Admit(learner) if config.learners.contains(&learner) => {
                let mut members = config.members;
                members.push(learner);
                self.appoint(config.leader, &members, now_us)
            }
            _ => Vec::new(),
        }
    }

    /// A node has another life than the one that is listed.
    fn learn(&mut self, from: Member, now_us: u64, rng: &mut Rng) -> Sent {
        let life = &mut self.lives[from.node.0 as usize];
        *life = from.incarnation.max(*life);
        let learners = self.config.learners.iter().copied();
        let stale = self
            .config
            .listed(from.node)
            .filter(|m| !self.is_current(*m));
        let Some(stale) = stale else {
            return vec![(Some(from.node), Input::Appointed(self.config.clone()))];
        };
        if !self.config.has_member(stale) {
            let learners = learners.map(|m| self.current(m.node)).collect();
            return self.set_learners(learners);
        }
        let members = self.config.members.clone();
        if stale != self.config.leader {
            return self.appoint(self.config.leader, &members, now_us);
        }
        self.replace_leader(now_us, rng)
    }

    /// Looks at what nodes have told.
    pub(super) fn look(&mut self, now_us: u64, rng: &mut Rng) -> Sent {
        let leader = self.config.leader;
        let is_active = self
            .active
            .as_ref()
            .is_some_and(|a| a.epoch == self.config.epoch);
        let dead = self.report(leader, now_us).is_none() && now_us > self.changed_us + SILENT_US;
        let stuck = !is_active && now_us > self.changed_us + STUCK_US;
        if dead || stuck {
            return self.replace_leader(now_us, rng);
        }
        let listed = |c: &Self, n: usize| c.config.listed(NodeId(n as u32)).is_some();
        let count = self.config.members.len() + self.config.learners.len();
        if is_active && count < self.wanted {
            let alive = (0..self.lives.len()).map(|n| self.current(NodeId(n as u32)));
            let free = alive
                .filter(|m| !listed(self, m.node.0 as usize) && self.report(*m, now_us).is_some());
            if let Some(learner) =
                free.max_by_key(|m| m.node.0.wrapping_mul(self.config.version.0 as u32 | 1) % 7)
            {
                let mut learners = self.config.learners.clone();
                learners.push(learner);
                return self.set_learners(learners);
            }
        }
        Vec::new()
    }

    /// An operator moves things: another leader, one member less, other sizes.
    pub(super) fn meddle(&mut self, now_us: u64, rng: &mut Rng) -> Sent {
        let config = self.config.clone();
        let others: Vec<Member> = config
            .members
            .iter()
            .copied()
            .filter(|m| *m != config.leader)
            .collect();
        match rng.below(4) {
            0 if !others.is_empty() => {
                let leader = rng.pick(&others);
                if self.is_current(leader) {
                    return self.appoint(leader, &config.members, now_us);
                }
            }
            1 if !others.is_empty() => {
                let gone = rng.pick(&others);
                let rest: Vec<Member> = config.members.into_iter().filter(|m| *m != gone).collect();
                return self.appoint(config.leader, &rest, now_us);
            }
            2 => self.wanted = rng.between(1, self.lives.len() as u64) as usize,
            _ => return self.appoint(config.leader, &config.members, now_us),
        }
        Vec::new()
    }
}
