//! The batches that a task has before it: given as they are appended, or read where it is behind.

use bytes::Bytes;
use flowstone_storage::log::Appended;
use flowstone_wire::{BatchHeader, Offset, PartitionId};
use std::collections::VecDeque;

/// What waits in a feed, at most; a task that is further behind reads the log.
const FEED_BYTES_MAX: usize = 4 << 20;

/// A batch of a feed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) bytes: Bytes,
    next_offset: Offset,
    /// When it was appended, microseconds of the driver's clock; where that is not known, when it
    /// was read.
    appended_us: u64,
}

/// The feed of one input partition.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) partition: PartitionId,
    /// A read of settled segments is under way.
    pub(super) cold_out: bool,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Offset behind the last entry; what is appended there can be taken directly. `None` until the
    /// feed has caught up with the log once.
    next: Option<Offset>,
}

impl Feed {
    pub(super) fn new(partition: PartitionId) -> Self {
        let entries = VecDeque::new();
        Self {
            partition,
            cold_out: false,
            entries,
            bytes: 0,
            next: None,
        }
    }

    /// Takes a batch that was just appended, if it follows what is here and there is room.
    #[inline]
    pub(super) fn offer(&mut self, now_us: u64, new: &Appended) {
        let follows = self.next == Some(new.header.base_offset);
        if follows && self.bytes + new.bytes.len() <= FEED_BYTES_MAX {
            self.push(now_us, &new.header, new.bytes.clone());
        }
    }

    fn push(&mut self, now_us: u64, header: &BatchHeader, bytes: Bytes) {
        self.bytes += bytes.len();
        self.next = Some(header.next_offset());
        self.entries.push_back(Entry {
            bytes,
            next_offset: header.next_offset(),
            appended_us: now_us,
        });
    }

    /// Takes batches that were read from the log or from settled segments, back to back.
    pub(super) fn fill(&mut self, now_us: u64, slices: &[Bytes]) {
        for slice in slices {
            let mut at = 0;
            while let Ok(header) = BatchHeader::decode(&slice[at..]) {
                let end = at + header.size as usize;
                if end > slice.len() {
                    break;
                }
                self.push(now_us, &header, slice.slice(at..end));
                at = end;
            }
        }
    }

    /// There is nothing before this offset that the task has not seen.
    pub(super) fn reach(&mut self, offset: Offset) {
        self.next = Some(offset);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Lets go of what lies before the task's position, telling when each batch was appended.
    #[inline]
    pub(super) fn done(&mut self, position: Offset, mut tell: impl FnMut(u64)) {
        while self
            .entries
            .front()
            .is_some_and(|e| e.next_offset <= position)
        {
            let Some(gone) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= gone.bytes.len();
            tell(gone.appended_us);
        }
    }
}
