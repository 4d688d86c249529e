//! The sets follow the homes, one step at a time: a learner, a member, a leader, a member less.
//!
//! ```text
//! members A B, homes A C     learners +C  ->  members A B C (asked for by A)  ->  members A C
//! leader B, homes A ..       A is a member and near: leader A
//! ```
//! A member that is not wanted leaves only when all who are wanted are there, heard, and have caught up, so a
//! move never takes a copy away before there is another one.

use super::View;
use crate::catalog::{Placed, ShardCommand, UNKNOWN_LIFE};
use crate::replica::{FollowerReport, Limits, Member, Phase};
use flowstone_wire::{NodeId, ShardId};

impl View<'_> {
    /// The next steps: those that copy nothing for each shard; of those that copy as many as may be; and
    /// one leader that is moved for balance.
    pub(super) fn follow_homes(&self) -> Vec<ShardCommand> {
        let mut room = self.policy().copies_at_once;
        room = room.saturating_sub(self.copying());
        let (mut commands, mut moved) = (Vec::new(), false);
        for (shard, placed) in self.catalog.all_placed() {
            let is_settled =
                placed.is_active() && self.report(shard, placed.config.leader).is_some();
            if !is_settled {
                continue;
            }
            let learners = self.wanted_learners(shard, placed, &mut room);
            if learners != placed.config.learners {
                commands.push(ShardCommand::SetLearners {
                    shard,
                    basis: placed.config.version,
                    learners,
                });
            } else if let Some(command) = self.leave_others(shard, placed) {
                commands.push(command);
            } else if !moved && let Some(command) = self.prefer_leader(shard, placed) {
                moved = true;
                commands.push(command);
            }
        }
        commands
    }

    /// How many learners are being copied to: they had nothing, or lack much.
    fn copying(&self) -> usize {
        let all = self.catalog.all_placed();
        let copying = all.map(|(shard, placed)| {
            let learners = placed.config.learners.iter();
            let far = |m: &&Member| {
                let told = self.told_of(shard, placed, **m);
                let lacks_much = told.is_some_and(|f| f.lag_bytes > self.policy().near_bytes);
                lacks_much || !self.has_data(shard, m.node)
            };
            learners.filter(far).count()
        });
        copying.sum()
    }

    /// Whether a node has something of a shard: then it only has to catch up.
    fn has_data(&self, shard: ShardId, node: NodeId) -> bool {
        let life = self.reported_life(shard, node);
        let report = life.and_then(|m| self.report(shard, m));
        report.is_some_and(|r| r.durable.lsn.0 > 0)
    }

    fn wanted_learners(&self, shard: ShardId, placed: &Placed, room: &mut usize) -> Vec<Member> {
        let config = &placed.config;
        let is_home = |m: &&Member| placed.homes.contains(&m.node);
        let mut learners: Vec<Member> = config.learners.iter().filter(is_home).copied().collect();
        for node in &placed.homes {
            if config.listed(*node).is_some() || !self.is_heard(*node) {
                continue;
            }
            if !self.has_data(shard, *node) {
                if *room == 0 {
                    continue;
                }
                *room -= 1;
            }
            let life = self.controller.life(self.catalog, shard, *node);
            learners.push(Member {
                node: *node,
                incarnation: life.unwrap_or(UNKNOWN_LIFE),
            });
        }
        learners.sort_unstable();
        learners
    }

    /// Members that are not wanted leave, when all who are wanted are members.
    fn leave_others(&self, shard: ShardId, placed: &Placed) -> Option<ShardCommand> {
        let config = &placed.config;
        let is_home = |m: &Member| placed.homes.contains(&m.node);
        let homes: Vec<Member> = config.members.iter().copied().filter(is_home).collect();
        // One that is away counts for nothing: who leaves may have the only other copy.
        let there = |m: &&Member| self.is_caught_up(shard, placed, **m);
        let all_there = homes.iter().filter(there).count() == placed.homes.len();
        if !all_there || homes.len() == config.members.len() {
            return None;
        }
        let leader = if is_home(&config.leader) {
            config.leader
        } else {
            let near = |m: &&Member| self.is_near(shard, placed, **m);
            let first = placed.homes.iter();
            let in_order = first.filter_map(|n| homes.iter().find(|m| m.node == *n));
            *in_order.into_iter().find(near)?
        };
        Some(self.appoint(shard, placed, leader, homes))
    }

    /// The preferred leader leads, if it is as well off as the present one.
    fn prefer_leader(&self, shard: ShardId, placed: &Placed) -> Option<ShardCommand> {
        let preferred = *placed.homes.first()?;
        let config = &placed.config;
        let who = config.members.iter().find(|m| m.node == preferred)?;
        let rested = self.unchanged_us(shard) > self.policy().settle_us;
        if *who == config.leader || !rested || !self.is_near(shard, placed, *who) {
            return None;
        }
        let members = config.members.iter().copied();
        Some(self.appoint(shard, placed, *who, members))
    }

    /// Whether a member leads, or follows and lacks no more than one that is admitted may.
    fn is_caught_up(&self, shard: ShardId, placed: &Placed, who: Member) -> bool {
        let told = self.told_of(shard, placed, who);
        let lag_bytes = told.map_or(u64::MAX, |f| f.lag_bytes);
        let follows =
            self.report(shard, who).is_some() && lag_bytes <= Limits::default().admit_bytes;
        who == placed.config.leader || follows
    }

    /// Whether a member follows, and lacks little.
    fn is_near(&self, shard: ShardId, placed: &Placed, who: Member) -> bool {
        let follows = self
            .report(shard, who)
            .is_some_and(|r| r.phase == Phase::Following && r.epoch == placed.config.epoch);
        let told = self.told_of(shard, placed, who);
        let lacks_little = told.is_some_and(|f| f.lag_bytes <= self.policy().near_bytes);
        follows && lacks_little && placed.may_lead(who)
    }

    /// How the leader sees another one.
    fn told_of(&self, shard: ShardId, placed: &Placed, who: Member) -> Option<&FollowerReport> {
        let leader = self.report(shard, placed.config.leader)?;
        leader.followers.iter().find(|f| f.member == who)
    }
}
