//! Reading by LSN: the bytes of the log as they are, for those who copy it.

use super::ShardLog;
use super::segment::Segment;
use crate::error::Error;
use crate::layout;
use bytes::Bytes;
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::{BatchHeader, Epoch, Lsn};
use std::io::{self, ErrorKind};

/// One batch in so many bytes has its place noted; from there the headers are walked.
const STEP_BYTES: u64 = 64 << 10;

/// Where some of the batches of a segment stand, found out as they are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// LSNs and positions, rising.
    known: Vec<(Lsn, u64)>,
}

impl Segment {
    /// The position of the batch with this LSN; the end, if it is the next one.
    pub(super) fn position_of(&mut self, lsn: Lsn) -> io::Result<u64> {
        if lsn >= self.next_lsn {
            return Ok(self.end);
        }
        let known = self.places.known.partition_point(|(l, _)| *l <= lsn);
        let last = known.checked_sub(1).map(|k| self.places.known[k]);
        let (mut at_lsn, mut at) = last.unwrap_or((self.first_lsn, 0));
        let is_newest = known == self.places.known.len();
        let mut noted = at;
        while at_lsn < lsn {
            at += u64::from(self.header_at(at, at_lsn)?.size);
            at_lsn = at_lsn.next();
            if is_newest && at >= noted + STEP_BYTES {
                self.places.known.push((at_lsn, at));
                noted = at;
            }
        }
        Ok(at)
    }

    fn header_at(&self, at: u64, lsn: Lsn) -> io::Result<BatchHeader> {
        let bytes = self.map.fetch(at, HEADER_BYTES as u64)?;
        let header = BatchHeader::decode(&bytes).ok();
        let header = header.filter(|h| h.lsn == lsn && at + u64::from(h.size) <= self.end);
        header.ok_or_else(|| {
            let what = format!("no batch with LSN {lsn} stands at byte {at}");
            io::Error::new(ErrorKind::InvalidData, what)
        })
    }

    fn pieces(&self, max_bytes: u64, pieces: &mut Vec<Piece>) -> io::Result<()> {
        let (mut at, mut lsn, mut group) = (0, self.first_lsn, None);
        while at < self.end {
            let header = self.header_at(at, lsn)?;
            let (first, bytes) = group.take().unwrap_or((lsn, 0));
            let bytes = bytes + u64::from(header.size);
            if header.group_continues() {
                group = Some((first, bytes));
            } else {
                match pieces.last_mut() {
                    Some(p) if p.epoch == header.epoch && p.bytes + bytes <= max_bytes => {
                        (p.last, p.bytes) = (lsn, p.bytes + bytes);
                    }
                    _ => pieces.push(Piece {
                        epoch: header.epoch,
                        first,
                        last: lsn,
                        bytes,
                    }),
                }
            }
            at += u64::from(header.size);
            lsn = lsn.next();
        }
        Ok(())
    }

    /// The bytes of the batches from `first` to `last`, as far as they are in this segment.
    fn slice_of(&mut self, first: Lsn, last: Lsn) -> io::Result<Bytes> {
        let start = self.position_of(first.max(self.first_lsn))?;
        let end = self.position_of(last.next())?;
        self.map.fetch(start, end - start)
    }
}

/// Whole groups of one epoch that stand next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The epoch of all of them.
    pub epoch: Epoch,
    /// The first LSN.
    pub first: Lsn,
    /// The last LSN.
    pub last: Lsn,
    /// Their bytes.
    pub bytes: u64,
}

impl ShardLog {
    /// The whole log in pieces of up to `max_bytes`, or of one group where that is larger. Walks all
    /// headers.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk cannot give them, or something else stands there.
    pub fn pieces(&self, max_bytes: u64) -> Result<Vec<Piece>, Error> {
        let mut pieces: Vec<Piece> = Vec::new();
        for segment in self.sealed.iter().chain([&self.active]) {
            let path = self.dir.join(layout::segment_name(segment.first_lsn));
            let found = segment.pieces(max_bytes, &mut pieces);
            found.map_err(Error::io("read", &path))?;
        }
        Ok(pieces)
    }

    /// The bytes of the batches from `first` to `last`, which are written, in order: one slice of the
    /// mapping for each segment, nothing copied. Their checksums are not proven.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk cannot give them, something else stands there, or they are not in the
    /// log any more.
    pub fn slices(&mut self, first: Lsn, last: Lsn) -> Result<Vec<Bytes>, Error> {
        let mut slices = Vec::new();
        let mut next = first;
        let (sealed, active) = (&mut self.sealed, &mut self.active);
        for segment in sealed.iter_mut().chain([active]) {
            if segment.next_lsn <= next || segment.first_lsn > last {
                continue;
            }
            let path = self.dir.join(layout::segment_name(segment.first_lsn));
            if segment.first_lsn > next {
                break;
            }
            slices.push(
                segment
                    .slice_of(next, last)
                    .map_err(Error::io("read", &path))?,
            );
            next = segment.next_lsn;
        }
        if next <= last || last > self.written {
            let what = format!("LSN {next} to {last} are not in the log");
            let missing = io::Error::new(ErrorKind::NotFound, what);
            return Err(Error::io("read", &self.dir)(missing));
        }
        Ok(slices)
    }
}
