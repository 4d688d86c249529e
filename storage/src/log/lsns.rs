//! Reading by LSN: the bytes of the log as they are, for those who copy it.

use super::ShardLog;
use super::headers::{WINDOW_BYTES, nothing_there};
use super::segment::Segment;
use crate::error::Error;
use crate::layout;
use bytes::Bytes;
use flowstone_wire::{Epoch, Lsn};
use std::io::{self, ErrorKind};

/// One batch in so many bytes has its place noted; from there the headers are walked. What a walk reads
/// is mostly one window.
const STEP_BYTES: u64 = WINDOW_BYTES;

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
        let (mut noted, mut new) = (at, Vec::new());
        for batch in self.headers(at_lsn, at).take((lsn.0 - at_lsn.0) as usize) {
            let (position, header) = batch?;
            at = position + u64::from(header.size);
            at_lsn = header.lsn.next();
            if is_newest && at >= noted + STEP_BYTES {
                new.push((at_lsn, at));
                noted = at;
            }
        }
        self.places.known.extend(new);
        if at_lsn < lsn {
            return Err(nothing_there(at_lsn, at));
        }
        Ok(at)
    }

    fn pieces(&self, max_bytes: u64, pieces: &mut Vec<Piece>) -> io::Result<()> {
        let mut group = None;
        for batch in self.all_headers() {
            let (_, header) = batch?;
            let (first, bytes) = group.take().unwrap_or((header.lsn, 0));
            let bytes = bytes + u64::from(header.size);
            if header.group_continues() {
                group = Some((first, bytes));
                continue;
            }
            match pieces.last_mut() {
                Some(p) if p.epoch == header.epoch && p.bytes + bytes <= max_bytes => {
                    (p.last, p.bytes) = (header.lsn, p.bytes + bytes);
                }
                _ => pieces.push(Piece {
                    epoch: header.epoch,
                    first,
                    last: header.lsn,
                    bytes,
                }),
            }
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
