//! What changes in the state store, collected until the log up to there is durable.
//!
//! Keys of the state store, by their first byte (numbers big-endian, so that keys sort):
//!
//! ```text
//! p partition(4)                      PartitionRow
//! i producer(8) partition(4)          ProducerState
//! g group 0 partition(4)              Position
//! s                                   number(2) of the shard that the rows belong to
//! c                                   next offset of the internal partition
//! e                                   EpochTable: where each epoch begins
//! t pipeline(4) key                   entry of a task's state, as the processor names it
//! d pipeline(4) lsn(8)                a task's delta that is not folded into `t` yet
//! o producer(8)                       sequence(4) of the next record of a lane to another shard
//! h partition(4) offset(8)            end(8) of an accepted gap
//! x producer(8) lsn(8)                a batch that is not known to be on the other shard yet
//! ```

use super::producers::{self, ProducerState};
use super::{Shard, groups};
use crate::output::{Outbox, Output};
use flowstone_storage::state::Change;
use flowstone_wire::native::GroupOffset;
use flowstone_wire::{Lsn, Offset, PartitionId, ProducerId};
use serde::Serialize;

/// Changes on their way to the state store.
#[derive(Debug, Default)]
pub(super) struct Materializer {
    dirty_partitions: Vec<PartitionId>,
    removed_partitions: Vec<PartitionId>,
    /// Starts of partitions in the picture that is on its way.
    starts: Vec<(PartitionId, Offset)>,
    bytes_since: u64,
    /// A consistent picture of this LSN that waits for the log to be durable up to it.
    pending: Option<(Lsn, Vec<Change>)>,
    out: bool,
    /// The state store has everything up to here.
    pub(super) applied: Lsn,
    /// A clean picture was written while draining.
    pub(super) clean: bool,
    /// Something waits for the applied LSN to move.
    pub(super) wanted: bool,
}

impl Materializer {
    pub(super) fn new(applied: Lsn) -> Self {
        Self {
            applied,
            ..Self::default()
        }
    }

    pub(super) fn dirty_partition(&mut self, id: PartitionId) {
        self.dirty_partitions.push(id);
    }

    pub(super) fn removed_partition(&mut self, id: PartitionId) {
        self.removed_partitions.push(id);
        self.wanted = true;
    }

    pub(super) fn appended(&mut self, bytes: u64) {
        self.bytes_since += bytes;
    }
}

pub(super) fn partition_key(id: PartitionId) -> Vec<u8> {
    [&b"p"[..], &id.0.to_be_bytes()].concat()
}

pub(super) fn producer_key((producer, partition): producers::Key) -> Vec<u8> {
    [
        &b"i"[..],
        &producer.0.to_be_bytes(),
        &partition.0.to_be_bytes(),
    ]
    .concat()
}

pub(super) fn group_key((group, partition): &groups::Key) -> Vec<u8> {
    [b"g", group.as_bytes(), &[0], &partition.0.to_be_bytes()].concat()
}

pub(super) const CONTROL_KEY: &[u8] = b"c";
pub(super) const EPOCHS_KEY: &[u8] = b"e";
const OWNER_KEY: &[u8] = b"s";

pub(super) fn task_key(pipeline: u32, key: &[u8]) -> Vec<u8> {
    [&b"t"[..], &pipeline.to_be_bytes(), key].concat()
}

pub(super) fn delta_key(pipeline: u32, lsn: Lsn) -> Vec<u8> {
    [&b"d"[..], &pipeline.to_be_bytes(), &lsn.0.to_be_bytes()].concat()
}

pub(super) fn lane_key(lane: ProducerId) -> Vec<u8> {
    [&b"o"[..], &lane.0.to_be_bytes()].concat()
}

pub(super) fn entry_key(lane: ProducerId, lsn: Lsn) -> Vec<u8> {
    [&b"x"[..], &lane.0.to_be_bytes(), &lsn.0.to_be_bytes()].concat()
}

/// The row of a partition: its first offset and the one behind its last.
pub fn partition_row(partition: PartitionId, start: Offset, next: Offset) -> Change {
    let of = super::partition::PartitionRow { start, next };
    (partition_key(partition), row(&of))
}

/// The row of a group's position in a partition.
pub fn group_row(group: &str, at: GroupOffset) -> Change {
    let key = group_key(&(group.to_string(), at.partition));
    let of = super::groups::Position {
        offset: at.offset,
        note: at.note,
    };
    (key, row(&of))
}

