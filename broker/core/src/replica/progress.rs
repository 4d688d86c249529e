//! What a leader knows of one follower, and what it sends it next.

use super::config::Member;
use super::epochs::{EpochTable, Span};
use super::limits::Limits;
use super::message::{Message, Standing};
use super::tail::Tail;
use flowstone_wire::Lsn;

/// What a follower has said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) standing: Standing,
    pub(super) written: Lsn,
    pub(super) durable: Lsn,
    pub(super) echo_us: u64,
}

/// What the leader does with a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It asks it to follow.
    Attach,
    /// It streams.
    Stream,
    /// A snapshot is on the way.
    Snapshot,
}

/// A follower, as its leader knows it.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) member: Member,
    /// Whether it is a member, and not a learner.
    pub(super) is_member: bool,
    pub(super) mode: Mode,
    /// The first LSN to send. Everything below was sent or is there.
    next: Lsn,
    /// What the last answer called written, and the newest time it had heard of. Only hints.
    written: Lsn,
    heard_of_us: u64,
    /// The highest LSN it has told to be durable in this epoch. Its log is the leader's up to there.
    pub(super) durable: Lsn,
    /// It was heard at this time or later.
    pub(super) heard_us: u64,
    /// Whether it was heard at all.
    pub(super) is_heard: bool,
    /// When something was sent last; `None` to have something said at once.
    sent_us: Option<u64>,
    /// When entries were sent last.
    streamed_us: u64,
    /// When it last got on, or was sent again what it lacked.
    moved_us: u64,
}

impl Progress {
    pub(super) fn new(member: Member, is_member: bool, now_us: u64) -> Self {
        Self {
            member,
            is_member,
            mode: Mode::Attach,
            next: Lsn(1),
            written: Lsn(0),
            heard_of_us: 0,
            durable: Lsn(0),
            heard_us: now_us,
            is_heard: false,
            sent_us: None,
            streamed_us: now_us,
            moved_us: now_us,
        }
    }

    /// Takes an answer of this epoch and life; says whether a snapshot is wanted.
    pub(super) fn take(&mut self, ack: Ack, log: &Tail, now_us: u64) -> bool {
        match ack.standing {
            Standing::Astray => {
                if self.mode == Mode::Stream {
                    self.attach();
                }
                false
            }
            Standing::Lacking => {
                self.written = Lsn(0);
                self.mode != Mode::Snapshot
            }
            Standing::Following => {
                self.follow(ack, now_us);
                self.mode == Mode::Stream && self.next <= log.base().lsn
            }
        }
    }

    fn follow(&mut self, ack: Ack, now_us: u64) {
        if ack.written > self.written || ack.durable > self.durable {
            self.moved_us = now_us;
        }
        // A snapshot that is on the way is of no use once the follower has more without it.
        let arrived = self.mode == Mode::Snapshot && ack.written > self.written;
        if self.mode == Mode::Attach || arrived {
            self.mode = Mode::Stream;
            self.next = ack.written.next();
            self.moved_us = now_us;
        }
        self.written = ack.written;
        self.heard_of_us = ack.echo_us;
        self.durable = self.durable.max(ack.durable);
        self.next = self.next.max(ack.written.next());
    }

    /// The next piece to send, within the window.
    pub(super) fn next_span(&mut self, log: &Tail, limits: &Limits, now_us: u64) -> Option<Span> {
        if self.mode != Mode::Stream {
            return None;
        }
        let span = log.span_from(self.next)?;
        let sent = Lsn(span.first.0 - 1);
        let in_flight = log.bytes_between(self.durable, sent);
        if in_flight > 0 && in_flight + span.bytes > limits.window_bytes {
            return None;
        }
        self.next = span.last.next();
        (self.streamed_us, self.sent_us) = (now_us, Some(now_us));
        Some(span)
    }

    /// Goes back to what is not there: if something that was sent after it has come, or if the
    /// follower has not got on for long.
    pub(super) fn rewind(&mut self, now_us: u64, limits: &Limits) {
        let passed = self.heard_of_us > self.streamed_us;
        let stuck = now_us.saturating_sub(self.moved_us) >= limits.resend_us;
        let from = self.written.max(self.durable).next();
        if self.mode == Mode::Stream && (passed || stuck) && self.next > from {
            self.next = from;
            self.moved_us = now_us;
        }
    }

    /// What to say although nothing has happened.
    pub(super) fn word(
        &mut self,
        epochs: &EpochTable,
        committed: Lsn,
        now_us: u64,
        limits: &Limits,
    ) -> Option<Message> {
        let after_us = match self.mode {
            Mode::Attach => limits.resend_us,
            Mode::Stream | Mode::Snapshot => limits.heartbeat_us,
        };
        if self.sent_us.is_some_and(|at| now_us < at + after_us) {
            return None;
        }
        let sent_us = now_us;
        self.sent_us = Some(now_us);
        Some(match self.mode {
            Mode::Attach => Message::Follow {
                epochs: epochs.clone(),
                sent_us,
            },
            Mode::Stream | Mode::Snapshot => Message::Append {
                span: None,
                committed,
                sent_us,
            },
        })
    }

    /// Asks to follow again, as soon as may be.
    pub(super) fn attach(&mut self) {
        self.mode = Mode::Attach;
        self.sent_us = None;
    }
}
