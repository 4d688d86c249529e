//! Who holds each shard and who leads it: what replication asks of the catalog.
//!
//! ```text
//! Appoint      epoch and version rise by one; previous = members of the last active epoch, read here
//! SetLearners  the version rises by one, the epoch stays
//! Activate     the epoch is noted as active: from now on its members are the set to seal
//! SetHomes     where the shard is wanted; its configuration follows, one step at a time
//! ```
//!
//! Every command but the third names the version it was made for, and is refused as stale if that is not
//! the newest: so no decision is carried out that was made without knowing what it changes.
//! `docs/decisions/0002-replication-core.md` says why these rules are enough.

use super::nodes::{NodeState, Role};
use super::{Catalog, Event, Row};
use crate::replica::{Config, Member};
use flowstone_wire::{ConfigVersion, Epoch, ErrorCode, Failure, Incarnation, NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most members of a set, and most learners.
pub const REPLICAS_MAX: usize = 9;

/// The last epoch that became active: what may hold anything that is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The epoch.
    pub epoch: Epoch,
    /// Its members.
    pub members: Vec<Member>,
}

/// What the catalog has of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The newest configuration.
    pub config: Config,
    /// The last epoch that became active; `None` if none was: then nothing can have been committed.
    pub active: Option<Active>,
    /// Where the shard is wanted, the preferred leader first.
    pub homes: Vec<NodeId>,
    /// The newest life of each node that was ever listed.
    pub lives: BTreeMap<NodeId, Incarnation>,
    /// Since when the shard has one member although it had more, in milliseconds since 1970: what is
    /// committed since then is on one disk.
    pub alone_since_ms: Option<u64>,
}

impl Placed {
    /// Whether the newest epoch is active.
    pub fn is_active(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|a| a.epoch == self.config.epoch)
    }

    /// Whether this life can have everything that is committed.
    pub fn may_lead(&self, who: Member) -> bool {
        let active = self.active.as_ref();
        active.is_none_or(|a| a.members.contains(&who))
    }
}

/// Another epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appointment {
    /// Of which shard.
    pub shard: ShardId,
    /// The version that it replaces; 0 where there is none.
    pub basis: ConfigVersion,
    /// The epoch is higher than this, too: a log may be older than the catalog.
    pub above: Epoch,
    /// Who leads; one of the members, and of the last active set.
    pub leader: Member,
    /// Those who count.
    pub members: Vec<Member>,
    /// Those who are brought up.
    pub learners: Vec<Member>,
    /// The time, in milliseconds since 1970, for people.
    pub now_ms: u64,
}

/// Something of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardCommand {
    /// Begin another epoch.
    Appoint(Appointment),
    /// Change who is brought up to become a member.
    SetLearners {
        /// Of which shard.
        shard: ShardId,
        /// The version that it replaces.
        basis: ConfigVersion,
        /// All of them, from now on.
        learners: Vec<Member>,
    },
    /// Note that an epoch is active, if it is the newest one.
    Activate {
        /// Of which shard.
        shard: ShardId,
        /// The epoch.
        epoch: Epoch,
        /// Who says so: its leader.
        leader: Member,
    },
    /// Change where a shard is wanted.
    SetHomes {
        /// Which shard.
        shard: ShardId,
        /// Where it was wanted until now.
        was: Vec<NodeId>,
        /// The nodes, the preferred leader first.
        homes: Vec<NodeId>,
    },
}

type Applied = Result<(Event, Vec<Row>), Failure>;

fn stale(what: String) -> Failure {
    Failure::new(ErrorCode::Stale, what)
}

fn invalid(what: String) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, what)
}

impl Catalog {
    pub(super) fn apply_to_shard(&mut self, command: ShardCommand) -> Applied {
        match command {
            ShardCommand::Appoint(appointment) => self.appoint(appointment),
            ShardCommand::SetLearners {
                shard,
                basis,
                learners,
            } => self.set_learners(shard, basis, learners),
            ShardCommand::Activate {
                shard,
                epoch,
                leader,
            } => self.activate(shard, epoch, leader),
            ShardCommand::SetHomes { shard, was, homes } => self.set_homes(shard, &was, homes),
        }
    }

