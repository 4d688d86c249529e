//! Promises: given once per epoch, durable before anything rests on them.

use super::config::{Config, Member};
use super::input::Promise;
use super::message::{Envelope, Header, Message};
use super::output::{Fault, Outbox, Output};
use super::{Busy, Replica, Role};
use flowstone_wire::{Epoch, Lsn};

/// What waits for a promise or for the disk. There is one at most: whatever has the newest epoch, and
/// it is sent again if it mattered.
#[derive(Debug)]
pub(super) enum Held {
    /// The catalog has appointed this node.
    Lead,
    /// A leader has asked for a promise or to be followed.
    Message(Envelope),
}

impl Replica {
    /// Takes a configuration of the catalog.
    pub(super) fn appointed(&mut self, config: Config, out: &mut Outbox) {
        if config.version <= self.version() {
            return;
        }
        let same_epoch = self.config.as_ref().filter(|c| c.epoch == config.epoch);
        if same_epoch.is_some_and(|c| !c.agrees(&config)) {
            return out.push(Output::Fault(Fault::SetChanged(config.version)));
        }
        self.ask_at_us = self.now_us;
        let mine = config.leader == self.me && config.has_member(self.me);
        let epoch = config.epoch;
        self.config = Some(config);
        self.hear_of(epoch, self.version(), out);
        if self.led_epoch() == Some(epoch) {
            return self.take_learners(out);
        }
        if mine && self.rules.may_lead(epoch, self.promised_epoch()) {
            let header = self.header(epoch, self.me);
            self.promise(header, Held::Lead, out);
        }
    }

    /// Promises to refuse epochs below that of `header`, and then does what `held` says.
    pub(super) fn promise(&mut self, header: Header, held: Held, out: &mut Outbox) {
        let asked = Promise {
            epoch: header.epoch,
            leader: header.from,
        };
        if self.rules.needs_promise(asked.epoch, self.promised_epoch()) {
            if self.rules.binds_at_once() {
                self.retire(out);
            }
            self.promised = Some(asked);
            out.push(Output::Persist(asked));
        } else if let Some(promise) = self.promised.filter(|p| p.leader != asked.leader) {
            let other = asked.leader;
            return out.push(Output::Fault(Fault::TwoLeaders { promise, other }));
        }
        self.held = Some(held);
        self.resume(out);
    }

    pub(super) fn persisted(&mut self, epoch: Epoch, out: &mut Outbox) {
        self.kept = self.kept.max(epoch);
        self.resume(out);
    }

    /// Does what is held, if nothing is in its way any more.
    pub(super) fn resume(&mut self, out: &mut Outbox) {
        let is_kept = self.rules.is_promised(self.promised_epoch(), self.kept);
        if !is_kept || self.busy != Busy::No {
            return;
        }
        match self.held.take() {
            None => {}
            Some(Held::Lead) => self.begin_to_seal(out),
            Some(Held::Message(envelope)) => {
                let Envelope { header, message } = envelope;
                match message {
                    Message::Follow { epochs, sent_us } => {
                        self.follow(header, epochs, sent_us, out);
                    }
                    _ => self.answer_seal(header, out),
                }
            }
        }
    }

    /// Tells a new leader what it must not miss. What was acknowledged before the promise is durable,
    /// so it is at or below this end, or was cut for a leader that had all that could be committed.
    fn answer_seal(&mut self, header: Header, out: &mut Outbox) {
        let end = self.log.durable_id();
        self.send(header.epoch, header.from, Message::Sealed { end }, out);
    }

    pub(super) fn cut_done(&mut self, last: Lsn, out: &mut Outbox) {
        self.log.set_durable(last);
        if self.busy == Busy::Cutting {
            self.busy = Busy::No;
            self.resume(out);
        }
    }

    /// Whether this node may be counted on: the catalog lists the life it is in.
    pub(super) fn other_life(&self) -> Option<Member> {
        let config = self.config.as_ref()?;
        config.listed(self.me.node).filter(|m| *m != self.me)
    }

    /// Whether this node was appointed to an epoch that it does not lead and never will: it was
    /// restarted since it promised itself.
    pub(super) fn led_before(&self) -> bool {
        let Some(config) = &self.config else {
            return false;
        };
        let idle = matches!(self.role, Role::Idle) && self.held.is_none();
        idle && config.leader == self.me && config.epoch <= self.promised_epoch()
    }
}
