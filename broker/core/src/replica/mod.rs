//! The replication of one shard on one node, as a state machine: it decides, its driver carries out.
//!
//! The shape is that of Vertical Paxos II (Lamport, Malkhi, Zhou 2009) and PacificA (Lin et al. 2008):
//! a catalog outside, which is itself replicated, appoints an epoch, its leader and its set; the data
//! path needs no elections. `docs/decisions/0002-replication-core.md` has the hard parts and the
//! invariants, `rules.rs` the decisions, `message.rs` the words.
//!
//! ```text
//!                Appointed           enough have sealed,           start on a majority,
//!               (promise kept)       none is longer: Begin         noted by the catalog
//!        Idle ----------------> Sealing ---------------> Leading: starting -------> active
//!         ^ ^                      |                        |                         |
//!         | +----------------------+------------------------+-------------------------+
//!         |      a higher epoch is heard of: Retire
//!         |
//!         |  Follow (promise kept)        departs                  cut is durable
//!         +-----------------------> Idle ---------> Idle, cutting ----------------> Following
//!                                     |                                                 ^
//!                                     +---- lacks what the leader has no more: Snapshot-+
//! ```
//!
//! The driver's contract:
//!
//! - outputs are carried out in order and to the end before the next step; those that are answered
//!   later are answered once, in the order they were given out, or never if the process ends;
//! - [`Input::Written`] tells every append between [`Output::Begin`] and [`Output::Retire`], and there
//!   are no others but those of [`Output::Append`];
//! - everything that was told as durable is found by the next start, or [`ReplicaStart::me`] is
//!   another life, which the catalog must know of before it is a member again;
//! - messages may be lost, doubled, late and in any order.
//!
//! Times are of a clock that never goes back while the process lives; two nodes' clocks are never
//! compared, and no clock decides about safety.

mod config;
mod epochs;
mod follow;
mod input;
mod lead;
mod limits;
mod message;
mod output;
mod progress;
mod promise;
mod rules;
mod seal;
mod tail;
mod watch;

pub use config::{Config, Member, commit_quorum, seal_quorum};
pub use epochs::{Departure, EpochStart, EpochTable, LogId, Span};
pub use input::{Input, Promise, ReplicaStart};
pub use limits::Limits;
pub use message::{Envelope, Header, Message, Standing};
pub use output::{Ask, Asked, Fault, FollowerReport, Outbox, Output, Phase, Report};

use flowstone_wire::{ConfigVersion, Epoch, Lsn, ShardId};
use follow::Following;
use lead::Lead;
use promise::Held;
use rules::Rules;
use seal::Seal;
use tail::Tail;

/// What the replica does.
#[derive(Debug)]
enum Role {
    Idle,
    Sealing(Seal),
    Leading(Lead),
    Following(Following),
    Stopped,
}

/// What the disk does that the log must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    Cutting,
    Installing,
}

/// The replica of a shard on this node. See the module.
#[derive(Debug)]
pub struct Replica {
    shard: ShardId,
    me: Member,
    limits: Limits,
    rules: Rules,
    log: Tail,
    /// The last promise given. Never goes down. `kept <= promised`.
    promised: Option<Promise>,
    /// Promises up to this epoch are durable.
    kept: Epoch,
    /// The newest configuration that was heard of from the catalog.
    config: Option<Config>,
    /// The highest epoch and version on any message.
    heard: (Epoch, ConfigVersion),
    /// While the disk is busy nothing is appended.
    busy: Busy,
    /// What is done when the promise is kept and the disk is not busy.
    held: Option<Held>,
    role: Role,
    /// Everything up to here is committed. Never goes down, and the log is never cut below it.
    committed: Lsn,
    /// The time of this step.
    now_us: u64,
    report_at_us: u64,
    ask_at_us: u64,
}

