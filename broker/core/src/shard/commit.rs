//! From staged to written to durable, and who is told on the way.

use super::{Shard, Waiting};
use crate::input::Now;
use crate::output::{Outbox, Output};
use flowstone_storage::{DiskFile, Error};
use flowstone_wire::native::Visibility;
use flowstone_wire::{Lsn, PartitionId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Undurable bytes from which a sync is worth it although nobody waits: writing far ahead of the
/// disk is throttled by the kernel.
const SYNC_BYTES: u64 = 4 << 20;
/// The mark is behind the log by no more than this while something is written.
const MARK_EVERY_US: u64 = 1_000_000;
/// After a full disk a new segment is asked for this often.
const SPARE_RETRY_US: u64 = 500_000;

impl Shard {
    /// Writes what is staged and answers those who waited for that.
    pub(super) fn flush(&mut self, now: Now, out: &mut Outbox) {
        let written = match self.log.flush() {
            Ok(written) => written,
            Err(e) => return self.fence(e.to_string(), out),
        };
        // A roll in between may have written without anybody being told.
        let before = std::mem::replace(&mut self.told_written, written);
        if written == before {
            return;
        }
        answer(&mut self.wait_written, written, out);
        // Only readers of topics whose visibility is `written` see more now.
        let first = self.undurable.partition_point(|u| u.lsn <= before);
        let mut woken: BTreeSet<PartitionId> = BTreeSet::new();
        for u in self.undurable.range(first..) {
            let Some(p) = self.partitions.get_mut(&u.partition) else {
                continue;
            };
            p.written = u.next_offset;
            let sees = p
                .config
                .as_ref()
                .is_some_and(|c| c.visibility == Visibility::Written);
            if sees && !p.waiting.is_empty() {
                woken.insert(u.partition);
            }
        }
        for partition in woken {
            self.wake_readers(partition, out);
        }
        self.tell_written(now, out);
    }

    pub(super) fn ask_for_sync(&mut self, now: Now, out: &mut Outbox) {
        let durable = self.log.durable();
        let idle = self.fenced.is_none() && !self.is_held_up();
        if self.sync_out || !idle || self.log.written() == durable {
            return;
        }
        let due = self.sync_by_us.is_some_and(|by| now.mono_us >= by);
        let wanted = self.urgent > durable || self.undurable_bytes >= SYNC_BYTES;
        if (wanted || due || self.draining)
            && let Some(job) = self.log.sync_job()
        {
            self.sync_out = true;
            out.push(Output::Sync(job));
        }
    }

    pub(super) fn synced(
        &mut self,
        now: Now,
        upto: Lsn,
        result: Result<(), String>,
        out: &mut Outbox,
    ) {
        self.sync_out = false;
        if let Err(e) = result {
            let reason = format!("sync of the shard log failed: {e}");
            return self.fence(reason, out);
        }
        if self.fenced.is_some() {
            return;
        }
        self.log.synced(upto);
        if self.replication.is_some() {
            self.tell_durable(now, upto, out);
        } else {
            self.advance_commit(upto, out);
        }
        self.tasks.feed_starved();
        self.sync_by_us =
            (!self.undurable.is_empty()).then_some(now.mono_us + self.config.flush_us);
        self.ask_for_sync(now, out);
        self.ask_for_materialize(out);
        self.finish_drain(out);
    }

    /// Everything up to here is committed. Answers producers and wakes readers.
    pub(super) fn advance_commit(&mut self, upto: Lsn, out: &mut Outbox) {
        answer(&mut self.wait_durable, upto, out);
        let mut woken: BTreeSet<PartitionId> = BTreeSet::new();
        while let Some(u) = self.undurable.front() {
            if u.lsn > upto {
                break;
            }
            self.undurable_bytes -= u64::from(u.bytes);
            if let Some(p) = self.partitions.get_mut(&u.partition) {
                p.committed = u.next_offset;
                if !p.waiting.is_empty() {
                    woken.insert(u.partition);
                }
            }
            self.undurable.pop_front();
        }
        for partition in woken {
            self.wake_readers(partition, out);
        }
    }

    /// Has the mark follow the log, now and then: what lies above it and is damaged looks like a torn
    /// tail. With every sync it would cost a second file's sync.
    pub(super) fn ask_for_mark(&mut self, now: Now, out: &mut Outbox) {
        let durable = self.log.durable();
        // A log that is to be cut must not be called durable behind the cut.
        let idle = self.fenced.is_none() && !self.is_held_up();
        if self.marked < durable && now.mono_us >= self.mark_after_us && idle {
            self.marked = durable;
            self.mark_after_us = now.mono_us + MARK_EVERY_US;
            out.push(Output::Mark(durable));
        }
    }

    pub(super) fn ask_for_spare(&mut self, now: Now, out: &mut Outbox) {
        let wanted =
            self.log.wants_spare() && !self.spare_out && now.mono_us >= self.spare_after_us;
        if wanted && self.fenced.is_none() && !self.draining {
            self.spare_out = true;
            let (disk, dir, config) = self.log.spare_request();
            out.push(Output::AllocateSpare(disk, dir, config));
        }
    }

    pub(super) fn spare(&mut self, now: Now, result: Result<Arc<dyn DiskFile>, Error>) {
        self.spare_out = false;
        match result {
            Ok(file) => self.log.give_spare(file),
            // The next roll tries by itself and tells the producer; here it is only too early.
            Err(_) => self.spare_after_us = now.mono_us + SPARE_RETRY_US,
        }
    }
}

/// Answers those whose LSN is reached.
fn answer(queue: &mut VecDeque<Waiting>, upto: Lsn, out: &mut Outbox) {
    while queue.front().is_some_and(|w| w.lsn <= upto) {
        let Some(Waiting { ticket, reply, .. }) = queue.pop_front() else {
            return;
        };
        out.reply(ticket, Ok(reply));
    }
}