/// The row of a gap: offsets that are damaged, and that readers pass over from now on.
pub fn gap_row(partition: PartitionId, from: Offset, to: Offset) -> Change {
    let key = [&b"h"[..], &partition.0.to_be_bytes(), &from.0.to_be_bytes()].concat();
    (key, Some(to.0.to_be_bytes().to_vec()))
}

/// A row of the state store, by its key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowKey<'a> {
    Partition(PartitionId),
    Producer(producers::Key),
    Group(groups::Key),
    Control,
    Epochs,
    Task(u32, &'a [u8]),
    Delta(u32, Lsn),
    Lane(ProducerId),
    Outbound(ProducerId, Lsn),
    Gap(PartitionId, Offset),
    Owner,
}

/// Reads a key; `None` for one that this version does not know.
pub(super) fn parse_key(key: &[u8]) -> Option<RowKey<'_>> {
    let (tag, rest) = key.split_first()?;
    let u32_of = |b: &[u8]| Some(u32::from_be_bytes(b.try_into().ok()?));
    let u64_of = |b: &[u8]| Some(u64::from_be_bytes(b.try_into().ok()?));
    Some(match tag {
        b'p' => RowKey::Partition(PartitionId(u32_of(rest)?)),
        b'i' => {
            let (producer, partition) = rest.split_at_checked(8)?;
            RowKey::Producer((
                ProducerId(u64_of(producer)?),
                PartitionId(u32_of(partition)?),
            ))
        }
        b'g' => {
            let (group, partition) = rest.split_at_checked(rest.len().checked_sub(4)?)?;
            let group = std::str::from_utf8(group.strip_suffix(&[0])?).ok()?;
            RowKey::Group((group.to_string(), PartitionId(u32_of(partition)?)))
        }
        b'c' if rest.is_empty() => RowKey::Control,
        b'e' if rest.is_empty() => RowKey::Epochs,
        b't' => {
            let (id, key) = rest.split_at_checked(4)?;
            RowKey::Task(u32_of(id)?, key)
        }
        b'd' => {
            let (id, lsn) = rest.split_at_checked(4)?;
            RowKey::Delta(u32_of(id)?, Lsn(u64_of(lsn)?))
        }
        b's' if rest.is_empty() => RowKey::Owner,
        b'o' => RowKey::Lane(ProducerId(u64_of(rest)?)),
        b'h' => {
            let (partition, from) = rest.split_at_checked(4)?;
            RowKey::Gap(PartitionId(u32_of(partition)?), Offset(u64_of(from)?))
        }
        b'x' => {
            let (lane, lsn) = rest.split_at_checked(8)?;
            RowKey::Outbound(ProducerId(u64_of(lane)?), Lsn(u64_of(lsn)?))
        }
        _ => return None,
    })
}

fn row<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    Some(postcard::to_stdvec(value).expect("rows are plain data, which postcard encodes"))
}

impl Shard {
    /// Takes a picture where it is time to, and hands it over when it is durable.
    pub(super) fn ask_for_materialize(&mut self, out: &mut Outbox) {
        let m = &self.materializer;
        if m.pending.is_none() && !m.out {
            // A picture that is under way may have rows of a pipeline that is gone.
            self.tasks.ask_for_removals(out);
        }
        // A follower that stops may never have all of its log in its view: once is enough.
        let viewed = self.viewed();
        let more = m.applied < viewed || viewed == self.log.written();
        let due =
            m.bytes_since >= self.config.materialize_bytes || m.wanted || self.draining && more;
        // A task that holds a step is ahead of the log: no picture of it is true.
        let idle = m.pending.is_none() && !m.out && !m.clean && !self.tasks.any_held();
        if due && idle && !self.log.has_staged() && self.fenced.is_none() {
            let changes = self.take_changes();
            self.materializer.pending = Some((self.viewed(), changes));
            self.materializer.bytes_since = 0;
            self.materializer.wanted = false;
            // Somebody must make it durable.
            self.urgent = self.urgent.max(self.log.written());
        }
        let ready = self
            .materializer
            .pending
            .as_ref()
            .is_some_and(|(l, _)| *l <= self.settled_for_good());
        if ready
            && !self.materializer.out
            && self.fenced.is_none()
            && let Some((upto, changes)) = self.materializer.pending.take()
        {
            self.materializer.out = true;
            let clean = self.draining && upto == self.log.written();
            out.push(Output::Materialize {
                changes,
                upto,
                clean,
            });
        }
    }

