//! The headers of a segment, one after the other: what everything is found by that has no index.

use super::segment::Segment;
use bytes::Bytes;
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::{BatchHeader, Lsn};
use std::io::{self, ErrorKind};

/// The disk is asked for so much at once: to be sure of bytes in a mapping costs a system call.
pub(super) const WINDOW_BYTES: u64 = 64 << 10;

/// A walk over the headers of a segment. Gives positions with headers, whose LSNs are dense and whose
/// batches end within the segment; nothing more after an error. Checksums are not proven.
pub(super) struct Headers<'a> {
    segment: &'a Segment,
    at: u64,
    lsn: Lsn,
    /// Bytes that are in memory, and where they stand in the segment.
    window: Bytes,
    window_at: u64,
}

impl Segment {
    /// The headers from the batch with this LSN on, which stands at this position.
    pub(super) fn headers(&self, lsn: Lsn, at: u64) -> Headers<'_> {
        Headers {
            segment: self,
            at,
            lsn,
            window: Bytes::new(),
            window_at: at,
        }
    }

    /// All its headers.
    pub(super) fn all_headers(&self) -> Headers<'_> {
        self.headers(self.first_lsn, 0)
    }
}

/// What is said where a walk does not find the batch that must be there.
pub(super) fn nothing_there(lsn: Lsn, at: u64) -> io::Error {
    let what = format!("no batch with LSN {lsn} stands at byte {at}");
    io::Error::new(ErrorKind::InvalidData, what)
}

impl Headers<'_> {
    /// The bytes of the header that stands next; fewer at the end of the segment.
    fn front(&mut self) -> io::Result<&[u8]> {
        let window_end = self.window_at + self.window.len() as u64;
        if self.at + HEADER_BYTES as u64 > window_end {
            let len = WINDOW_BYTES.min(self.segment.end - self.at);
            self.window = self.segment.map.fetch(self.at, len)?;
            self.window_at = self.at;
        }
        let rest = &self.window[(self.at - self.window_at) as usize..];
        Ok(&rest[..HEADER_BYTES.min(rest.len())])
    }

    fn step(&mut self) -> io::Result<(u64, BatchHeader)> {
        let (lsn, at, end) = (self.lsn, self.at, self.segment.end);
        let header = BatchHeader::decode(self.front()?).ok();
        let header = header.filter(|h| h.lsn == lsn && at + u64::from(h.size) <= end);
        let header = header.ok_or_else(|| nothing_there(lsn, at))?;
        (self.at, self.lsn) = (at + u64::from(header.size), lsn.next());
        Ok((at, header))
    }
}

impl Iterator for Headers<'_> {
    type Item = io::Result<(u64, BatchHeader)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.segment.end {
            return None;
        }
        let found = self.step();
        if found.is_err() {
            self.at = self.segment.end;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests;
