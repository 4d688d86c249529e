//! A leader: streams what is written, counts what is durable, commits.

use super::config::{Config, Member};
use super::epochs::Span;
use super::message::{Envelope, Header, Message, Standing};
use super::output::{Fault, FollowerReport, Outbox, Output};
use super::progress::{Ack, Mode, Progress};
use super::{Ask, Replica, Role};
use flowstone_wire::{Epoch, Lsn};

/// A leader that has begun.
#[derive(Debug)]
pub(super) struct Lead {
    epoch: Epoch,
    /// The epoch-start entry.
    start: Lsn,
    /// Whether it is written: before that the log's epochs do not show the own one.
    is_open: bool,
    /// Whether it is on a majority, and with it everything before.
    is_spread: bool,
    /// Whether the catalog has noted that: only then does the next leader have to ask this set.
    is_active: bool,
    /// Whether what is committed here is what is committed, as of lately.
    is_sure: bool,
    /// How many members the set has; this node is one of them.
    members: usize,
    others: Vec<Progress>,
}

impl Lead {
    pub(super) fn new(config: &Config, me: Member, start: Lsn, now_us: u64) -> Self {
        let mut lead = Self {
            epoch: config.epoch,
            start,
            is_open: false,
            is_spread: false,
            is_active: false,
            is_sure: false,
            members: config.members.len(),
            others: Vec::new(),
        };
        let members = config.members.iter().filter(|m| **m != me);
        lead.others = members.map(|m| Progress::new(*m, true, now_us)).collect();
        lead.set_learners(&config.learners, now_us);
        lead
    }

    pub(super) fn set_learners(&mut self, learners: &[Member], now_us: u64) {
        self.others
            .retain(|p| p.is_member || learners.contains(&p.member));
        for learner in learners {
            if self.others.iter().all(|p| p.member != *learner) {
                self.others.push(Progress::new(*learner, false, now_us));
            }
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_active
    }

    pub(super) fn is_sure(&self) -> bool {
        self.is_sure
    }

    pub(super) fn set_sure(&mut self, is_sure: bool) {
        self.is_sure = is_sure;
    }

    pub(super) fn has_followers(&self) -> bool {
        !self.others.is_empty()
    }

    /// The first LSN that a follower lacks which is being streamed to, or may be soon; the next one
    /// after what is durable, at most. Who was not heard for long makes nobody wait.
    pub(super) fn keep_from(&self, replica: &Replica) -> Lsn {
        let dead_us = replica.now_us.saturating_sub(replica.limits.drop_us);
        let alive = self.others.iter().filter(|p| p.heard_us >= dead_us);
        let wanted = alive.map(|p| match p.mode {
            Mode::Stream => p.durable,
            Mode::Attach | Mode::Snapshot => replica.log.base().lsn,
        });
        wanted.fold(replica.log.durable(), Lsn::min).next()
    }

    /// The highest value that `quorum` of this leader and the others reach; those of whom there is
    /// nothing to count do not.
    fn on_quorum<T: Ord + Copy>(
        &self,
        quorum: usize,
        own: T,
        of: impl Fn(&Progress) -> Option<T>,
    ) -> Option<T> {
        let values = || self.others.iter().filter_map(&of).chain([own]);
        let reached = |v: &T| values().filter(|other| other >= v).count();
        values().filter(|v| reached(v) >= quorum).max()
    }

    /// When a majority was heard for certain, the leader itself being heard now.
    fn heard_us(&self, now_us: u64, quorum: usize) -> u64 {
        let heard = |p: &Progress| (p.is_member && p.is_heard).then_some(p.heard_us);
        self.on_quorum(quorum, now_us, heard).unwrap_or(0)
    }

    /// When a majority was heard for certain; for ever where this node is one.
    pub(super) fn confirmed_us(&self, replica: &Replica) -> u64 {
        match replica.rules.commit_quorum(self.members) {
            1 => u64::MAX,
            quorum => self.heard_us(replica.now_us, quorum),
        }
    }

    /// What to ask of the catalog, the most urgent thing first.
    pub(super) fn ask(&self, replica: &Replica) -> Option<Ask> {
        if self.is_spread && !self.is_active {
            return Some(Ask::Activate);
        }
        let log = &replica.log;
        let admit_bytes = replica.limits.admit_bytes;
        let near = |p: &&Progress| {
            let lag = log.bytes_between(p.durable, log.end());
            !p.is_member && p.mode == Mode::Stream && replica.rules.may_admit(lag, admit_bytes)
        };
        // A set that is changed before it is active would only have to be sealed again.
        let learner = self.others.iter().find(near).filter(|_| self.is_active);
        let dead_us = replica.now_us.saturating_sub(replica.limits.drop_us);
        let is_dead = |p: &&Progress| p.is_member && p.heard_us < dead_us;
        let admit = learner.map(|p| Ask::Admit(p.member));
        admit.or_else(|| Some(Ask::Drop(self.others.iter().find(is_dead)?.member)))
    }

    pub(super) fn reports(&self, replica: &Replica) -> Vec<FollowerReport> {
        let log = &replica.log;
        let report = |p: &Progress| FollowerReport {
            member: p.member,
            lag_bytes: log.bytes_between(p.durable, log.end()),
            heard_us_ago: replica.now_us.saturating_sub(p.heard_us),
        };
        self.others.iter().map(report).collect()
    }

    /// Members that have everything durable that is committed.
    pub(super) fn copies(&self, own: Lsn, committed: Lsn) -> usize {
        let others = self
            .others
            .iter()
            .filter(|p| p.is_member)
            .map(|p| p.durable);
        others.chain([own]).filter(|d| *d >= committed).count()
    }
}

impl Replica {
    /// The catalog has changed the learners of the epoch.
    pub(super) fn take_learners(&mut self, out: &mut Outbox) {
        let Some(config) = self.config.as_ref() else {
            return;
        };
        match &mut self.role {
            Role::Sealing(seal) => seal.set_config(config.clone()),
            Role::Leading(lead) => lead.set_learners(&config.learners, self.now_us),
            Role::Idle | Role::Following(_) | Role::Stopped => {}
        }
        self.say_something(out);
    }