    fn appoint(&mut self, new: Appointment) -> Applied {
        let shard = new.shard;
        if shard.0 >= self.shards {
            return Err(invalid(format!("there is no shard {shard}")));
        }
        let old = self.placed.get(&shard);
        check_basis(shard, old, new.basis)?;
        self.check_listed(shard, &new.members, &new.learners)?;
        if !new.members.contains(&new.leader) {
            return Err(invalid(format!("{} leads and is no member", new.leader)));
        }
        if old.is_some_and(|old| !old.may_lead(new.leader)) {
            let what = format!(
                "{} was not in the last active set of shard {shard}, and may lack what is committed",
                new.leader
            );
            return Err(invalid(what));
        }
        let (version, epoch) = old.map_or((0, 0), |o| (o.config.version.0, o.config.epoch.0));
        let Some(epoch) = epoch.max(new.above.0).checked_add(1) else {
            return Err(invalid(format!("epochs of shard {shard} are used up")));
        };
        let active = old.and_then(|old| old.active.clone());
        let config = Config {
            version: ConfigVersion(version + 1),
            epoch: Epoch(epoch),
            leader: new.leader,
            members: sorted(new.members),
            learners: sorted(new.learners),
            previous: active.as_ref().map_or(Vec::new(), |a| a.members.clone()),
        };
        let homes = old.map_or_else(|| homes_of(&config), |old| old.homes.clone());
        let placed = Placed {
            alone_since_ms: alone_since(old, &config, new.now_ms),
            lives: lives(old, &config),
            config,
            active,
            homes,
        };
        Ok(self.put_placed(shard, placed))
    }

    fn set_learners(
        &mut self,
        shard: ShardId,
        basis: ConfigVersion,
        learners: Vec<Member>,
    ) -> Applied {
        let old = self.placed.get(&shard);
        check_basis(shard, old, basis)?;
        let old = old.ok_or_else(|| unknown_shard(shard))?;
        self.check_listed(shard, &old.config.members, &learners)?;
        let mut placed = old.clone();
        placed.config.version.0 += 1;
        placed.config.learners = sorted(learners);
        placed.lives = lives(Some(&placed), &placed.config);
        Ok(self.put_placed(shard, placed))
    }

    fn put_placed(&mut self, shard: ShardId, placed: Placed) -> (Event, Vec<Row>) {
        let row = Row::placed(shard, &placed);
        let event = Event::Appointed(placed.config.clone());
        self.placed.insert(shard, placed);
        (event, vec![row])
    }

    fn activate(&mut self, shard: ShardId, epoch: Epoch, leader: Member) -> Applied {
        let placed = self.placed.get_mut(&shard);
        let placed = placed.ok_or_else(|| unknown_shard(shard))?;
        if placed.active.as_ref().is_some_and(|a| a.epoch == epoch) {
            return Ok((Event::Activated(epoch), Vec::new()));
        }
        let config = &placed.config;
        if (epoch, leader) != (config.epoch, config.leader) {
            let what = format!(
                "epoch {} of shard {shard}, led by {}, is the newest, not {epoch}, led by {leader}",
                config.epoch, config.leader
            );
            return Err(stale(what));
        }
        let members = config.members.clone();
        placed.active = Some(Active { epoch, members });
        Ok((Event::Activated(epoch), vec![Row::placed(shard, placed)]))
    }

    fn set_homes(&mut self, shard: ShardId, was: &[NodeId], homes: Vec<NodeId>) -> Applied {
        let distinct: BTreeSet<NodeId> = homes.iter().copied().collect();
        if homes.is_empty() || homes.len() > REPLICAS_MAX || distinct.len() < homes.len() {
            return Err(invalid(format!(
                "a shard has 1 to {REPLICAS_MAX} homes, each once"
            )));
        }
        for home in &homes {
            self.check_holder(*home)?;
        }
        let placed = self.placed.get_mut(&shard);
        let placed = placed.ok_or_else(|| unknown_shard(shard))?;
        if placed.homes != was {
            return Err(stale(format!(
                "the homes of shard {shard} are others by now"
            )));
        }
        placed.homes = homes;
        Ok((Event::Placed, vec![Row::placed(shard, placed)]))
    }

    fn check_holder(&self, id: NodeId) -> Result<(), Failure> {
        let node = self.nodes.get(&id);
        let holds = |n: &&super::Node| n.role == Role::Data && n.state != NodeState::Removed;
        match node.filter(holds) {
            Some(_) => Ok(()),
            None => Err(invalid(format!("node {id} holds no shards"))),
        }
    }

