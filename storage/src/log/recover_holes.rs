//! Holes: recovery goes on behind durable batches that are damaged, where nothing but the batches
//! themselves is lost with them.
//!
//! What lies up to the applied LSN is in the state store: only its records are missing, and readers
//! are told which. What lies behind it also carries group positions, sequences and task state: going on
//! without them must be asked for.

use super::damage::{Hole, batch_at, keep, next_batch};
use super::recover::Recovery;
use crate::disk::Mapping;
use crate::error::Error;
use crate::layout;
use flowstone_wire::{BatchHeader, Lsn, batch};

/// Where recovery goes on behind a hole.
pub(super) enum Behind {
    /// At this position of the segment.
    Batch(u64),
    /// With the next segment.
    NextSegment,
    /// Nowhere: nothing durable follows.
    End,
}

impl Recovery<'_> {
    /// Goes on behind the durable batch that is missing at this position of a segment of `len` bytes.
    pub(super) fn skip_hole(
        &mut self,
        number: usize,
        map: &Mapping,
        (at, len): (u64, u64),
        what: String,
    ) -> Result<Behind, Error> {
        let (expected, mark) = (self.expected, self.mark);
        let next_segment = self.found.get(number + 1).map(|s| s.first_lsn);
        let (behind, next_lsn) = match self.batch_behind(map, (at, len), next_segment) {
            Some((position, lsn)) => (Behind::Batch(position), lsn),
            None => match next_segment {
                Some(next) => (Behind::NextSegment, next),
                None => (Behind::End, mark.next()),
            },
        };
        self.note_hole(Hole {
            path: self.found[number].path.clone(),
            position: at,
            first_lsn: expected,
            last_lsn: Lsn(next_lsn.0 - 1),
            what,
        })?;
        let end = match behind {
            Behind::Batch(position) => position,
            _ => len,
        };
        let segment = self.found[number].first_lsn;
        let shard_dir = self.dir.parent().unwrap_or(self.dir);
        keep(
            self.disk,
            shard_dir,
            &layout::damaged_name(segment, at),
            map,
            (at, end),
        )
        .map_err(Error::io("keep a copy of", &self.found[number].path))?;
        // They were durable, so the group that they begin counted.
        self.close_group(self.found[number].first_lsn);
        self.expected = next_lsn;
        Ok(behind)
    }

    /// The batch at which the log goes on behind the damaged one at this position, and its LSN.
    ///
    /// Records may hold bytes that look like batches: the place that the damaged header names goes
    /// first, and what is only found by searching must be followed by all that is durable.
    fn batch_behind(
        &self,
        map: &Mapping,
        (at, len): (u64, u64),
        next_segment: Option<Lsn>,
    ) -> Option<(u64, Lsn)> {
        let (expected, epoch, mark) = (self.expected, self.epoch, self.mark);
        let wanted = |h: &BatchHeader| {
            let before_next = next_segment.is_none_or(|next| h.lsn < next);
            // What lies behind the mark may never have been durable.
            h.lsn > expected && h.lsn <= mark && h.epoch >= epoch && before_next
        };
        let front = map.slice(at, (batch::HEADER_BYTES as u64).min(len - at));
        if let Ok(damaged) = BatchHeader::decode(&front) {
            let position = at + u64::from(damaged.size);
            let follows = batch_at(map, position, len).filter(|h| h.lsn == expected.next());
            if let Some(header) = follows.filter(&wanted) {
                return Some((position, header.lsn));
            }
        }
        let mut from = at;
        while let Some((position, header)) = next_batch(map, from, len, wanted) {
            if self.leads_on(map, (position, len), header, next_segment) {
                return Some((position, header.lsn));
            }
            from = position + 1;
        }
        None
    }

    /// Whether from this batch on all that is durable follows, but for more damage.
    fn leads_on(
        &self,
        map: &Mapping,
        (mut position, len): (u64, u64),
        mut header: BatchHeader,
        next_segment: Option<Lsn>,
    ) -> bool {
        loop {
            position += u64::from(header.size);
            let behind = header.lsn.next();
            match batch_at(map, position, len) {
                Some(next) if next.lsn == behind => header = next,
                // A batch of another LSN stands where this one ends: it is a part of a record.
                Some(_) => return false,
                None => return next_segment.is_none_or(|next| behind <= next),
            }
        }
    }

    /// Notes a hole, or refuses it.
    pub(super) fn note_hole(&mut self, hole: Hole) -> Result<(), Error> {
        if hole.last_lsn > self.applied && !self.accept_damage {
            return Err(Error::Damaged {
                path: hole.path,
                position: hole.position,
                first_lsn: hole.first_lsn,
                last_lsn: hole.last_lsn,
                what: hole.what,
            });
        }
        self.result.holes.push(hole);
        Ok(())
    }
}
