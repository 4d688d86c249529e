//! A follower: the log is what the leader sends, the view is what of it is committed.

use super::{Ending, Role};
use crate::input::Now;
use crate::output::{Outbox, Output};
use crate::replica::Input as Told;
use crate::shard::open::View;
use crate::shard::{Shard, Undurable};
use bytes::Bytes;
use flowstone_storage::Error;
use flowstone_storage::log::{CheckedCopy, CutLog};
use flowstone_wire::{BatchHeader, Lsn, PartitionId, batch};
use std::mem::take;

impl Shard {
    /// Appends what of a message the replica wants: what is not below this LSN.
    pub(super) fn append_copy(&mut self, now: Now, copy: CheckedCopy, from: Lsn, out: &mut Outbox) {
        if let Err(e) = self.log.append_copy(copy, from) {
            // The replica believes that it is there: both begin again, from what is on the disk.
            out.push(Output::Report(format!(
                "shard {} cannot take what its leader sends, and is opened again: {e}",
                self.id
            )));
            return self.end(Ending::Reopen, out);
        }
        self.told_written = self.log.written();
        // A leader waits for it.
        self.urgent = self.log.written();
        self.ask_for_sync(now, out);
    }

    /// Takes the log up to here into the view.
    pub(super) fn view_upto(&mut self, upto: Lsn, committed: bool, out: &mut Outbox) {
        let Some(viewed) = self.replication.as_deref().map(|r| r.viewed) else {
            return;
        };
        if upto <= viewed {
            return;
        }
        let slices = match self.log.slices(viewed.next(), upto) {
            Ok(slices) => slices,
            Err(e) => return self.fence(e.to_string(), out),
        };
        for slice in slices {
            if let Err(what) = self.view_slice(slice, committed) {
                return self.fence(what, out);
            }
        }
        if let Some(r) = self.replication.as_deref_mut() {
            r.viewed = upto;
        }
    }

    fn view_slice(&mut self, mut rest: Bytes, committed: bool) -> Result<(), String> {
        let mut view = self.take_view();
        let control = self.control_partition();
        let mut found = Ok(());
        while !rest.is_empty() && found.is_ok() {
            found = match batch::verify(&rest) {
                Ok(header) => {
                    let bytes = rest.split_to(header.size as usize);
                    self.note_new(&mut view, &header, committed);
                    view.take_batch(control, &header, &bytes);
                    if committed && let Some(p) = view.partitions.get_mut(&header.partition) {
                        (p.committed, p.written) = (p.next, p.next);
                    }
                    view.unreadable.clone().map_or(Ok(()), Err)
                }
                Err(e) => Err(format!("the log cannot be read: {e}")),
            };
        }
        self.give_view(view);
        found
    }

    /// Keeps the books of a batch that comes into the view.
    fn note_new(&mut self, view: &mut View, header: &BatchHeader, committed: bool) {
        let bytes = u64::from(header.size);
        self.materializer.appended(bytes);
        let is_dirty = |p: &PartitionId| view.partitions.get(p).is_some_and(|p| p.dirty);
        if !header.partition.is_control() && !is_dirty(&header.partition) {
            self.materializer.dirty_partition(header.partition);
        }
        if !committed {
            self.undurable_bytes += bytes;
            self.undurable.push_back(Undurable {
                lsn: header.lsn,
                partition: header.partition,
                next_offset: header.next_offset(),
                bytes: header.size,
            });
        }
    }

    fn take_view(&mut self) -> View {
        View {
            shard: self.id,
            partitions: take(&mut self.partitions),
            producers: take(&mut self.producers),
            groups: take(&mut self.groups),
            tasks: take(&mut self.tasks),
            outbound: take(&mut self.outbound),
            control_next: self.control_next,
            epochs: take(&mut self.epochs),
            unreadable: None,
        }
    }

    fn give_view(&mut self, view: View) {
        self.partitions = view.partitions;
        self.producers = view.producers;
        self.groups = view.groups;
        self.tasks = view.tasks;
        self.outbound = view.outbound;
        self.control_next = view.control_next;
        self.epochs = view.epochs;
    }

    /// Has the log cut, when no sync is under way.
    pub(super) fn cut(&mut self, last: Lsn, out: &mut Outbox) {
        if let Some(r) = self.replication.as_deref_mut() {
            r.to_cut = Some(last);
        }
        self.begin_to_cut(out);
    }

    pub(super) fn begin_to_cut(&mut self, out: &mut Outbox) {
        let Some(r) = self.replication.as_deref_mut() else {
            return;
        };
        if self.sync_out || r.role == Role::Ended {
            return;
        }
        let Some(last) = r.to_cut.take() else { return };
        r.cutting = true;
        self.marked = self.marked.min(last);
        match self.log.cut_job(last) {
            Ok(job) => out.push(Output::Cut(Box::new(job))),
            Err(e) => self.fence(e.to_string(), out),
        }
    }

    pub(super) fn cut_done(&mut self, now: Now, result: Result<CutLog, Error>, out: &mut Outbox) {
        let done = result.and_then(|cut| self.log.cut_done(cut));
        if let Err(e) = done {
            return self.fence(format!("the log could not be cut: {e}"), out);
        }
        if let Some(r) = self.replication.as_deref_mut() {
            r.cutting = false;
            r.told = self.log.written();
        }
        self.told_written = self.log.written();
        self.urgent = self.urgent.min(self.log.written());
        self.tell(now, Told::CutDone(self.log.written()), out);
    }
}
