//! Named positions: a consumer group and the offsets it has committed.

use super::Shard;
use super::control::ControlRecord;
use crate::input::{Now, Ticket};
use crate::output::{Outbox, Reply};
use flowstone_wire::native::GroupOffset;
use flowstone_wire::{ErrorCode, Failure, Lsn, Offset, PartitionId, limits};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A position; also its row in the state store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) note: String,
}

/// A group and a partition.
pub(super) type Key = (String, PartitionId);

/// All positions of the shard.
#[derive(Debug, Default)]
pub(super) struct Groups {
    positions: BTreeMap<Key, Position>,
    /// LSN of the last position that may not be durable yet.
    last: Lsn,
    dirty: BTreeSet<Key>,
}

impl Groups {
    pub(super) fn note(&mut self, group: &str, offsets: Vec<GroupOffset>) {
        for o in offsets {
            let key = (group.to_string(), o.partition);
            self.dirty.insert(key.clone());
            self.positions.insert(
                key,
                Position {
                    offset: o.offset,
                    note: o.note,
                },
            );
        }
    }

    /// Nothing is read before this LSN is durable.
    pub(super) fn read_when(&mut self, durable: Lsn) {
        self.last = durable;
    }

    pub(super) fn load(&mut self, key: Key, position: Position) {
        self.positions.insert(key, position);
    }

    pub(super) fn read(&self, group: &str, partitions: &[PartitionId]) -> Vec<GroupOffset> {
        let of_group = self.positions.range((group.to_string(), PartitionId(0))..);
        of_group
            .take_while(|((g, _), _)| g == group)
            .filter(|((_, p), _)| partitions.is_empty() || partitions.contains(p))
            .map(|((_, partition), position)| GroupOffset {
                partition: *partition,
                offset: position.offset,
                note: position.note.clone(),
            })
            .collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.positions.keys().map(|(g, _)| g).collect();
        names.into_iter().cloned().collect()
    }

    pub(super) fn forget_partition(&mut self, partition: PartitionId) {
        let gone: Vec<Key> = self
            .positions
            .keys()
            .filter(|(_, p)| *p == partition)
            .cloned()
            .collect();
        for key in gone {
            self.positions.remove(&key);
            self.dirty.insert(key);
        }
    }

    /// Takes the rows that changed since the last call; `None` for one that is gone.
    pub(super) fn take_dirty(&mut self) -> Vec<(Key, Option<Position>)> {
        let keys = std::mem::take(&mut self.dirty);
        keys.into_iter()
            .map(|k| {
                let p = self.positions.get(&k).cloned();
                (k, p)
            })
            .collect()
    }
}

impl Shard {
    pub(super) fn commit_offsets(
        &mut self,
        now: Now,
        ticket: Ticket,
        group: String,
        offsets: Vec<GroupOffset>,
        out: &mut Outbox,
    ) {
        match self.try_commit(now, group, offsets, out) {
            Ok(lsn) => self.reply_when_durable(lsn, ticket, Reply::Committed, out),
            Err(failure) => out.reply(ticket, Err(failure)),
        }
    }

    /// Answers when what is read is durable: a position that can vanish is not told.
    pub(super) fn read_offsets(
        &mut self,
        ticket: Ticket,
        group: &str,
        partitions: &[PartitionId],
        out: &mut Outbox,
    ) {
        let last = self.groups.last;
        if let Some(reason) = self.fenced.as_ref().filter(|_| last > self.committed()) {
            return out.reply(ticket, Err(super::fenced_failure(reason)));
        }
        let reply = Reply::Offsets(self.groups.read(group, partitions));
        self.reply_when_durable(last, ticket, reply, out);
    }

    fn try_commit(
        &mut self,
        now: Now,
        group: String,
        offsets: Vec<GroupOffset>,
        out: &mut Outbox,
    ) -> Result<Lsn, Failure> {
        self.check_open()?;
        for o in &offsets {
            let Some(p) = self
                .partitions
                .get(&o.partition)
                .filter(|p| p.config.is_some())
            else {
                return Err(super::unknown_partition(o.partition));
            };
            if o.offset > p.next {
                let what = format!(
                    "group position {} of partition {} is behind its end {}",
                    o.offset, o.partition, p.next
                );
                return Err(Failure::new(ErrorCode::OffsetOutOfRange, what));
            }
            if o.note.len() > limits::OFFSET_NOTE_BYTES_MAX {
                let what = "the note of a group position is longer than 1 KiB";
                return Err(Failure::new(ErrorCode::TooLarge, what));
            }
        }
        let record = ControlRecord::GroupOffsets {
            group: group.clone(),
            offsets: offsets.clone(),
        };
        let batch = record.to_batch(now.unix_ms).ok_or_else(|| {
            Failure::new(
                ErrorCode::TooLarge,
                "too many group positions in one commit",
            )
        })?;
        self.admit(u64::from(batch.header().size), out)?;
        let appended = self.append(now, self.control_partition(), batch);
        self.groups.note(&group, offsets);
        self.groups.last = appended.header.lsn;
        self.urgent = self.urgent.max(appended.header.lsn);
        Ok(appended.header.lsn)
    }
}
