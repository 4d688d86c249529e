//! A follower: its log is the beginning of its leader's, or it says that it is not.

use super::config::Member;
use super::epochs::{Departure, EpochTable, LogId, Span};
use super::message::{Header, Message, Standing};
use super::output::{Fault, Outbox, Output};
use super::promise::Held;
use super::{Busy, Envelope, Replica, Role};
use flowstone_wire::{Epoch, Lsn};

/// What a follower knows of its leader.
#[derive(Debug)]
pub(super) struct Following {
    /// The promised one.
    epoch: Epoch,
    leader: Member,
    /// Never [`Standing::Astray`].
    standing: Standing,
    /// What the leader has said to be committed.
    leaders_committed: Lsn,
    /// The newest time of the leader that has come.
    echo_us: u64,
}

impl Following {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Replica {
    /// Finds where this log departs from the leader's, has it cut there, and follows. The promise is kept.
    pub(super) fn follow(
        &mut self,
        header: Header,
        epochs: EpochTable,
        sent_us: u64,
        out: &mut Outbox,
    ) {
        if !epochs.is_sound() || epochs.last_epoch() != header.epoch {
            return out.push(Output::Fault(Fault::BadMessage(header.from)));
        }
        if let Role::Following(f) = &mut self.role
            && f.epoch == header.epoch
            && f.standing == Standing::Following
        {
            // Since then this log has only grown by what the leader has sent.
            f.echo_us = f.echo_us.max(sent_us);
            return self.ack(out);
        }
        let end = self.log.end();
        let found = self.log.epochs().departure(end, &epochs);
        let start = epochs.last_start();
        let standing = match self.rules.departure(found, end, self.committed, start) {
            Departure::After(last) if last == end => Standing::Following,
            Departure::After(last) if last >= self.committed => {
                let message = Message::Follow { epochs, sent_us };
                return self.cut(last, Envelope { header, message }, out);
            }
            Departure::BelowTheirs if self.committed <= epochs.base().lsn => Standing::Lacking,
            _ => {
                self.role = Role::Idle;
                let (epoch, committed) = (header.epoch, self.committed);
                return out.push(Output::Fault(Fault::CutBelowCommitted { epoch, committed }));
            }
        };
        self.role = Role::Following(Following {
            epoch: header.epoch,
            leader: header.from,
            standing,
            leaders_committed: Lsn(0),
            echo_us: sent_us,
        });
        self.ack(out);
    }

    /// Has the log cut, and then looks at the question again.
    fn cut(&mut self, last: Lsn, question: Envelope, out: &mut Outbox) {
        self.role = Role::Idle;
        self.log.cut(last);
        out.push(Output::Cut(last));
        if self.rules.waits_for_cut() {
            self.busy = Busy::Cutting;
        }
        self.held = Some(Held::Message(question));
        self.resume(out);
    }

    /// Takes the next entries, or a heartbeat.
    pub(super) fn append(
        &mut self,
        header: Header,
        span: Option<Span>,
        committed: Lsn,
        sent_us: u64,
        out: &mut Outbox,
    ) {
        let Role::Following(f) = &mut self.role else {
            return self.say_astray(header, sent_us, out);
        };
        // Lower epochs were refused; this is a leader that has not asked yet, or whose asking got lost.
        if header.epoch > f.epoch {
            return self.say_astray(header, sent_us, out);
        }
        f.echo_us = f.echo_us.max(sent_us);
        f.leaders_committed = f.leaders_committed.max(committed);
        if f.standing == Standing::Following && self.busy == Busy::No {
            if let Some(span) = span {
                self.append_new(span, header.from, out);
            }
            self.learn_committed(out);
        }
        self.ack(out);
    }

    /// Appends what of a span is not here yet; after a gap nothing, which the ack tells.
    fn append_new(&mut self, span: Span, from: Member, out: &mut Outbox) {
        let next = self.log.end().next();
        if span.last < next || span.first > next {
            return;
        }
        let rest = Span {
            first: next,
            ..span
        };
        if self.log.push(rest) {
            out.push(Output::Append(rest));
        } else {
            out.push(Output::Fault(Fault::BadMessage(from)));
        }
    }

    /// A follower that is none: the leader asks it to follow. A leader of a higher epoch than was
    /// promised is answered as well; that promises nothing.
    fn say_astray(&mut self, header: Header, sent_us: u64, out: &mut Outbox) {
        let message = Message::Ack {
            standing: Standing::Astray,
            written: Lsn(0),
            durable: Lsn(0),
            echo_us: sent_us,
        };
        self.send(header.epoch, header.from, message, out);
    }

    /// More of the log is durable.
    pub(super) fn follower_durable(&mut self, out: &mut Outbox) {
        self.learn_committed(out);
        self.ack(out);
    }

    fn learn_committed(&mut self, out: &mut Outbox) {
        let Role::Following(f) = &self.role else {
            return;
        };
        // Before it follows, what the leader has committed is not what is here at the same LSN.
        if f.standing == Standing::Following {
            let known = self
                .rules
                .known_committed(f.leaders_committed, self.log.durable());
            self.commit(known, out);
        }
    }

    fn ack(&self, out: &mut Outbox) {
        let Role::Following(f) = &self.role else {
            return;
        };
        let (written, durable) = (self.log.end(), self.log.durable());
        let message = Message::Ack {
            standing: f.standing,
            written,
            durable: self.rules.ackable(durable, written),
            echo_us: f.echo_us,
        };
        self.send(f.epoch, f.leader, message, out);
    }

    /// A snapshot is there. It holds only what is committed; so does this log up to `committed`.
    pub(super) fn snapshot(&mut self, header: Header, last: LogId, out: &mut Outbox) {
        let Role::Following(f) = &self.role else {
            return;
        };
        let departs = f.standing == Standing::Lacking;
        let may = self.rules.may_install(last.lsn, self.log.end(), departs);
        if f.epoch != header.epoch || self.busy != Busy::No || !may || last.lsn < self.committed {
            return;
        }
        self.busy = Busy::Installing;
        out.push(Output::Install(last));
    }

    pub(super) fn installed(&mut self, last: LogId, out: &mut Outbox) {
        self.busy = Busy::No;
        self.log.replace(last);
        self.commit(last.lsn, out);
        if let Role::Following(f) = &mut self.role {
            f.standing = Standing::Following;
            self.ack(out);
        }
        self.resume(out);
    }
}
