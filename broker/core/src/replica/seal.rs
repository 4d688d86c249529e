//! A new leader: it seals the previous set, and begins if no log is longer than its own.
//!
//! A leader never mends its own log: it neither cuts nor fetches, it only appends. If one of those it
//! sealed has a longer log, it asks the catalog to appoint that one. So entries go one way only, from
//! leaders to followers; nothing is carried over on the way from a failure to the next leader; and a
//! log that is adopted is adopted where it lies. It costs a turn of the catalog, which appoints by
//! reports and mostly has it right at once.

use super::config::{Config, Member};
use super::epochs::LogId;
use super::lead::Lead;
use super::message::{Header, Message};
use super::output::{Ask, Outbox, Output};
use super::{Replica, Role};
use flowstone_wire::Epoch;

/// An appointed leader that has not begun.
#[derive(Debug)]
pub(super) struct Seal {
    config: Config,
    /// For each member of the previous set its last durable entry, when it has promised.
    ends: Vec<Option<LogId>>,
    /// When those who have not promised were asked last.
    asked_us: u64,
    /// Who must lead instead.
    longer: Option<(Member, LogId)>,
}

impl Seal {
    pub(super) fn epoch(&self) -> Epoch {
        self.config.epoch
    }

    /// Takes another version of the same epoch.
    pub(super) fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    fn unanswered(&self) -> impl Iterator<Item = Member> + '_ {
        let all = self.config.previous.iter().zip(&self.ends);
        all.filter(|(_, end)| end.is_none()).map(|(m, _)| *m)
    }

    pub(super) fn ask(&self) -> Option<Ask> {
        self.longer.map(|(member, end)| Ask::Lead { member, end })
    }
}

impl Replica {
    /// The own promise is kept: asks the others of the previous set for theirs.
    pub(super) fn begin_to_seal(&mut self, out: &mut Outbox) {
        let epoch = self.promised_epoch();
        // Meanwhile the catalog may have gone on.
        let Some(config) = self.config.clone().filter(|c| c.epoch == epoch) else {
            return;
        };
        let own = self.log.end_id();
        let ends = config.previous.iter();
        let ends = ends.map(|m| self.rules.is_same(*m, self.me).then_some(own));
        self.role = Role::Sealing(Seal {
            ends: ends.collect(),
            config,
            asked_us: self.now_us,
            longer: None,
        });
        self.ask_for_seals(out);
        self.judge(out);
    }

    fn ask_for_seals(&mut self, out: &mut Outbox) {
        let Role::Sealing(seal) = &mut self.role else {
            return;
        };
        seal.asked_us = self.now_us;
        let (epoch, to): (Epoch, Vec<Member>) = (seal.epoch(), seal.unanswered().collect());
        for to in to {
            self.send(epoch, to, Message::Seal, out);
        }
    }

    pub(super) fn seal_again(&mut self, out: &mut Outbox) {
        let due = self.now_us.saturating_sub(self.limits.resend_us);
        if matches!(&self.role, Role::Sealing(seal) if seal.asked_us <= due) {
            self.ask_for_seals(out);
        }
    }

    /// Takes a promise.
    pub(super) fn sealed(&mut self, header: Header, end: LogId, out: &mut Outbox) {
        let Role::Sealing(seal) = &mut self.role else {
            return;
        };
        if !self.rules.is_answer_for(header.epoch, seal.config.epoch) {
            return;
        }
        let rules = self.rules;
        let mut members = seal.config.previous.iter();
        let Some(at) = members.position(|m| rules.is_same(*m, header.from)) else {
            return;
        };
        seal.ends[at] = seal.ends[at].max(Some(end));
        self.judge(out);
    }

    /// Begins if enough have promised and nothing that can be committed is missing here: every commit
    /// quorum of the previous set has one of those who promised, and what it acknowledged is in its
    /// log, and so in the longest.
    fn judge(&mut self, out: &mut Outbox) {
        let own = self.log.end_id();
        let Role::Sealing(seal) = &mut self.role else {
            return;
        };
        let promised = seal.ends.iter().flatten().count();
        let previous = &seal.config.previous;
        if !previous.is_empty() && promised < self.rules.seal_quorum(previous.len()) {
            return;
        }
        let ends = previous.iter().zip(&seal.ends);
        let ends = ends.filter_map(|(m, end)| Some(((*end)?, *m)));
        let longest = ends.max_by_key(|(end, _)| *end);
        if let Some((end, member)) = longest.filter(|(end, _)| self.rules.is_longer(*end, own)) {
            seal.longer = Some((member, end));
            return self.ask_at_once(out);
        }
        let lead = Lead::new(&seal.config, self.me, self.log.end().next(), self.now_us);
        out.push(Output::Begin(lead.epoch()));
        self.role = Role::Leading(lead);
    }
}
