//! The shard as one of several copies: its replica decides, and this carries out what it says.
//!
//! ```text
//!            Follower                        Leader                        Ended
//! log:       what the leader sends           what producers send           as it is
//! view:      what is committed               everything that is written    thrown away
//!               |------- Begin: the rest of the log ------^ |--- Retire ------^
//!                                                                             |
//!               ^------------------- opened again ----------------------------+
//! ```
//! The *view* is everything that is derived from the log: ends of partitions, producers, positions, tasks.
//! It cannot go back. So a follower's never has what could still be cut, and a leader that retires throws
//! its own away: the shard is opened again, as after a restart.

mod doubt;
mod follow;
mod lead;
mod open;
mod withhold;

pub use open::{ReplicaOptions, snapshot_id};

use super::Shard;
use crate::input::{Input, Now, ReplicaInput};
use crate::output::{Outbox, Output};
use crate::replica::{
    Envelope, Header, Input as Told, LogId, Message, Outbox as Said, Output as Say, Replica,
};
use bytes::Bytes;
use doubt::Doubt;
use flowstone_storage::log::CheckedCopy;
use flowstone_storage::snapshot::PART_BYTES;
use flowstone_wire::{ErrorCode, Failure, Lsn};
use std::collections::VecDeque;
use withhold::Withheld;

/// What the shard is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Leader,
    Ended,
}

/// What is to be done when everything that is under way has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Reopen,
    Install(LogId),
}

/// What a shard has beside its log when it is one of several copies.
#[derive(Debug)]
pub(super) struct Replication {
    replica: Replica,
    role: Role,
    /// Everything that is derived from the log is so up to here. Of a follower never above what is
    /// committed.
    viewed: Lsn,
    /// Up to here the replica knows what a leader has written.
    told: Lsn,
    doubt: Doubt,
    /// Refusals that are not told yet, in the order of their times.
    withheld: VecDeque<Withheld>,
    /// The log is to be cut here when no sync is under way.
    to_cut: Option<Lsn>,
    /// It is being cut: nothing is synced.
    cutting: bool,
    ending: Option<Ending>,
    /// What is to be told, in order: each is told when all that the one before led to is done. With it the
    /// bytes that a message has brought, which are proven.
    to_tell: VecDeque<(Told, Option<CheckedCopy>)>,
    telling: bool,
    said: Said,
}

impl Shard {
    /// Everything up to here is committed: durable, on as many disks as it takes.
    pub fn committed(&self) -> Lsn {
        match &self.replication {
            Some(r) => r.replica.committed(),
            None => self.log.durable(),
        }
    }

    /// Up to here nothing can go from this disk any more: committed, and durable here. A leader may have
    /// committed what its own disk has not yet.
    pub(super) fn settled_for_good(&self) -> Lsn {
        self.committed().min(self.log.durable())
    }

    /// The replica, where the shard is one of several copies.
    pub fn replica(&self) -> Option<&Replica> {
        self.replication.as_ref().map(|r| &r.replica)
    }

    /// Up to where the view goes.
    pub(super) fn viewed(&self) -> Lsn {
        match &self.replication {
            Some(r) if r.role == Role::Follower => r.viewed,
            _ => self.log.written(),
        }
    }

    /// Whether producers and tasks may append here.
    pub(super) fn leads(&self) -> bool {
        let leads = |r: &Replication| r.role == Role::Leader;
        self.replication.as_deref().is_none_or(leads)
    }

    /// Whether what is committed may be served here.
    fn serves(&self) -> bool {
        let serves = |r: &Replication| r.role == Role::Leader && r.doubt == Doubt::None;
        self.replication.as_deref().is_none_or(serves)
    }

    /// Whether the log is being cut, or the shard is to be opened again.
    pub(super) fn is_held_up(&self) -> bool {
        let held = |r: &Replication| r.cutting || r.to_cut.is_some() || r.role == Role::Ended;
        self.replication.as_deref().is_some_and(held)
    }

    /// The failure of a request that only a leader takes.
    fn refused_by_role(&self, input: &Input) -> Option<Failure> {
        let refused = match input {
            Input::Produce { .. } | Input::Deliver { .. } | Input::CommitOffsets { .. } => {
                !self.leads() || self.gave_up()
            }
            Input::Fetch { .. }
            | Input::FindOffset { .. }
            | Input::ReadGone { .. }
            | Input::ReadOffsets { .. }
            | Input::ListGroups { .. } => !self.serves(),
            _ => false,
        };
        refused.then(|| {
            let r = self.replication.as_ref();
            let config = r.and_then(|r| r.replica.config());
            let leader = config.map_or("not known".into(), |c| format!("node {}", c.leader.node));
            let what = format!(
                "this node does not lead shard {}; its leader is {leader}",
                self.id
            );
            Failure::new(ErrorCode::NotLeader, what)
        })
    }

