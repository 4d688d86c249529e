//! A leader: how it begins, what it tells its replica, and how it ends.

use super::doubt::Doubt;
use super::{Ending, Role};
use crate::input::Now;
use crate::output::{Outbox, Output};
use crate::replica::{Input as Told, Span};
use crate::shard::Shard;
use crate::shard::control::ControlRecord;
use flowstone_wire::{Epoch, ErrorCode, Failure, Lsn};

impl Shard {
    /// Leads from now on: the rest of the log comes into the view, and the epoch begins with an entry of
    /// its own.
    pub(super) fn begin(&mut self, now: Now, epoch: Epoch, out: &mut Outbox) {
        let end = self.log.written();
        self.view_upto(end, false, out);
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        (r.role, r.told) = (Role::Leader, end);
        // Until the epoch has begun to commit.
        r.doubt = Doubt::Since(now.mono_us);
        self.log.set_epoch(epoch);
        // What is not committed may be visible where a topic wants that.
        for p in self.partitions.values_mut() {
            p.written = p.next;
        }
        self.told_written = end;
        self.distrust_tier();
        // Positions above what is committed are told when they are.
        self.groups.read_when(end);
        let start = ControlRecord::EpochStart(epoch).to_batch(now.unix_ms);
        let start = start.expect("a record of a few bytes fits a batch");
        if let Err(failure) = self.log.make_room(u64::from(start.header().size)) {
            out.push(Output::Report(format!(
                "shard {} cannot begin epoch {epoch}, and is opened again: {failure}",
                self.id
            )));
            return self.end(Ending::Reopen, out);
        }
        let appended = self.append(now, self.control_partition(), start);
        self.urgent = appended.header.lsn;
        self.flush(now, out);
        self.tasks.wake_all();
        self.ask_for_sync(now, out);
    }

    /// Tells the replica what was written since it was told last.
    pub(in crate::shard) fn tell_written(&mut self, now: Now, out: &mut Outbox) {
        let written = self.log.written();
        let epoch = self.log.epoch();
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        if r.role != Role::Leader || written <= r.told {
            return;
        }
        let first = std::mem::replace(&mut r.told, written).next();
        let new = self.undurable.iter().rev().take_while(|u| u.lsn >= first);
        let bytes = new.filter(|u| u.lsn <= written).map(|u| u64::from(u.bytes));
        let span = Span {
            epoch,
            first,
            last: written,
            bytes: bytes.sum(),
        };
        self.tell(now, Told::Written(span), out);
    }

    /// Leads no more. What was appended is undecided.
    pub(super) fn retire(&mut self, out: &mut Outbox) {
        self.end(Ending::Reopen, out);
    }

    /// Answers everybody who waits for something that this leader cannot say any more.
    pub(super) fn refuse_all_waiting(&mut self, out: &mut Outbox) {
        let what = "this node stopped leading before the outcome was known; send it again with the same \
                    sequence, to the leader";
        self.refuse_producers(what, out);
        let what = format!("this node does not lead shard {} any more", self.id);
        let moved = Failure::new(ErrorCode::NotLeader, what);
        for p in self.partitions.values_mut() {
            for want in p.waiting.drain(..) {
                out.reply(want.ticket, Err(moved.clone()));
            }
        }
        self.polls.clear();
        self.undurable.clear();
        self.undurable_bytes = 0;
        self.urgent = Lsn(0);
        self.sync_by_us = None;
    }
}
