//! Who decides about shards: a state machine that turns reports and the catalog into commands.
//!
//! It runs beside the catalog, where commands are agreed on. What it remembers is only what it was told
//! lately, so another one may take its place at any time, and two at a time do no harm: each command names
//! the version that it was made for. Times are the caller's clock, which never goes back.
//!
//! ```text
//! failover   a leader that is silent, or cannot begin, is replaced by the longest log of the active set
//! asks       what replicas ask for: another life, another leader, a member more or less
//! homes      where each shard is wanted: enough copies, spread, none on nodes that leave
//! follow     the sets follow the homes, one step at a time: a learner, a member, a leader, a member less
//! ```

mod asks;
mod failover;
mod follow;
mod homes;
mod moves;

pub use asks::Answer;

use super::{Appointment, Catalog, Command, Placed, ShardCommand};
use crate::replica::{Member, Phase, Report};
use flowstone_wire::{Epoch, Incarnation, NodeId, ShardId};
use std::collections::BTreeMap;

/// Bounds of time and number. None of them is needed for safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A replica that was not heard for so long does not lead, in microseconds.
    pub silent_us: u64,
    /// An epoch that is not active after so long begins again, with those who are heard.
    pub stuck_us: u64,
    /// A node that was not heard for so long is replaced for good.
    pub replace_us: u64,
    /// A shard is left alone for so long before its leader is moved for balance.
    pub settle_us: u64,
    /// A leader is moved to a follower that lacks no more than this, in bytes.
    pub near_bytes: u64,
    /// So many shards are copied to a node that has nothing of them, at a time.
    pub copies_at_once: usize,
}

const _: () = assert!(Policy::DEFAULT.silent_us < Policy::DEFAULT.stuck_us);
const _: () = assert!(Policy::DEFAULT.stuck_us < Policy::DEFAULT.replace_us);

impl Policy {
    const DEFAULT: Self = Self {
        silent_us: 1_000_000,
        stuck_us: 2_000_000,
        replace_us: 600_000_000,
        settle_us: 10_000_000,
        near_bytes: 1 << 20,
        copies_at_once: 2,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The time, as two clocks have it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back, in microseconds; decides.
    pub us: u64,
    /// Milliseconds since 1970; for people.
    pub unix_ms: u64,
}

/// When a shard was seen to change.
#[derive(Clone, Copy, Debug)]
struct Seen {
    epoch: Epoch,
    is_active: bool,
    leader: Member,
    at_us: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    policy: Policy,
    /// Nobody was heard before this.
    born_us: u64,
    /// When it was asked to do something last, and when that last came after a long pause: who slept has
    /// heard nobody, and must not take that for silence.
    last_us: u64,
    awake_us: u64,
    nodes: BTreeMap<NodeId, u64>,
    reports: BTreeMap<(ShardId, NodeId), (u64, Report)>,
    /// Lives that nodes have told.
    lives: BTreeMap<(ShardId, NodeId), Incarnation>,
    seen: BTreeMap<ShardId, Seen>,
    moves: BTreeMap<ShardId, moves::Moving>,
}

impl Controller {
    /// One that has heard nobody yet.
    pub fn new(policy: Policy, now_us: u64) -> Self {
        Self {
            policy,
            born_us: now_us,
            last_us: now_us,
            awake_us: now_us,
            nodes: BTreeMap::new(),
            reports: BTreeMap::new(),
            lives: BTreeMap::new(),
            seen: BTreeMap::new(),
            moves: BTreeMap::new(),
        }
    }

    /// A node is alive, whatever it holds. Of a node or a shard that the catalog does not have nothing is
    /// remembered.
    pub fn heard(&mut self, catalog: &Catalog, node: NodeId, now: Now) {
        if catalog.node(node).is_some() {
            self.nodes.insert(node, now.us);
        }
    }

    /// Takes how a replica stands. Returns whether it does not know the newest configuration.
    pub fn reported(
        &mut self,
        catalog: &Catalog,
        shard: ShardId,
        report: Report,
        now: Now,
    ) -> bool {
        let me = report.me;
        if shard.0 >= catalog.shards() || catalog.node(me.node).is_none() {
            return false;
        }
        self.heard(catalog, me.node, now);
        self.note_life(shard, me);
        let is_over = self.life(catalog, shard, me.node) != Some(me.incarnation);
        let newest = catalog.placed(shard).map(|p| p.config.version);
        let is_behind = newest.is_some_and(|newest| report.version < newest);
        if !is_over {
            self.reports.insert((shard, me.node), (now.us, report));
        }
        is_behind
    }

    /// What the leader of a shard told last, if that was lately.
    pub fn leader_report(&self, catalog: &Catalog, shard: ShardId, now: Now) -> Option<&Report> {
        let leader = catalog.placed(shard)?.config.leader;
        let (at_us, report) = self.reports.get(&(shard, leader.node))?;
        let is_fresh = now.us < at_us + self.policy.silent_us;
        (is_fresh && report.me == leader).then_some(report)
    }

    /// For how long a node was not heard, in microseconds; `None` if it never was.
    pub fn silent_us(&self, node: NodeId, now: Now) -> Option<u64> {
        let heard_us = self.nodes.get(&node)?;
        Some(now.us.saturating_sub(*heard_us))
    }

