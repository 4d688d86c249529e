//! What the replica knows of its log: epochs, how far it is written and durable, and where its bytes
//! are cut into pieces for sending. The bytes themselves are the driver's.

use super::epochs::{EpochTable, LogId, Span};
use flowstone_wire::{Epoch, Lsn};
use std::collections::VecDeque;

/// Entries that are sent in one piece, at most; they end with a whole group.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    last: Lsn,
    epoch: Epoch,
    /// Bytes of all chunks up to and with this one, counted from some start.
    end_bytes: u64,
}

/// The shape of a log.
#[derive(Debug)]
pub(super) struct Tail {
    epochs: EpochTable,
    /// Last LSN in the page cache.
    end: Lsn,
    /// Last LSN on the disk. `durable <= end`.
    durable: Lsn,
    /// From the base to `end`, without gaps; none of them has two epochs.
    chunks: VecDeque<Chunk>,
    /// Bytes up to the base, counted as in the chunks.
    base_bytes: u64,
    /// Small spans are put together up to this.
    chunk_bytes: u64,
}

impl Tail {
    /// A log that was recovered: all of it is durable. `None` if the spans are not one log above `base`.
    pub(super) fn recovered(base: LogId, spans: &[Span], chunk_bytes: u64) -> Option<Self> {
        let mut tail = Self {
            epochs: EpochTable::based_on(base),
            end: base.lsn,
            durable: base.lsn,
            chunks: VecDeque::new(),
            base_bytes: 0,
            chunk_bytes,
        };
        for span in spans {
            if !tail.push(*span) {
                return None;
            }
        }
        tail.durable = tail.end;
        Some(tail)
    }

    /// Appends a span; false, and nothing is changed, if it cannot follow what is there.
    #[must_use]
    pub(super) fn push(&mut self, span: Span) -> bool {
        let follows = span.first == self.end.next() && span.last >= span.first;
        if !follows || !self.epochs.push(span.epoch, span.first) {
            return false;
        }
        self.end = span.last;
        let end_bytes = self.end_bytes().saturating_add(span.bytes);
        let before = self.chunk_start_bytes(self.chunks.len().saturating_sub(1));
        match self.chunks.back_mut() {
            Some(c) if c.epoch == span.epoch && end_bytes - before <= self.chunk_bytes => {
                (c.last, c.end_bytes) = (span.last, end_bytes);
            }
            _ => self.chunks.push_back(Chunk {
                last: span.last,
                epoch: span.epoch,
                end_bytes,
            }),
        }
        true
    }

    /// The piece to send from `first` on; `None` if the log has none.
    pub(super) fn span_from(&self, first: Lsn) -> Option<Span> {
        if first <= self.base().lsn {
            return None;
        }
        let at = self.chunks.partition_point(|c| c.last < first);
        let chunk = self.chunks.get(at)?;
        Some(Span {
            epoch: chunk.epoch,
            first,
            last: chunk.last,
            bytes: chunk.end_bytes - self.chunk_start_bytes(at),
        })
    }

    /// Bytes of the entries above `after` up to `upto`, rounded up to whole chunks at the lower end.
    pub(super) fn bytes_between(&self, after: Lsn, upto: Lsn) -> u64 {
        if upto <= after {
            return 0;
        }
        let from = self.chunks.partition_point(|c| c.last <= after);
        let to = self.chunks.partition_point(|c| c.last < upto);
        let end = self
            .chunks
            .get(to)
            .map_or(self.end_bytes(), |c| c.end_bytes);
        end.saturating_sub(self.chunk_start_bytes(from))
    }

    fn chunk_start_bytes(&self, at: usize) -> u64 {
        match at.checked_sub(1) {
            Some(before) => self
                .chunks
                .get(before)
                .map_or(self.end_bytes(), |c| c.end_bytes),
            None => self.base_bytes,
        }
    }

    fn end_bytes(&self) -> u64 {
        self.chunks.back().map_or(self.base_bytes, |c| c.end_bytes)
    }

    /// Forgets what is above `last`, which is not below the base.
    pub(super) fn cut(&mut self, last: Lsn) {
        self.epochs.cut(last);
        self.end = last;
        self.durable = self.durable.min(last);
        let kept = self.chunks.partition_point(|c| c.last <= last);
        let inside = self.chunks.get(kept).copied();
        let begins = kept
            .checked_sub(1)
            .map_or(self.base().lsn, |k| self.chunks[k].last);
        self.chunks.truncate(kept);
        if let Some(chunk) = inside.filter(|_| last > begins) {
            // How many bytes stay is not known; too many is safe.
            self.chunks.push_back(Chunk { last, ..chunk });
        }
    }

    /// The log begins after `base` from now on, which is one of its entries.
    pub(super) fn trim(&mut self, base: Lsn) {
        self.epochs.trim(base);
        while let Some(chunk) = self.chunks.front().filter(|c| c.last <= base) {
            self.base_bytes = chunk.end_bytes;
            self.chunks.pop_front();
        }
    }

    /// The log is empty from now on, with everything up to `base` in what was installed.
    pub(super) fn replace(&mut self, base: LogId) {
        self.epochs = EpochTable::based_on(base);
        (self.end, self.durable) = (base.lsn, base.lsn);
        self.chunks.clear();
    }

    /// Everything up to here is on the disk.
    pub(super) fn set_durable(&mut self, lsn: Lsn) {
        self.durable = self.durable.max(lsn.min(self.end));
    }

    pub(super) fn epochs(&self) -> &EpochTable {
        &self.epochs
    }

    /// The last entry that is no longer in the log; committed.
    pub(super) fn base(&self) -> LogId {
        self.epochs.base()
    }

    /// Last LSN in the page cache.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// Last LSN on the disk.
    pub(super) fn durable(&self) -> Lsn {
        self.durable
    }

    /// What names the last entry in the page cache.
    pub(super) fn end_id(&self) -> LogId {
        self.id_at(self.end)
    }

    /// What names the last entry on the disk.
    pub(super) fn durable_id(&self) -> LogId {
        self.id_at(self.durable)
    }

    /// Whether the log has this entry, or has it below its base.
    pub(super) fn has(&self, id: LogId) -> bool {
        id.lsn <= self.end && self.epochs.epoch_at(id.lsn) == Some(id.epoch)
    }

    fn id_at(&self, lsn: Lsn) -> LogId {
        let epoch = self.epochs.epoch_at(lsn);
        let epoch = epoch.expect("neither end is below the base");
        LogId { epoch, lsn }
    }
}

#[cfg(test)]
mod tests;