    /// This leader has appended.
    pub(super) fn written(&mut self, span: Span, out: &mut Outbox) {
        let Role::Leading(lead) = &mut self.role else {
            out.push(Output::Fault(Fault::BadWrite(span.first)));
            return self.stop(out);
        };
        if span.epoch != lead.epoch || !self.log.push(span) {
            out.push(Output::Fault(Fault::BadWrite(span.first)));
            return self.stop(out);
        }
        lead.is_open = true;
        self.say_something(out);
    }

    /// Sends each follower what it should have by now.
    pub(super) fn say_something(&mut self, out: &mut Outbox) {
        let from_me = self.header(self.led_epoch().unwrap_or_default(), self.me);
        let (committed, sent_us) = (self.committed, self.now_us);
        let Role::Leading(lead) = &mut self.role else {
            return;
        };
        if !lead.is_open {
            return;
        }
        for p in &mut lead.others {
            let header = Header {
                to: p.member,
                ..from_me
            };
            p.rewind(sent_us, &self.limits);
            while let Some(span) = p.next_span(&self.log, &self.limits, sent_us) {
                let message = Message::Append {
                    span: Some(span),
                    committed,
                    sent_us,
                };
                out.push(Output::Send(Envelope { header, message }));
            }
            if let Some(message) = p.word(self.log.epochs(), committed, sent_us, &self.limits) {
                out.push(Output::Send(Envelope { header, message }));
            }
        }
    }

    /// Takes an answer of a follower.
    pub(super) fn acked(&mut self, header: Header, ack: Ack, out: &mut Outbox) {
        let (rules, now_us) = (self.rules, self.now_us);
        let Role::Leading(lead) = &mut self.role else {
            return;
        };
        if !rules.is_answer_for(header.epoch, lead.epoch) {
            return;
        }
        let mut others = lead.others.iter_mut();
        let Some(p) = others.find(|p| rules.is_same(p.member, header.from)) else {
            return;
        };
        let follows = ack.standing == Standing::Following;
        if ack.echo_us > now_us || (follows && ack.written.max(ack.durable) > self.log.end()) {
            return out.push(Output::Fault(Fault::BadMessage(header.from)));
        }
        p.heard_us = p.heard_us.max(rules.heard_us(ack.echo_us, now_us));
        p.is_heard = true;
        let (to, epoch) = (p.member, lead.epoch);
        if p.take(ack, &self.log, now_us) {
            p.mode = Mode::Snapshot;
            out.push(Output::SendSnapshot {
                header: self.header(epoch, to),
                least: self.log.base().lsn,
                committed: self.committed,
            });
        }
        self.advance(out);
        self.say_something(out);
    }

    pub(super) fn snapshot_ended(&mut self, to: Member, out: &mut Outbox) {
        if let Role::Leading(lead) = &mut self.role {
            let mut others = lead.others.iter_mut();
            let sent = others.find(|p| p.member == to && p.mode == Mode::Snapshot);
            if let Some(p) = sent {
                p.attach();
            }
        }
        self.say_something(out);
    }

    /// Counts.
    pub(super) fn advance(&mut self, out: &mut Outbox) {
        let rules = self.rules;
        let Role::Leading(lead) = &mut self.role else {
            return;
        };
        let own = rules.own_count(self.log.durable(), self.log.end());
        let durable = |p: &Progress| rules.counts(p.is_member).then_some(p.durable);
        let quorum = rules.commit_quorum(lead.members);
        let Some(counted) = lead.on_quorum(quorum, own, durable) else {
            return;
        };
        let was_spread = lead.is_spread;
        lead.is_spread |= rules.may_activate(counted, lead.start);
        let (is_spread, may) = (
            lead.is_spread,
            rules.may_commit(counted, lead.start, lead.is_active),
        );
        if is_spread && !was_spread {
            self.ask_at_once(out);
        }
        if may {
            self.commit(counted, out);
        }
    }

    /// The catalog has noted that an epoch is active.
    pub(super) fn activated(&mut self, epoch: Epoch, out: &mut Outbox) {
        let Role::Leading(lead) = &mut self.role else {
            return;
        };
        if lead.epoch == epoch && lead.is_spread {
            lead.is_active = true;
            self.advance(out);
            self.say_something(out);
        }
    }

    /// Notices that a majority is not heard any more, or again.
    pub(super) fn look_for_doubt(&mut self, out: &mut Outbox) {
        let Role::Leading(lead) = &mut self.role else {
            return;
        };
        let quorum = self.rules.commit_quorum(lead.members);
        let since_us = self.now_us - lead.heard_us(self.now_us, quorum).min(self.now_us);
        let is_sure =
            lead.is_active && self.committed >= lead.start && since_us < self.limits.doubt_us;
        let was_sure = lead.is_sure();
        lead.set_sure(is_sure);
        match (was_sure, is_sure) {
            (false, true) => out.push(Output::LeaderSure),
            (true, false) => out.push(Output::LeaderDoubt),
            _ => {}
        }
    }
}