impl Replica {
    /// The replica as a start of its node finds it.
    ///
    /// # Errors
    /// [`Fault::BadStart`] if the spans are not one log above the base, or end below what is committed.
    pub fn new(shard: ShardId, limits: Limits, start: ReplicaStart) -> Result<Self, Fault> {
        let log = Tail::recovered(start.base, &start.spans, limits.chunk_bytes);
        let log = log.filter(|log| start.committed <= log.end());
        let log = log.ok_or(Fault::BadStart(start.committed))?;
        let kept = start.promise.map_or(Epoch(0), |p| p.epoch);
        Ok(Self {
            shard,
            me: start.me,
            limits,
            rules: Rules::default(),
            // What is gone from the log was committed.
            committed: start.committed.max(log.base().lsn),
            log,
            promised: start.promise,
            kept,
            config: None,
            heard: (kept, ConfigVersion(0)),
            busy: Busy::No,
            held: None,
            role: Role::Idle,
            now_us: 0,
            report_at_us: 0,
            ask_at_us: 0,
        })
    }

    /// Takes one input. See the module for the contract.
    pub fn step(&mut self, now_us: u64, input: Input, out: &mut Outbox) {
        self.now_us = self.now_us.max(now_us);
        if matches!(self.role, Role::Stopped) {
            return;
        }
        // A process that slept must not serve before it has looked at the clock.
        self.look_for_doubt(out);
        match input {
            Input::Appointed(config) => self.appointed(config, out),
            Input::Activated(epoch) => self.activated(epoch, out),
            Input::Received(envelope) => self.receive(envelope, out),
            Input::Written(span) => self.written(span, out),
            Input::Durable(id) => self.durable(id, out),
            Input::Persisted(epoch) => self.persisted(epoch, out),
            Input::CutDone(last) => self.cut_done(last, out),
            Input::Installed(last) => self.installed(last, out),
            Input::SnapshotEnded(to) => self.snapshot_ended(to, out),
            Input::Trimmed(base) => self.trimmed(base, out),
            Input::Failed => self.stop(out),
            Input::Tick => {}
        }
        self.look_at_clock(out);
        self.look_for_doubt(out);
    }

    /// What this node does.
    pub fn phase(&self) -> Phase {
        match &self.role {
            Role::Idle => Phase::Idle,
            Role::Sealing(_) => Phase::Sealing,
            Role::Leading(lead) if lead.is_active() => Phase::Leading,
            Role::Leading(_) => Phase::Starting,
            Role::Following(_) => Phase::Following,
            Role::Stopped => Phase::Stopped,
        }
    }

    /// This node and the life of its data.
    pub fn me(&self) -> Member {
        self.me
    }

    /// What names the entry at this place; `None` where the log has none.
    pub fn id_at(&self, lsn: Lsn) -> Option<LogId> {
        let epoch = self.log.epochs().epoch_at(lsn)?;
        (lsn <= self.log.end()).then_some(LogId { epoch, lsn })
    }

    /// The newest configuration that was heard of.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// Everything up to here is committed, as far as is known here, and readers may see it.
    pub fn committed(&self) -> Lsn {
        self.committed
    }

    /// Whether committed reads and acks may be served as a leader: it is active, its own epoch has
    /// begun to commit, so that nothing committed is missed, and a majority was heard lately.
    pub fn is_sure(&self) -> bool {
        matches!(&self.role, Role::Leading(lead) if lead.is_sure())
    }

    /// Up to when a majority has confirmed that this node leads an active epoch, on its own clock in
    /// microseconds; `None` where it does not.
    pub fn confirmed_us(&self) -> Option<u64> {
        match &self.role {
            Role::Leading(lead) if lead.is_active() => Some(lead.confirmed_us(self)),
            _ => None,
        }
    }

    /// The first LSN that some follower still wants of this leader's log: what is trimmed beyond makes
    /// a snapshot of what could be a stream.
    pub fn keep_from(&self) -> Lsn {
        match &self.role {
            Role::Leading(lead) => lead.keep_from(self),
            _ => self.committed.next(),
        }
    }

