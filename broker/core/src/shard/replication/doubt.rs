//! A leader that does not hear a majority: it serves no reads at once, and keeps nobody waiting for long.

use super::{Replication, Role};
use crate::input::Now;
use crate::output::Outbox;
use crate::shard::Shard;
use flowstone_wire::{ErrorCode, Failure};

/// A leader that is in doubt for so long sends its producers elsewhere: another one may lead by now.
const GIVE_UP_US: u64 = 2_000_000;

/// Since when a leader has been in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// What is committed here may be served: nobody else can have been appointed unheard of.
    None,
    /// Since this time, in microseconds of [`Now::mono_us`].
    Since(u64),
    /// For so long that nobody waits for it any more.
    GaveUp,
}

impl Shard {
    pub(super) fn set_doubt(&mut self, doubt: Doubt) {
        if let Some(r) = self.replication.as_deref_mut() {
            r.doubt = doubt;
        }
    }

    /// Whether a leader has not heard a majority for so long that it takes nothing more.
    pub(in crate::shard) fn gave_up(&self) -> bool {
        let gave_up = |r: &Replication| r.role == Role::Leader && r.doubt == Doubt::GaveUp;
        self.replication.as_deref().is_some_and(gave_up)
    }

    /// Answers those who wait for what may never be committed. What they sent stays in the log: whether it
    /// counts is decided when a majority is heard, here or elsewhere.
    pub(super) fn give_up_in_time(&mut self, now: Now, out: &mut Outbox) {
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        let Doubt::Since(since_us) = r.doubt else {
            return;
        };
        if r.role != Role::Leader || now.mono_us < since_us.saturating_add(GIVE_UP_US) {
            return;
        }
        r.doubt = Doubt::GaveUp;
        let what = "this node hears no majority, so the outcome is not known; send it again with the same \
                    sequence, to the leader";
        self.refuse_producers(what, out);
    }

    /// Answers producers that wait for what this leader cannot say.
    pub(super) fn refuse_producers(&mut self, what: &str, out: &mut Outbox) {
        let lost = Failure::new(ErrorCode::LeadershipLost, what);
        let written = self.wait_written.drain(..);
        for waiting in written.chain(self.wait_durable.drain(..)) {
            out.reply(waiting.ticket, Err(lost.clone()));
        }
    }
}