    /// The input, unless it is a request that only a leader takes: that is answered.
    pub(super) fn allowed(&self, input: Input, out: &mut Outbox) -> Option<Input> {
        let Some(failure) = self.refused_by_role(&input) else {
            return Some(input);
        };
        if let Some(ticket) = input.ticket() {
            out.reply(ticket, Err(failure));
        }
        None
    }

    /// Takes what concerns the replica.
    pub(super) fn step_replica(&mut self, now: Now, input: ReplicaInput, out: &mut Outbox) {
        if self.fenced.is_some() {
            return;
        }
        match input {
            // Under load the log of a follower would never stand still.
            ReplicaInput::Peer { .. } if self.draining => {}
            ReplicaInput::Peer { envelope, bodies } => self.hear(now, envelope, bodies, out),
            ReplicaInput::Appointed(config) => self.tell(now, Told::Appointed(config), out),
            ReplicaInput::Activated(epoch) => self.tell(now, Told::Activated(epoch), out),
            ReplicaInput::Persisted { epoch, result } => match result {
                Ok(()) => self.tell(now, Told::Persisted(epoch), out),
                Err(e) => self.fence(format!("a promise could not be stored: {e}"), out),
            },
            ReplicaInput::Cut(result) => self.cut_done(now, result, out),
            ReplicaInput::SnapshotSent(to) => self.tell(now, Told::SnapshotEnded(to), out),
        }
        self.finish_drain(out);
    }

    /// Tells the replica of its clock.
    pub(super) fn tick_replica(&mut self, now: Now, out: &mut Outbox) {
        if self.replication.is_some() && self.fenced.is_none() {
            self.tell(now, Told::Tick, out);
            self.give_up_in_time(now, out);
        }
    }

    fn hear(&mut self, now: Now, envelope: Envelope, bodies: Vec<Bytes>, out: &mut Outbox) {
        let proven = match &envelope.message {
            Message::Append { span, .. } => span.map(|span| {
                let range = (span.epoch, span.first, span.last);
                CheckedCopy::prove(range, bodies)
            }),
            _ => None,
        };
        match proven.transpose() {
            Ok(copy) => self.say(now, Told::Received(envelope), copy, out),
            // The leader sends it again; if it is damaged there, a replica must take over.
            Err(e) => out.push(Output::Report(format!(
                "from {}: {e}",
                envelope.header.from
            ))),
        }
    }

    /// Tells the replica something that no bytes come with.
    pub(super) fn tell(&mut self, now: Now, told: Told, out: &mut Outbox) {
        self.say(now, told, None, out);
    }

    /// Tells the replica something and carries out what it answers, and what that leads to.
    fn say(&mut self, now: Now, told: Told, copy: Option<CheckedCopy>, out: &mut Outbox) {
        self.tell_written(now, out);
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        r.to_tell.push_back((told, copy));
        if std::mem::replace(&mut r.telling, true) {
            return;
        }
        while let Some((said, mut copy)) = self.tell_next(now) {
            for say in said {
                self.carry_out(now, say, &mut copy, out);
            }
        }
        if let Some(r) = self.replication.as_deref_mut() {
            r.telling = false;
        }
    }

    fn tell_next(&mut self, now: Now) -> Option<(Vec<Say>, Option<CheckedCopy>)> {
        let r = self.replication.as_deref_mut()?;
        let (told, copy) = r.to_tell.pop_front()?;
        if r.role != Role::Ended {
            r.replica.step(now.mono_us, told, &mut r.said);
        }
        Some((r.said.drain().collect(), copy))
    }

    fn carry_out(&mut self, now: Now, say: Say, copy: &mut Option<CheckedCopy>, out: &mut Outbox) {
        match say {
            Say::Send(envelope) => self.send(envelope, out),
            Say::Append(span) => {
                let copy = copy.take();
                let copy = copy.expect("what is to be appended is of the message that has come");
                self.append_copy(now, copy, span.first, out);
            }
            Say::Cut(last) => self.cut(last, out),
            Say::Persist(promise) => out.push(Output::Persist(promise)),
            Say::Install(last) => self.end(Ending::Install(last), out),
            Say::SendSnapshot {
                header,
                least,
                committed,
            } => self.send_snapshot(now, header, (least, committed), out),
            Say::Begin(epoch) => self.begin(now, epoch, out),
            Say::Retire => self.retire(out),
            Say::Committed(upto) => self.committed_upto(upto, out),
            Say::LeaderDoubt => self.set_doubt(Doubt::Since(now.mono_us)),
            Say::LeaderSure => self.set_doubt(Doubt::None),
            Say::AskCatalog(asked) => out.push(Output::AskCatalog(asked)),
            Say::Report(report) => out.push(Output::ReplicaReport(Box::new(report))),
            Say::Fault(fault) => out.push(Output::Report(format!("shard {}: {fault}", self.id))),
        }
    }