    /// Whether these can be listed: present lives of nodes that hold shards, each node once.
    fn check_listed(
        &self,
        shard: ShardId,
        members: &[Member],
        learners: &[Member],
    ) -> Result<(), Failure> {
        if members.is_empty() || members.len().max(learners.len()) > REPLICAS_MAX {
            return Err(invalid(format!("a set has 1 to {REPLICAS_MAX} members")));
        }
        let known = self.placed.get(&shard).map(|p| &p.lives);
        let mut nodes = BTreeSet::new();
        for who in members.iter().chain(learners) {
            self.check_holder(who.node)?;
            if !nodes.insert(who.node) {
                return Err(invalid(format!("node {} is listed twice", who.node)));
            }
            let newest = known.and_then(|lives| lives.get(&who.node));
            if newest.is_some_and(|newest| who.incarnation < *newest) {
                return Err(stale(format!("{who} is over")));
            }
        }
        let nobody = members.iter().find(|m| m.incarnation == UNKNOWN_LIFE);
        match nobody {
            Some(m) => Err(invalid(format!("the life of node {} is not known", m.node))),
            None => Ok(()),
        }
    }

    /// What the catalog has of a shard; `None` before its first epoch.
    pub fn placed(&self, shard: ShardId) -> Option<&Placed> {
        self.placed.get(&shard)
    }

    /// The shards that have had an epoch.
    pub fn all_placed(&self) -> impl Iterator<Item = (ShardId, &Placed)> {
        self.placed.iter().map(|(shard, placed)| (*shard, placed))
    }

    /// The shards that are on a node, are wanted there, or may have to be sealed there.
    pub fn shards_on(&self, node: NodeId) -> impl Iterator<Item = ShardId> + '_ {
        let sealed = move |p: &Placed| {
            let mut active = p.active.iter().flat_map(|a| &a.members);
            active.any(|m| m.node == node)
        };
        let is_on = move |p: &Placed| {
            p.config.listed(node).is_some() || p.homes.contains(&node) || sealed(p)
        };
        let all = self.placed.iter().filter(move |(_, p)| is_on(p));
        all.map(|(shard, _)| *shard)
    }

    /// How many copies of a shard are wanted: the most that a placement group on it wants.
    pub fn copies_of(&self, shard: ShardId) -> usize {
        let usual = self.cluster.as_ref().map_or(1, |c| c.copies);
        let here =
            |t: &&flowstone_wire::native::Topic| t.partitions.iter().any(|p| p.shard == shard);
        let wants = self.topics.values().filter(here).map(|t| {
            let group = t.settings.placement.as_ref().unwrap_or(&t.name);
            self.copies.get(group).copied().unwrap_or(usual)
        });
        usize::from(wants.max().unwrap_or(usual))
    }
}

/// The life of a learner that has not told which one it is: a node that finds itself listed with it says
/// so, and is listed again. Never that of a member.
pub const UNKNOWN_LIFE: Incarnation = Incarnation(0);

fn check_basis(shard: ShardId, old: Option<&Placed>, basis: ConfigVersion) -> Result<(), Failure> {
    let newest = old.map_or(ConfigVersion(0), |o| o.config.version);
    if newest == basis {
        return Ok(());
    }
    Err(stale(format!(
        "version {newest} of shard {shard} is the newest, not {basis}"
    )))
}

fn unknown_shard(shard: ShardId) -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        format!("shard {shard} has no leader yet"),
    )
}

fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_unstable();
    members
}

fn homes_of(config: &Config) -> Vec<NodeId> {
    let others = config.members.iter().filter(|m| **m != config.leader);
    let all = std::iter::once(&config.leader).chain(others);
    all.map(|m| m.node).collect()
}

fn lives(old: Option<&Placed>, config: &Config) -> BTreeMap<NodeId, Incarnation> {
    let mut lives = old.map_or_else(BTreeMap::new, |old| old.lives.clone());
    for m in config.members.iter().chain(&config.learners) {
        let life = lives.entry(m.node).or_insert(m.incarnation);
        *life = m.incarnation.max(*life);
    }
    lives
}

fn alone_since(old: Option<&Placed>, config: &Config, now_ms: u64) -> Option<u64> {
    let old = old.filter(|_| config.members.len() == 1)?;
    let lost = (old.config.members.len() > 1).then_some(now_ms);
    old.alone_since_ms.or(lost)
}

#[cfg(test)]
mod tests;