    /// What to do now: for each shard one command at most, made for this catalog.
    pub fn look(&mut self, catalog: &Catalog, now: Now) -> Vec<Command> {
        self.observe(catalog, now);
        let view = View {
            controller: self,
            catalog,
            now,
        };
        let mut commands: Vec<ShardCommand> = Vec::new();
        for shard in (0..catalog.shards()).map(ShardId) {
            let command = match catalog.placed(shard) {
                None => view.first_appointment(shard),
                Some(placed) => view.fail_over(shard, placed),
            };
            commands.extend(command);
        }
        if commands.is_empty() {
            commands.extend(view.follow_homes());
        }
        if commands.is_empty() {
            commands.extend(view.change_homes());
        }
        let joined = view.joined().into_iter();
        joined
            .chain(commands.into_iter().map(Command::Shard))
            .collect()
    }

    /// Notes what has changed. To be called by a controller that decides nothing, too, so that it knows
    /// how old things are when it has to.
    pub fn observe(&mut self, catalog: &Catalog, now: Now) {
        if now.us > self.last_us + self.policy.silent_us / 2 {
            self.awake_us = now.us;
        }
        self.last_us = now.us;
        for (shard, placed) in catalog.all_placed() {
            let next = Seen {
                epoch: placed.config.epoch,
                is_active: placed.is_active(),
                leader: placed.config.leader,
                at_us: now.us,
            };
            let seen = *self.seen.entry(shard).or_insert(next);
            if (seen.epoch, seen.is_active) != (next.epoch, next.is_active) {
                self.seen.insert(shard, next);
                self.note_move(catalog, shard, seen.leader, placed, now);
            }
        }
    }

    fn note_life(&mut self, shard: ShardId, who: Member) {
        let life = self.lives.entry((shard, who.node)).or_default();
        *life = who.incarnation.max(*life);
    }

    /// The newest life of a node that was heard of, by the catalog or here.
    fn life(&self, catalog: &Catalog, shard: ShardId, node: NodeId) -> Option<Incarnation> {
        let placed = catalog.placed(shard);
        let listed = placed.and_then(|p| p.lives.get(&node)).copied();
        listed.max(self.lives.get(&(shard, node)).copied())
    }
}

/// Everything that a decision rests on.
struct View<'a> {
    controller: &'a Controller,
    catalog: &'a Catalog,
    now: Now,
}

impl View<'_> {
    fn policy(&self) -> &Policy {
        &self.controller.policy
    }

    /// Whether this is the newest life of its node.
    fn is_current(&self, shard: ShardId, who: Member) -> bool {
        let life = self.controller.life(self.catalog, shard, who.node);
        life.is_none_or(|life| life == who.incarnation)
    }

    /// What a life has told lately, if its disk is well.
    fn report(&self, shard: ShardId, who: Member) -> Option<&Report> {
        let told = self.controller.reports.get(&(shard, who.node));
        let (at_us, report) = told?;
        let is_fresh = self.now.us < at_us + self.policy().silent_us;
        let is_well = report.me == who && report.phase != Phase::Stopped;
        (is_fresh && is_well).then_some(report)
    }

    /// The life that a node reports of a shard.
    fn reported_life(&self, shard: ShardId, node: NodeId) -> Option<Member> {
        let incarnation = self.controller.life(self.catalog, shard, node)?;
        let who = Member { node, incarnation };
        self.report(shard, who).map(|_| who)
    }

    /// For how long a node was not heard, in microseconds.
    fn silent_us(&self, node: NodeId) -> u64 {
        let controller = self.controller;
        let heard_us = controller.nodes.get(&node).unwrap_or(&controller.born_us);
        self.now.us.saturating_sub(*heard_us)
    }

    fn is_heard(&self, node: NodeId) -> bool {
        self.controller.nodes.contains_key(&node) && self.silent_us(node) < self.policy().silent_us
    }

    /// For how long the epoch of a shard, and whether it is active, are as they are; and for how long
    /// somebody was awake to see it.
    fn unchanged_us(&self, shard: ShardId) -> u64 {
        let seen = self
            .controller
            .seen
            .get(&shard)
            .map_or(self.now.us, |s| s.at_us);
        self.now
            .us
            .saturating_sub(seen.max(self.controller.awake_us))
    }

    /// Another epoch of a shard. Nobody is listed twice, or in a life that is over.
    fn appoint(
        &self,
        shard: ShardId,
        placed: &Placed,
        leader: Member,
        members: impl IntoIterator<Item = Member>,
    ) -> ShardCommand {
        let members = members.into_iter().filter(|m| self.is_current(shard, *m));
        let mut members: Vec<Member> = members.collect();
        if !members.contains(&leader) {
            members.push(leader);
        }
        ShardCommand::Appoint(Appointment {
            shard,
            basis: placed.config.version,
            above: Epoch(0),
            leader,
            learners: self.learners_beside(shard, placed, &members),
            members,
            now_ms: self.now.unix_ms,
        })
    }

    /// Those who go on learning; a member whose life is over comes back as a learner.
    fn learners_beside(&self, shard: ShardId, placed: &Placed, members: &[Member]) -> Vec<Member> {
        let mut learners: Vec<Member> = Vec::new();
        let old = placed.config.members.iter();
        let over = old.filter(|m| !self.is_current(shard, **m));
        for who in placed.config.learners.iter().chain(over) {
            let life = self.controller.life(self.catalog, shard, who.node);
            let who = Member {
                node: who.node,
                incarnation: life.unwrap_or(who.incarnation),
            };
            let is_member = members.iter().any(|m| m.node == who.node);
            if !is_member && !learners.contains(&who) {
                learners.push(who);
            }
        }
        learners
    }
}

#[cfg(test)]
mod tests;
