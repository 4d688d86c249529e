//! A catalog that is always right and answers late: the rules of `docs/decisions/0002-replication-core.md`.

use crate::input::ReplicaInput;
use crate::replica::{Ask, Asked, Config, LogId, Member, Phase, Report};
use flowstone_wire::{ConfigVersion, Epoch, NodeId};
use std::collections::BTreeMap;

/// A leader that was not heard for so long is replaced.
const SILENT_US: u64 = 1_500_000;

pub(super) struct Catalog {
    pub(super) config: Option<Config>,
    active: Option<Config>,
    nodes: usize,
    reports: BTreeMap<NodeId, (u64, Report)>,
    changed_us: u64,
    pub(super) epochs: u64,
}

pub(super) type Sent = Vec<(NodeId, ReplicaInput)>;

impl Catalog {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            config: None,
            active: None,
            nodes,
            reports: BTreeMap::new(),
            changed_us: 0,
            epochs: 0,
        }
    }

    fn to_all(&self) -> Sent {
        let Some(config) = &self.config else {
            return Vec::new();
        };
        (0..self.nodes)
            .map(|n| (NodeId(n as u32), ReplicaInput::Appointed(config.clone())))
            .collect()
    }

    fn appoint(&mut self, now_us: u64, leader: Member, mut members: Vec<Member>) -> Sent {
        let old = self.config.take();
        if !members.contains(&leader) {
            members.push(leader);
        }
        let listed = old.iter().flat_map(|c| c.members.iter().chain(&c.learners));
        let learners = listed
            .copied()
            .filter(|m| !members.iter().any(|o| o.node == m.node));
        let highest = self
            .reports
            .values()
            .map(|(_, r)| r.durable.epoch.max(r.epoch))
            .max();
        let before = old.as_ref().map_or(Epoch(0), |c| c.epoch);
        self.config = Some(Config {
            version: ConfigVersion(old.as_ref().map_or(1, |c| c.version.0 + 1)),
            epoch: Epoch(before.max(highest.unwrap_or_default()).0 + 1),
            leader,
            learners: learners.collect(),
            members,
            previous: self
                .active
                .as_ref()
                .map_or(Vec::new(), |a| a.members.clone()),
        });
        self.changed_us = now_us;
        self.epochs += 1;
        self.to_all()
    }

    /// The longest log of those of the active set that were heard lately.
    fn candidate(&self, now_us: u64) -> Option<Member> {
        let active = self.active.as_ref().or(self.config.as_ref())?;
        let heard = active.members.iter().filter_map(|m| {
            let (at_us, report) = self.reports.get(&m.node)?;
            let fit =
                report.me == *m && now_us < at_us + SILENT_US && report.phase != Phase::Stopped;
            fit.then_some((report.durable, *m))
        });
        heard
            .max_by_key(|(end, _): &(LogId, Member)| *end)
            .map(|(_, m)| m)
    }

    fn replace_leader(&mut self, now_us: u64) -> Sent {
        match self.candidate(now_us) {
            Some(leader) => {
                let members = self
                    .config
                    .as_ref()
                    .map_or(Vec::new(), |c| c.members.clone());
                self.appoint(now_us, leader, members)
            }
            None => Vec::new(),
        }
    }

    pub(super) fn report(&mut self, now_us: u64, report: Report) -> Sent {
        let (node, version) = (report.me.node, report.version);
        self.reports.insert(node, (now_us, report));
        let Some(config) = &self.config else {
            if self.reports.len() < self.nodes {
                return Vec::new();
            }
            let all: Vec<Member> = self.reports.values().map(|(_, r)| r.me).collect();
            return self.appoint(now_us, all[0], all.clone());
        };
        if version == config.version {
            return Vec::new();
        }
        vec![(node, ReplicaInput::Appointed(config.clone()))]
    }

    pub(super) fn ask(&mut self, now_us: u64, asked: Asked) -> Sent {
        let Some(config) = self.config.clone() else {
            return Vec::new();
        };
        let is_active = self.active.as_ref().is_some_and(|a| a.epoch == asked.epoch);
        match asked.ask {
            Ask::Activate if is_active => {
                vec![(asked.from.node, ReplicaInput::Activated(asked.epoch))]
            }
            _ if asked.version < config.version || asked.ask == Ask::Config => {
                vec![(asked.from.node, ReplicaInput::Appointed(config))]
            }
            _ if asked.epoch != config.epoch => Vec::new(),
            Ask::Activate if asked.from == config.leader => {
                self.active = Some(config);
                vec![(asked.from.node, ReplicaInput::Activated(asked.epoch))]
            }
            Ask::Reappoint => self.replace_leader(now_us),
            Ask::Lead { member, .. } => self.appoint(now_us, member, config.members),
            Ask::Drop(member) if config.members.len() > 2 && member != config.leader => {
                let rest = config.members.into_iter().filter(|m| *m != member);
                self.appoint(now_us, config.leader, rest.collect())
            }
            Ask::Admit(learner) if config.learners.contains(&learner) => {
                let members = config.members.into_iter().chain([learner]);
                self.appoint(now_us, config.leader, members.collect())
            }
            _ => Vec::new(),
        }
    }

    /// An operator, or a mistake, has another member lead.
    pub(super) fn move_leader(&mut self, now_us: u64, choice: usize) -> Sent {
        let Some(config) = self.config.clone() else {
            return Vec::new();
        };
        let leader = config.members[choice % config.members.len()];
        self.appoint(now_us, leader, config.members)
    }

    /// Replaces a leader that is silent.
    pub(super) fn look(&mut self, now_us: u64) -> Sent {
        let Some(config) = &self.config else {
            return Vec::new();
        };
        let heard_us = self
            .reports
            .get(&config.leader.node)
            .map_or(0, |(at, _)| *at);
        if now_us < heard_us.max(self.changed_us) + SILENT_US {
            return Vec::new();
        }
        self.replace_leader(now_us)
    }
}