    fn take_changes(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        let m = &mut self.materializer;
        for id in std::mem::take(&mut m.removed_partitions) {
            changes.push((partition_key(id), None));
        }
        for id in std::mem::take(&mut m.dirty_partitions) {
            if let Some(p) = self.partitions.get_mut(&id) {
                p.dirty = false;
                changes.push((partition_key(id), row(&p.row())));
                m.starts.push((id, p.start));
            }
        }
        changes.push((CONTROL_KEY.to_vec(), row(&self.control_next)));
        changes.push((EPOCHS_KEY.to_vec(), row(&self.epochs)));
        changes.push((OWNER_KEY.to_vec(), row(&self.id)));
        for (key, state) in self.producers.take_dirty() {
            let value = state.and_then(|s: ProducerState| row(&s));
            changes.push((producer_key(key), value));
        }
        for (key, position) in self.groups.take_dirty() {
            changes.push((group_key(&key), position.and_then(|p| row(&p))));
        }
        self.tasks.take_changes(&mut changes);
        self.outbound.take_changes(&mut changes);
        changes
    }

    pub(super) fn materialized(&mut self, upto: Lsn, result: Result<(), String>, out: &mut Outbox) {
        self.materializer.out = false;
        if let Err(e) = result {
            return self.fence(format!("the state store failed: {e}"), out);
        }
        self.tasks.stored();
        self.materializer.applied = upto;
        self.marked = self.marked.max(upto);
        for (id, start) in std::mem::take(&mut self.materializer.starts) {
            if let Some(p) = self.partitions.get_mut(&id) {
                p.stored_start = start;
            }
        }
        self.materializer.clean = self.draining && upto == self.log.written();
        self.release(out);
        self.ask_for_materialize(out);
        self.finish_drain(out);
    }

    /// Lets go of what is settled, applied and needed by nobody.
    pub(super) fn release(&mut self, out: &mut Outbox) {
        let upto = self.settled_upto.min(self.materializer.applied);
        let paths = self.log.release(self.wanted_by_none(upto));
        if !paths.is_empty() {
            out.push(Output::RemoveFiles(paths));
            self.epochs.trim(Lsn(self.log.first_lsn().0 - 1));
            self.log_was_trimmed(out);
        }
    }

    pub(super) fn drain(&mut self, out: &mut Outbox) {
        self.draining = true;
        self.end_polls(crate::Now::default(), out);
        if self.fenced.is_some() {
            self.finish_drain(out);
        }
    }

    /// Whether the driver still works with the files of the log or the state store.
    fn is_busy(&self) -> bool {
        let m = &self.materializer;
        m.out || self.spare_out || self.is_cutting() || self.tasks.is_reading()
    }

    pub(super) fn finish_drain(&mut self, out: &mut Outbox) {
        // Where a task holds a step there is no picture to take; the next start reads the log.
        let synced = self.log.durable() == self.log.written() && !self.log.has_staged();
        // What no majority has yet is not waited for: it is on this disk.
        let alone = self.tasks.any_held() || self.replication.is_some();
        let held = synced && alone && !self.materializer.out;
        let ended = self.has_ended() && !self.is_busy();
        let over = self.fenced.is_some() || self.materializer.clean || held || ended;
        if self.draining
            && over
            && !self.drained
            && !self.sync_out
            && !self.settle_out
            && self.rewriting.is_none()
        {
            self.drained = true;
            out.push(self.last_output());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_parse_back() {
        let (p, i) = (PartitionId(2000), ProducerId(7 << 40));
        assert_eq!(parse_key(&partition_key(p)), Some(RowKey::Partition(p)));
        assert_eq!(
            parse_key(&producer_key((i, p))),
            Some(RowKey::Producer((i, p)))
        );
        let g = ("a.group".to_string(), p);
        assert_eq!(parse_key(&group_key(&g)), Some(RowKey::Group(g)));
        assert_eq!(parse_key(&task_key(3, b"xy")), Some(RowKey::Task(3, b"xy")));
        assert_eq!(
            parse_key(&delta_key(3, Lsn(9))),
            Some(RowKey::Delta(3, Lsn(9)))
        );
        assert_eq!(parse_key(&lane_key(i)), Some(RowKey::Lane(i)));
        let out = RowKey::Outbound(i, Lsn(9));
        assert_eq!(parse_key(&entry_key(i, Lsn(9))), Some(out));
        let gap = gap_row(p, Offset(3), Offset(5)).0;
        assert_eq!(parse_key(&gap), Some(RowKey::Gap(p, Offset(3))));
        for bad in [
            &b""[..],
            b"o",
            b"x12345678",
            b"p",
            b"p12345",
            b"i",
            b"g",
            b"gxyz",
            b"z",
            b"cc",
            b"t12",
        ] {
            assert_eq!(parse_key(bad), None, "{bad:?}");
        }
    }
}
