//! Reading: from the hot log at once, from settled segments by the driver, or by waiting.

use super::partition::Partition;
use super::{Shard, unknown_partition};
use crate::input::{Now, Ticket};
use crate::output::{Outbox, Output, Reply};
use bytes::Bytes;
use flowstone_storage::log::{LostOffsets, ReadLimits};
use flowstone_storage::settled::Source;
use flowstone_wire::limits::{FETCH_BYTES_MAX, FETCH_WAIT_MS_MAX};
use flowstone_wire::native::{FetchAnswer, Place, Visibility};
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId};

/// What a reader wants of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) ticket: Ticket,
    pub(super) offset: Offset,
    pub(super) max_bytes: u32,
    /// When a long poll gives up, in microseconds of `Now::mono_us`.
    pub(super) until_us: u64,
}

/// Where a record is that was durable once.
#[derive(Debug)]
pub enum Where {
    /// Here, with what follows it.
    Hot(Vec<Bytes>),
    /// In this settled segment.
    Settled(Source),
    /// It was durable and is not there.
    Lost(LostOffsets),
}

impl Shard {
    /// Where the durable record at this offset is; `None` where there is no such partition or offset.
    /// For those who look at a shard that does not run.
    pub fn locate(&self, id: PartitionId, offset: Offset) -> Option<Where> {
        let p = self.partitions.get(&id)?;
        let limits = ReadLimits {
            max_bytes: FETCH_BYTES_MAX,
            upto: self.committed(),
        };
        (offset >= p.start && offset < p.next).then(|| self.find(id, p, offset, limits))
    }

