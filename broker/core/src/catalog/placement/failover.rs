//! Leaders that are silent, or cannot begin, are replaced.

use super::View;
use crate::catalog::{Appointment, Command, NodeCommand, NodeState, Placed, ShardCommand};
use crate::replica::{LogId, Member, Report, commit_quorum};
use flowstone_wire::{ConfigVersion, ShardId};

/// Who should lead: the longest log; of several the one with fewer shards to lead or to leave.
type Rank = (LogId, bool, bool);

impl View<'_> {
    /// Nodes that were heard for the first time belong to the cluster now.
    pub(super) fn joined(&self) -> Vec<Command> {
        let joining = |n: &&crate::catalog::Node| n.state == NodeState::Joining;
        let heard = self.catalog.nodes().filter(joining);
        let heard = heard.filter(|n| self.is_heard(n.id));
        let active = heard.map(|n| NodeCommand::SetState {
            node: n.id,
            state: NodeState::Active,
        });
        active.map(Command::Node).collect()
    }

    /// A shard that never had a leader gets the longest log that anybody has, alone: there is nobody else
    /// who could have something that is committed, and others come as learners.
    pub(super) fn first_appointment(&self, shard: ShardId) -> Option<ShardCommand> {
        let nodes = self.catalog.nodes().filter(|n| n.takes_shards());
        let alive = nodes.filter_map(|n| self.reported_life(shard, n.id));
        let all = alive.filter_map(|m| Some((self.report(shard, m)?, m)));
        let all: Vec<(&Report, Member)> = all.collect();
        let above = all
            .iter()
            .map(|(r, _)| r.epoch.max(r.durable.epoch))
            .max()?;
        let (_, leader) = all.into_iter().max_by_key(|(r, m)| (r.durable, m.node))?;
        Some(ShardCommand::Appoint(Appointment {
            shard,
            basis: ConfigVersion(0),
            above,
            leader,
            members: vec![leader],
            learners: Vec::new(),
            now_ms: self.now.unix_ms,
        }))
    }

    /// Replaces a leader that is silent, or one that cannot begin; leaves a leader alone, or with fewer, that
    /// can commit nothing because so many others are silent.
    pub(super) fn fail_over(&self, shard: ShardId, placed: &Placed) -> Option<ShardCommand> {
        let since_us = self.unchanged_us(shard);
        let members = &placed.config.members;
        let heard = members.iter().filter(|m| self.report(shard, **m).is_some());
        let heard: Vec<Member> = heard.copied().collect();
        let leads_alone = placed.is_active() && heard.contains(&placed.config.leader);
        if leads_alone
            && heard.len() < commit_quorum(members.len())
            && since_us > self.policy().silent_us
        {
            return Some(self.appoint(shard, placed, placed.config.leader, heard));
        }
        let is_silent = self.report(shard, placed.config.leader).is_none();
        let is_dead = is_silent && since_us > self.policy().silent_us;
        let is_stuck = !placed.is_active() && since_us > self.policy().stuck_us;
        (is_dead || is_stuck)
            .then(|| self.replace_leader(shard, placed))
            .flatten()
    }

    /// Another epoch, led by the longest log that can have everything; nothing if nobody is heard who
    /// may lead. Members who are not heard stay, as long as the others can commit without them.
    pub(super) fn replace_leader(&self, shard: ShardId, placed: &Placed) -> Option<ShardCommand> {
        let leader = self.candidate(shard, placed)?;
        let old = placed.config.members.iter().copied();
        let mut members: Vec<Member> = old.filter(|m| self.is_current(shard, *m)).collect();
        if !members.contains(&leader) {
            members.push(leader);
        }
        let is_alive = |m: &Member| self.report(shard, *m).is_some();
        let alive = members.iter().filter(|m| is_alive(m)).count();
        if alive < commit_quorum(members.len()) {
            members.retain(is_alive);
        }
        Some(self.appoint(shard, placed, leader, members))
    }

    /// The longest log of those who can have everything that is committed, as far as it was told.
    fn candidate(&self, shard: ShardId, placed: &Placed) -> Option<Member> {
        let whole: Vec<Member> = match &placed.active {
            Some(active) => active.members.clone(),
            // Nothing was ever committed: anyone may begin.
            None => {
                let nodes = self.catalog.nodes().filter(|n| n.takes_shards());
                nodes
                    .filter_map(|n| self.reported_life(shard, n.id))
                    .collect()
            }
        };
        let current = whole.into_iter().filter(|m| self.is_current(shard, *m));
        let alive = current.filter_map(|m| Some((self.rank(placed, m, self.report(shard, m)?), m)));
        alive.max_by_key(|(rank, _)| *rank).map(|(_, m)| m)
    }

    fn rank(&self, placed: &Placed, who: Member, report: &Report) -> Rank {
        let node = self.catalog.node(who.node);
        let stays = node.is_some_and(|n| n.takes_shards());
        let is_preferred = placed.homes.first() == Some(&who.node);
        (report.durable, stays, is_preferred)
    }
}
