//! What a snapshot has of the log: what is taken in and not settled lies nowhere else.

use crate::error::Error;
use crate::log::ShardLog;
use bytes::Bytes;
use flowstone_wire::{BatchHeader, Epoch, Lsn};
use std::io;
use std::path::Path;

/// Whole groups of one epoch, out of the mapping of the log.
#[derive(Clone, Debug)]
pub struct TailPiece {
    /// The epoch of all of them.
    pub epoch: Epoch,
    /// The first LSN.
    pub first: Lsn,
    /// The last LSN.
    pub last: Lsn,
    /// Their bytes, as they lie in the log.
    pub bytes: Bytes,
}

impl ShardLog {
    /// The log from `first` to `upto` in pieces of up to `max_bytes`, or of one group where that is
    /// larger; none goes beyond the end of a segment. Nothing is copied.
    ///
    /// # Errors
    /// As [`Self::slices`].
    pub fn tail(
        &mut self,
        first: Lsn,
        upto: Lsn,
        max_bytes: usize,
    ) -> Result<Vec<TailPiece>, Error> {
        if first > upto {
            return Ok(Vec::new());
        }
        let mut pieces = Vec::new();
        for slice in self.slices(first, upto)? {
            let found = cut(slice, max_bytes, &mut pieces);
            found.map_err(Error::io("read", Path::new("log")))?;
        }
        Ok(pieces)
    }
}

/// Cuts whole batches into pieces.
fn cut(mut rest: Bytes, max_bytes: usize, pieces: &mut Vec<TailPiece>) -> io::Result<()> {
    while !rest.is_empty() {
        let (mut at, mut end) = (0, None);
        let begin = BatchHeader::decode(&rest).map_err(io::Error::other)?;
        while at < rest.len() {
            let header = BatchHeader::decode(&rest[at..]).map_err(io::Error::other)?;
            let next = at + header.size as usize;
            let fits = end.is_none() || next <= max_bytes;
            if header.epoch != begin.epoch || !fits || next > rest.len() {
                break;
            }
            at = next;
            if !header.group_continues() {
                end = Some((header.lsn, at));
            }
        }
        let not_whole = || io::Error::other("the log does not end with a whole group");
        let (last, bytes) = end.ok_or_else(not_whole)?;
        pieces.push(TailPiece {
            epoch: begin.epoch,
            first: begin.lsn,
            last,
            bytes: rest.split_to(bytes),
        });
    }
    Ok(())
}