    /// The partitions that the shard has something of, with their first offsets and the ones behind
    /// their last.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, Offset, Offset)> {
        self.partitions.iter().map(|(id, p)| (*id, p.start, p.next))
    }

    /// The offset behind the settled segment that starts here, as the manifest says.
    pub fn settled_end(&self, id: PartitionId, first: Offset) -> Option<Offset> {
        let mut settled = self.partitions.get(&id)?.settled.iter();
        settled
            .find(|m| m.first_offset == first)
            .map(|m| m.next_offset)
    }

    /// The accepted gap that an offset lies in: its end.
    pub fn gap_end(&self, id: PartitionId, offset: Offset) -> Option<Offset> {
        let end = self.partitions.get(&id)?.behind_gap(offset);
        (end > offset).then_some(end)
    }

    pub(super) fn fetch(
        &mut self,
        now: Now,
        id: PartitionId,
        want: Want,
        wait_ms: u32,
        out: &mut Outbox,
    ) {
        let Some(p) = self.partitions.get(&id).filter(|p| p.config.is_some()) else {
            return out.reply(want.ticket, Err(unknown_partition(id)));
        };
        if want.offset < p.start || want.offset > p.next {
            return out.reply(want.ticket, Err(out_of_range(id, p, want.offset)));
        }
        if want.offset < p.visible() {
            return self.read(id, want, out);
        }
        if wait_ms == 0 || self.draining || self.fenced.is_some() {
            let bounds = bounds(p);
            return out.reply(want.ticket, Ok(Reply::Fetched(bounds, Vec::new())));
        }
        let until = now.mono_us + u64::from(wait_ms.min(FETCH_WAIT_MS_MAX)) * 1000;
        self.polls.insert((until, want.ticket), id);
        let p = self.partitions.get_mut(&id).expect("it was just found");
        p.waiting.push(Want {
            until_us: until,
            ..want
        });
        if p.next > p.committed && p.waits_for_disk() {
            // What it waits for is there and needs the disk.
            self.urgent = self.urgent.max(self.log.written());
            self.ask_for_sync(now, out);
        }
    }

    /// Gives what is visible; the offset is within the partition and below its visible end.
    fn read(&self, id: PartitionId, want: Want, out: &mut Outbox) {
        let p = &self.partitions[&id];
        let written = p
            .config
            .as_ref()
            .is_some_and(|c| c.visibility == Visibility::Written);
        let upto = if written {
            self.told_written
        } else {
            self.committed()
        };
        let mut want = want;
        want.offset = p.behind_gap(want.offset);
        if want.offset >= p.visible() {
            return out.reply(want.ticket, Ok(Reply::Fetched(bounds(p), Vec::new())));
        }
        let max_bytes = (want.max_bytes as usize).min(FETCH_BYTES_MAX);
        let limits = ReadLimits { max_bytes, upto };
        match self.find(id, p, want.offset, limits) {
            Where::Hot(slices) => out.reply(want.ticket, Ok(Reply::Fetched(bounds(p), slices))),
            Where::Settled(segment) => out.push(Output::ReadSettled {
                ticket: want.ticket,
                segment,
                offset: want.offset,
                max_bytes: want.max_bytes.min(FETCH_BYTES_MAX as u32),
                bounds: bounds(p),
            }),
            Where::Lost(lost) => out.reply(want.ticket, Err(damaged(&lost))),
        }
    }

    /// Where the record at an offset is that was durable once: in the hot log, in a settled segment,
    /// or nowhere any more.
    pub(super) fn find(
        &self,
        id: PartitionId,
        p: &Partition,
        offset: Offset,
        limits: ReadLimits,
    ) -> Where {
        let hot_start = self.log.hot_start(id);
        let mut known = None;
        if hot_start.is_some_and(|start| offset >= start) {
            let found = self.log.read(id, offset, limits);
            if !found.is_empty() {
                return Where::Hot(found.slices);
            }
            known = found.lost;
        }
        let settled = p.settled_at(offset);
        if let Some(meta) = settled.filter(|m| m.first_offset <= offset) {
            return Where::Settled(p.source_of(meta.id()));
        }
        let mut lost = known.unwrap_or_else(|| LostOffsets {
            partition: id,
            from: offset,
            to: hot_start.filter(|s| *s > offset).unwrap_or(p.next),
            what: "no file has it".into(),
        });
        if let Some(meta) = settled {
            lost.to = lost.to.min(meta.first_offset);
        }
        Where::Lost(lost)
    }

    /// Answers the long polls of a partition that has something new to see.
    pub(super) fn wake_readers(&mut self, id: PartitionId, out: &mut Outbox) {
        let Some(p) = self.partitions.get_mut(&id) else {
            return;
        };
        let visible = p.visible();
        let ready: Vec<Want> = p.waiting.extract_if(.., |w| w.offset < visible).collect();
        for want in ready {
            self.polls.remove(&(want.until_us, want.ticket));
            self.read(id, want, out);
        }
    }

    /// Answers the long polls whose time is over.
    pub(super) fn end_polls(&mut self, now: Now, out: &mut Outbox) {
        while let Some(entry) = self.polls.first_entry() {
            let ((until, ticket), id) = (*entry.key(), *entry.get());
            if until > now.mono_us && !self.draining {
                return;
            }
            entry.remove();
            let Some(p) = self.partitions.get_mut(&id) else {
                continue;
            };
            let before = p.waiting.len();
            p.waiting.retain(|w| w.ticket != ticket);
            if p.waiting.len() < before {
                out.reply(ticket, Ok(Reply::Fetched(bounds(p), Vec::new())));
            }
        }
    }

    pub(super) fn find_offset(
        &mut self,
        ticket: Ticket,
        id: PartitionId,
        place: Place,
        out: &mut Outbox,
    ) {
        let Some(p) = self.partitions.get(&id).filter(|p| p.config.is_some()) else {
            return out.reply(ticket, Err(unknown_partition(id)));
        };
        let found = match place {
            Place::Start => p.start,
            Place::End => p.visible(),
            Place::Time(timestamp) => {
                let settled = p
                    .settled
                    .iter()
                    .find(|m| m.max_timestamp >= timestamp && m.next_offset > p.start);
                let hot_start = self.log.hot_start(id).unwrap_or(p.next);
                if let Some(meta) = settled.filter(|m| m.first_offset < hot_start) {
                    let segment = p.source_of(meta.id());
                    return out.push(Output::FindSettledTime {
                        ticket,
                        segment,
                        timestamp,
                    });
                }
                let upto = self.committed();
                let hot = self.log.find_time(id, timestamp, upto);
                hot.map_or(p.visible(), |o| o.max(p.start)).min(p.visible())
            }
        };
        out.reply(ticket, Ok(Reply::Found(found)));
    }
}

fn bounds(p: &Partition) -> FetchAnswer {
    FetchAnswer {
        start: p.start,
        end: p.visible(),
    }
}

pub(super) fn damaged(lost: &LostOffsets) -> Failure {
    Failure::new(ErrorCode::Damaged, lost.to_string())
}

pub(super) fn out_of_range(id: PartitionId, p: &Partition, offset: Offset) -> Failure {
    let what = format!(
        "offset {offset} of partition {id} is not between its start {} and its end {}",
        p.start,
        p.visible()
    );
    Failure::new(ErrorCode::OffsetOutOfRange, what)
}