    /// Sends a message, with the bytes of its span as they lie in the log.
    fn send(&mut self, envelope: Envelope, out: &mut Outbox) {
        let bodies = match &envelope.message {
            Message::Append {
                span: Some(span), ..
            } => self.log.slices(span.first, span.last),
            _ => Ok(Vec::new()),
        };
        match bodies {
            Ok(bodies) => out.push(Output::ToPeer { envelope, bodies }),
            Err(e) => out.push(Output::Report(format!(
                "shard {}: nothing is sent to {}: {e}",
                self.id, envelope.header.to
            ))),
        }
    }

    /// Has the state and the settled segments sent, with what of the log is not in both of them yet.
    fn send_snapshot(
        &mut self,
        now: Now,
        header: Header,
        (least, committed): (Lsn, Lsn),
        out: &mut Outbox,
    ) {
        let upto = self.log.written().min(committed);
        let stored = self.settled_upto.min(self.materializer.applied);
        match self.log.tail(stored.next(), upto, PART_BYTES) {
            Ok(tail) => out.push(Output::SendSnapshot {
                header,
                least,
                committed,
                tail,
            }),
            Err(e) => {
                out.push(Output::Report(format!(
                    "shard {}: no snapshot is sent to {}: {e}",
                    self.id, header.to
                )));
                self.tell(now, Told::SnapshotEnded(header.to), out);
            }
        }
    }

    /// More is committed: it may be seen, and goes into a follower's view.
    fn committed_upto(&mut self, upto: Lsn, out: &mut Outbox) {
        match self.replication.as_deref().map(|r| r.role) {
            Some(Role::Leader) => {
                self.advance_commit(upto, out);
                self.tasks.feed_starved();
            }
            Some(Role::Follower) => self.view_upto(upto, true, out),
            Some(Role::Ended) | None => {}
        }
    }

    /// The shard ends, and goes on as another one when everything that is under way has come back.
    fn end(&mut self, ending: Ending, out: &mut Outbox) {
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        (r.role, r.doubt) = (Role::Ended, Doubt::GaveUp);
        r.ending = Some(ending);
        self.draining = true;
        self.refuse_all_waiting(out);
    }

    /// Whether the log is being cut just now.
    pub(super) fn is_cutting(&self) -> bool {
        self.replication.as_deref().is_some_and(|r| r.cutting)
    }

    /// Whether the shard is to be opened again.
    pub(super) fn has_ended(&self) -> bool {
        let ended = |r: &Replication| r.role == Role::Ended;
        self.replication.as_deref().is_some_and(ended)
    }

    /// What the driver is told when nothing of the shard is under way any more.
    pub(super) fn last_output(&mut self) -> Output {
        let ending = self
            .replication
            .as_deref_mut()
            .and_then(|r| r.ending.take());
        match ending {
            None => Output::Drained,
            Some(Ending::Reopen) => Output::Reopen,
            Some(Ending::Install(last)) => Output::Install(last),
        }
    }

    /// The disk has failed: the replica takes part in nothing more.
    pub(super) fn fence_replica(&mut self, out: &mut Outbox) {
        if let Some(r) = self.replication.as_deref_mut() {
            r.replica.step(0, Told::Failed, &mut r.said);
            r.doubt = Doubt::GaveUp;
            for say in r.said.drain() {
                if let Say::Report(report) = say {
                    out.push(Output::ReplicaReport(Box::new(report)));
                }
            }
        }
    }

    /// What the replica must know of a sync.
    pub(super) fn tell_durable(&mut self, now: Now, upto: Lsn, out: &mut Outbox) {
        self.tell_written(now, out);
        let id = self.replica().and_then(|replica| replica.id_at(upto));
        if let Some(id) = id {
            self.tell(now, Told::Durable(id), out);
        }
        self.begin_to_cut(out);
    }

    /// The first LSN that somebody still wants of the log, and so what can go at most. A follower that
    /// is far behind gets a snapshot instead.
    pub(super) fn wanted_by_none(&self, upto: Lsn) -> Lsn {
        let Some(r) = self.replication.as_deref() else {
            return upto;
        };
        if self.log.sealed_bytes() > LAG_FACTOR * self.config.hot_bytes {
            return upto;
        }
        upto.min(Lsn(r.replica.keep_from().0.saturating_sub(1)))
    }

    /// Tells the replica that the beginning of the log has gone.
    pub(super) fn log_was_trimmed(&mut self, out: &mut Outbox) {
        let base = Lsn(self.log.first_lsn().0 - 1);
        let now = Now::default();
        self.tell(now, Told::Trimmed(base), out);
    }
}

/// The log may grow to so many times what is to be hot for a follower that is behind.
const LAG_FACTOR: u64 = 4;
