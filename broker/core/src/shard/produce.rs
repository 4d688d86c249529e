//! Appending what producers send: check, number, stage.

use super::producers::Sequence;
use super::{Shard, Undurable, Waiting, unknown_partition};
use crate::input::{Now, Ticket};
use crate::output::{Outbox, Reply};
use flowstone_storage::Error;
use flowstone_storage::log::Appended;
use flowstone_wire::native::{Acks, ProduceAnswer};
use flowstone_wire::{CheckedBatch, ErrorCode, Failure, Lsn, PartitionId};

impl Shard {
    pub(super) fn produce(
        &mut self,
        now: Now,
        ticket: Option<Ticket>,
        partition: PartitionId,
        batch: CheckedBatch,
        acks: Acks,
        out: &mut Outbox,
    ) {
        if batch.header().producer_id.is_outbound() {
            let what =
                "this producer id is kept for tasks of other shards; take one from the broker";
            let failure = Failure::new(ErrorCode::InvalidRequest, what);
            if let Some(ticket) = ticket {
                out.reply(ticket, Err(failure));
            }
            return;
        }
        self.produce_checked(now, ticket, partition, batch, acks, out);
    }

    /// Appends what a task of another shard gave out.
    pub(super) fn deliver(
        &mut self,
        now: Now,
        ticket: Ticket,
        batch: CheckedBatch,
        out: &mut Outbox,
    ) {
        let partition = batch.header().producer_id.outbound_partition();
        self.produce_checked(now, Some(ticket), partition, batch, Acks::Durable, out);
    }

    fn produce_checked(
        &mut self,
        now: Now,
        ticket: Option<Ticket>,
        partition: PartitionId,
        batch: CheckedBatch,
        acks: Acks,
        out: &mut Outbox,
    ) {
        match self.try_produce(now, partition, batch, acks, out) {
            Ok((answer, lsn)) => {
                let Some(ticket) = ticket else { return };
                self.reply_at(
                    Waiting {
                        lsn,
                        ticket,
                        reply: Reply::Produced(answer),
                    },
                    acks,
                    out,
                );
            }
            Err(failure) => {
                if let Some(ticket) = ticket {
                    out.reply(ticket, Err(failure));
                }
            }
        }
    }

    fn try_produce(
        &mut self,
        now: Now,
        id: PartitionId,
        batch: CheckedBatch,
        acks: Acks,
        out: &mut Outbox,
    ) -> Result<(ProduceAnswer, Lsn), Failure> {
        self.check_open()?;
        let known = self.partitions.get(&id).is_some_and(|p| p.config.is_some());
        if !known {
            return Err(unknown_partition(id));
        }
        if let Sequence::Duplicate(base_offset, lsn) = self.producers.check(id, batch.header())? {
            return Ok((
                ProduceAnswer {
                    base_offset,
                    duplicate: true,
                },
                lsn,
            ));
        }
        self.admit(u64::from(batch.header().size), out)?;
        let appended = self.append(now, id, batch);
        if acks == Acks::Durable {
            self.urgent = self.urgent.max(appended.header.lsn);
        }
        let base_offset = appended.header.base_offset;
        let lsn = appended.header.lsn;
        self.tasks
            .notice(now, &self.partitions[&id].tasks, id, appended);
        Ok((
            ProduceAnswer {
                base_offset,
                duplicate: false,
            },
            lsn,
        ))
    }

    /// Whether so many bytes may be appended now; makes room for them.
    pub(super) fn admit(&mut self, bytes: u64, out: &mut Outbox) -> Result<(), Failure> {
        if self.undurable_bytes + bytes > self.config.pending_bytes {
            let what = format!(
                "{} bytes wait for the disk, the limit is {}; slow down and try again",
                self.undurable_bytes, self.config.pending_bytes
            );
            return Err(Failure::new(ErrorCode::Busy, what));
        }
        match self.log.make_room(bytes) {
            Ok(()) => Ok(()),
            Err(e @ Error::DiskFull { .. }) => {
                Err(Failure::new(ErrorCode::DiskFull, e.to_string()))
            }
            Err(e @ Error::GroupTooLarge { .. }) => {
                Err(Failure::new(ErrorCode::TooLarge, e.to_string()))
            }
            Err(e) => {
                self.fence(e.to_string(), out);
                Err(super::fenced_failure(&e.to_string()))
            }
        }
    }

    /// Appends a batch for which room was made, and keeps the books.
    pub(super) fn append(&mut self, now: Now, id: PartitionId, batch: CheckedBatch) -> Appended {
        let control = id == self.control_partition();
        let base_offset = if control {
            self.control_next
        } else {
            self.partitions
                .get(&id)
                .map_or(flowstone_wire::Offset(0), |p| p.next)
        };
        let appended = self.log.append(batch, id, base_offset);
        let header = &appended.header;
        let follows = self.epochs.push(header.epoch, header.lsn);
        debug_assert!(follows, "an epoch is begun above all that are in the log");
        if control {
            self.control_next = header.next_offset();
        } else if let Some(p) = self.partitions.get_mut(&id) {
            p.next = header.next_offset();
            if !std::mem::replace(&mut p.dirty, true) {
                self.materializer.dirty_partition(id);
            }
            if p.waits_for_disk() {
                self.urgent = self.urgent.max(header.lsn);
            }
            self.producers.note(header);
        }
        self.undurable.push_back(Undurable {
            lsn: header.lsn,
            partition: id,
            next_offset: header.next_offset(),
            bytes: header.size,
        });
        self.undurable_bytes += u64::from(header.size);
        self.materializer.appended(u64::from(header.size));
        self.sync_by_us
            .get_or_insert(now.mono_us + self.config.flush_us);
        appended
    }

    /// Replies when the log has reached the waiting LSN in the sense of `acks`.
    fn reply_at(&mut self, waiting: Waiting, acks: Acks, out: &mut Outbox) {
        let reached = match acks {
            Acks::None => true,
            Acks::Written => waiting.lsn <= self.log.written(),
            Acks::Durable => waiting.lsn <= self.committed(),
        };
        if reached {
            out.reply(waiting.ticket, Ok(waiting.reply));
            return;
        }
        let queue = match acks {
            Acks::Durable => {
                self.urgent = self.urgent.max(waiting.lsn);
                &mut self.wait_durable
            }
            _ => &mut self.wait_written,
        };
        // A retry of an older batch goes before the newer ones.
        let at = queue.partition_point(|w| w.lsn <= waiting.lsn);
        queue.insert(at, waiting);
    }

    /// Replies when this LSN is durable.
    pub(super) fn reply_when_durable(
        &mut self,
        lsn: Lsn,
        ticket: Ticket,
        reply: Reply,
        out: &mut Outbox,
    ) {
        self.reply_at(Waiting { lsn, ticket, reply }, Acks::Durable, out);
    }
}