    fn receive(&mut self, envelope: Envelope, out: &mut Outbox) {
        let Envelope { header, message } = envelope;
        if header.shard != self.shard || !self.rules.is_same(header.to, self.me) {
            return;
        }
        let promised = self.promised_epoch();
        if message.is_of_leader() && self.rules.is_refused(header.epoch, promised) {
            return self.send(promised, header.from, Message::Refused, out);
        }
        self.hear_of(header.epoch, header.version, out);
        match message {
            Message::Seal | Message::Follow { .. } => {
                self.promise(header, Held::Message(Envelope { header, message }), out);
            }
            Message::Append {
                span,
                committed,
                sent_us,
            } => self.append(header, span, committed, sent_us, out),
            Message::Snapshot { last } => self.snapshot(header, last, out),
            Message::Sealed { end } => self.sealed(header, end, out),
            Message::Ack {
                standing,
                written,
                durable,
                echo_us,
            } => {
                let ack = progress::Ack {
                    standing,
                    written,
                    durable,
                    echo_us,
                };
                self.acked(header, ack, out);
            }
            Message::Refused => {}
        }
    }

    /// Notes what others know: a leader of a lower epoch is no leader any more.
    fn hear_of(&mut self, epoch: Epoch, version: ConfigVersion, out: &mut Outbox) {
        if (epoch, version) > self.heard {
            self.ask_at_us = self.now_us;
        }
        self.heard = (self.heard.0.max(epoch), self.heard.1.max(version));
        if self.led_epoch().is_some_and(|led| led < epoch) {
            self.retire(out);
        }
    }

    /// The epoch that this node seals for or leads in.
    fn led_epoch(&self) -> Option<Epoch> {
        match &self.role {
            Role::Sealing(seal) => Some(seal.epoch()),
            Role::Leading(lead) => Some(lead.epoch()),
            Role::Idle | Role::Following(_) | Role::Stopped => None,
        }
    }

    /// Ends whatever this node does for an epoch.
    fn retire(&mut self, out: &mut Outbox) {
        if matches!(self.role, Role::Leading(_)) {
            out.push(Output::Retire);
        }
        self.role = Role::Idle;
    }

    fn stop(&mut self, out: &mut Outbox) {
        self.retire(out);
        self.held = None;
        self.role = Role::Stopped;
    }

    fn durable(&mut self, id: LogId, out: &mut Outbox) {
        if !self.rules.is_of_log(self.log.has(id)) {
            return;
        }
        self.log.set_durable(id.lsn);
        match &self.role {
            Role::Leading(_) => self.advance(out),
            Role::Following(_) => self.follower_durable(out),
            Role::Idle | Role::Sealing(_) | Role::Stopped => {}
        }
    }

    fn trimmed(&mut self, base: Lsn, out: &mut Outbox) {
        if base > self.committed || base > self.log.end() {
            out.push(Output::Fault(Fault::BadTrim(base)));
            return self.stop(out);
        }
        // It was settled from the device, so it is there, even if the word of that is still on its way.
        self.log.set_durable(base);
        self.log.trim(base);
    }

    /// Notes that everything up to here is committed.
    fn commit(&mut self, upto: Lsn, out: &mut Outbox) {
        if upto > self.committed {
            self.committed = upto;
            out.push(Output::Committed(upto));
        }
    }

    fn version(&self) -> ConfigVersion {
        self.config.as_ref().map_or(ConfigVersion(0), |c| c.version)
    }

    fn promised_epoch(&self) -> Epoch {
        self.promised.map_or(Epoch(0), |p| p.epoch)
    }

    fn header(&self, epoch: Epoch, to: Member) -> Header {
        Header {
            shard: self.shard,
            epoch,
            version: self.version(),
            from: self.me,
            to,
        }
    }

    fn send(&self, epoch: Epoch, to: Member, message: Message, out: &mut Outbox) {
        let header = self.header(epoch, to);
        out.push(Output::Send(Envelope { header, message }));
    }
}

#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
mod tests;
