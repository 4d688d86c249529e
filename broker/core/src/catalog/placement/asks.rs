//! What replicas ask of the catalog, and what is answered: the table in
//! `docs/decisions/0002-replication-core.md`.

use super::{Controller, Now, View};
use crate::catalog::{Catalog, Command, Placed, ShardCommand};
use crate::replica::{Ask, Asked, Config, Member};
use flowstone_wire::{Epoch, ShardId};

/// What a question comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: the asker asks again if it matters.
    Nothing,
    /// The newest configuration.
    Config(Config),
    /// The epoch is active, and was before.
    Activated(Epoch),
    /// This is to be agreed on; then everybody sees what has changed, and who asked for an epoch to be
    /// active is told so.
    Do(Command),
}

impl Controller {
    /// Takes a question.
    pub fn asked(&mut self, catalog: &Catalog, shard: ShardId, asked: &Asked, now: Now) -> Answer {
        if shard.0 >= catalog.shards() || catalog.node(asked.from.node).is_none() {
            return Answer::Nothing;
        }
        self.observe(catalog, now);
        if matches!(asked.ask, Ask::Learn) {
            self.note_life(shard, asked.from);
        }
        let Some(placed) = catalog.placed(shard) else {
            return Answer::Nothing;
        };
        let view = View {
            controller: self,
            catalog,
            now,
        };
        view.answer(shard, placed, asked)
    }
}

impl View<'_> {
    fn answer(&self, shard: ShardId, placed: &Placed, asked: &Asked) -> Answer {
        let config = &placed.config;
        let active = placed.active.as_ref().map(|a| a.epoch);
        match asked.ask {
            Ask::Learn => return self.learn(shard, placed, asked.from),
            Ask::Activate if active == Some(asked.epoch) => {
                return Answer::Activated(asked.epoch);
            }
            _ if asked.version < config.version || asked.ask == Ask::Config => {
                return Answer::Config(config.clone());
            }
            // What follows is a leader's to ask, the newest one's.
            _ if asked.epoch != config.epoch || asked.from != config.leader => {
                return Answer::Nothing;
            }
            _ => {}
        }
        let command = match asked.ask {
            Ask::Activate => Some(ShardCommand::Activate {
                shard,
                epoch: asked.epoch,
                leader: asked.from,
            }),
            Ask::Reappoint => self.replace_leader(shard, placed),
            Ask::Lead { member, .. } => self.lead(shard, placed, member),
            Ask::Drop(member) => self.drop_member(shard, placed, member),
            Ask::Admit(learner) => self.admit(shard, placed, learner),
            Ask::Config | Ask::Learn => None,
        };
        command.map_or(Answer::Nothing, |c| Answer::Do(Command::Shard(c)))
    }

    /// A node has another life than the one that is listed: that one leaves the set, the present one is
    /// brought up.
    fn learn(&self, shard: ShardId, placed: &Placed, from: Member) -> Answer {
        let config = &placed.config;
        let listed = config.listed(from.node);
        let Some(over) = listed.filter(|m| !self.is_current(shard, *m)) else {
            return Answer::Config(config.clone());
        };
        let command = if over == config.leader {
            self.replace_leader(shard, placed)
        } else if config.has_member(over) {
            let members = config.members.iter().copied();
            Some(self.appoint(shard, placed, config.leader, members))
        } else {
            Some(ShardCommand::SetLearners {
                shard,
                basis: config.version,
                learners: self.learners_beside(shard, placed, &config.members),
            })
        };
        command.map_or(Answer::Nothing, |c| Answer::Do(Command::Shard(c)))
    }

    /// A leader has found a log that is longer than its own.
    fn lead(&self, shard: ShardId, placed: &Placed, member: Member) -> Option<ShardCommand> {
        let is_well = self.is_current(shard, member) && self.report(shard, member).is_some();
        if !is_well || !placed.may_lead(member) {
            return self.replace_leader(shard, placed);
        }
        let members = placed.config.members.iter().copied();
        Some(self.appoint(shard, placed, member, members))
    }

    /// A leader does not hear a member any more. It may be left alone: better one copy than none that
    /// takes anything; the catalog notes since when.
    fn drop_member(&self, shard: ShardId, placed: &Placed, member: Member) -> Option<ShardCommand> {
        let config = &placed.config;
        if member == config.leader || !config.has_member(member) {
            return None;
        }
        let rest = config.members.iter().copied().filter(|m| *m != member);
        Some(self.appoint(shard, placed, config.leader, rest))
    }

    /// A learner has nearly everything.
    fn admit(&self, shard: ShardId, placed: &Placed, learner: Member) -> Option<ShardCommand> {
        let config = &placed.config;
        let is_wanted = placed.homes.contains(&learner.node);
        if !is_wanted || !config.learners.contains(&learner) || !self.is_current(shard, learner) {
            return None;
        }
        let members = config.members.iter().copied().chain([learner]);
        Some(self.appoint(shard, placed, config.leader, members))
    }
}
