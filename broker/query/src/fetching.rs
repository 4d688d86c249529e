//! The batches of a part of a partition, some at a time.

use crate::counters::Counters;
use crate::source::{self, Source};
use bytes::{Buf, Bytes};
use flowstone_wire::native::{Fetch, Place};
use flowstone_wire::{BatchHeader, ErrorCode, Failure, Offset, PartitionId, batch};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of the first fetch: a query that wants few rows reads little.
const FIRST_BYTES: u32 = 64 << 10;
/// Bytes of later ones.
const BYTES_MAX: u32 = 1 << 20;
/// So many bytes of records are unpacked at a time, or one batch.
const UNPACKED_BYTES: usize = 1 << 20;

/// A part of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The partition.
    pub(crate) id: PartitionId,
    /// The number that rows show.
    pub(crate) shown: PartitionId,
    /// The first record.
    pub(crate) from: Offset,
    /// Behind the last record.
    pub(crate) to: Offset,
}

/// Batches with their records unpacked.
pub(crate) type Unpacked = Vec<(BatchHeader, Bytes)>;

/// Reads one part after the other.
pub(crate) struct Fetching {
    source: Arc<dyn Source>,
    counters: Arc<Counters>,
    parts: VecDeque<Part>,
    next: Offset,
    pieces: VecDeque<Bytes>,
    max_bytes: u32,
}

impl Fetching {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        counters: Arc<Counters>,
        parts: impl IntoIterator<Item = Part>,
    ) -> Self {
        let parts: VecDeque<Part> = parts.into_iter().collect();
        Self {
            source,
            counters,
            next: parts.front().map_or(Offset(0), |p| p.from),
            parts,
            pieces: VecDeque::new(),
            max_bytes: FIRST_BYTES,
        }
    }

    /// The next batches, with the part that they are of; `None` at the end. What they hold outside
    /// of the part is to be passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<(Part, Unpacked)>, Failure> {
        loop {
            let Some(part) = self.parts.front().copied() else {
                return Ok(None);
            };
            if self.next >= part.to || (self.pieces.is_empty() && !self.fetch(part).await?) {
                self.parts.pop_front();
                self.pieces.clear();
                self.next = self.parts.front().map_or(Offset(0), |p| p.from);
                continue;
            }
            let unpacked = self.unpack(part)?;
            if !unpacked.is_empty() {
                return Ok(Some((part, unpacked)));
            }
        }
    }

    /// Fetches what is next; says whether there was something.
    async fn fetch(&mut self, part: Part) -> Result<bool, Failure> {
        let fetch = Fetch {
            partition: part.id,
            offset: self.next,
            max_bytes: self.max_bytes,
            wait_ms: 0,
        };
        self.pieces = match source::fetch(&*self.source, fetch).await {
            Ok(pieces) => pieces.into(),
            Err(e) if e.code == ErrorCode::OffsetOutOfRange => return self.skip(part, e).await,
            Err(e) => return Err(e),
        };
        let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        self.counters.add_bytes(bytes);
        self.max_bytes = (self.max_bytes * 2).min(BYTES_MAX);
        Ok(bytes > 0)
    }

    /// Goes on where the partition begins now: what stood before it has expired since the query began.
    async fn skip(&mut self, part: Part, failure: Failure) -> Result<bool, Failure> {
        let start = self.source.find(part.id, Place::Start).await?;
        if start <= self.next {
            return Err(failure);
        }
        let reached = start.min(part.to);
        self.counters.add_expired(reached.0 - self.next.0);
        self.next = reached;
        Ok(true)
    }

    fn unpack(&mut self, part: Part) -> Result<Unpacked, Failure> {
        let (mut unpacked, mut bytes) = (Vec::new(), 0);
        while bytes < UNPACKED_BYTES && self.next < part.to {
            let Some(taken) = take_batch(&mut self.pieces, part.id)? else {
                break;
            };
            let (header, body) = taken;
            self.next = self.next.max(header.next_offset());
            if !header.is_control() {
                bytes += body.len();
                unpacked.push((header, body));
            }
        }
        Ok(unpacked)
    }
}

/// Takes the first batch, proven and unpacked.
///
/// # Errors
/// [`ErrorCode::Damaged`].
pub(crate) fn take_batch(
    pieces: &mut VecDeque<Bytes>,
    partition: PartitionId,
) -> Result<Option<(BatchHeader, Bytes)>, Failure> {
    let damaged = |e: batch::BatchError| {
        let what = format!("a batch of partition {partition} does not verify: {e}");
        Failure::new(ErrorCode::Damaged, what)
    };
    while let Some(piece) = pieces.front_mut() {
        if piece.is_empty() {
            pieces.pop_front();
            continue;
        }
        let header = batch::verify(piece).map_err(damaged)?;
        let (_, body) = batch::records(piece).map_err(damaged)?;
        piece.advance((header.size as usize).min(piece.len()));
        return Ok(Some((header, body)));
    }
    Ok(None)
}

/// Drops batches that were taken up to a position; says whether there were some.
pub(crate) fn drop_taken(pending: &mut VecDeque<(BatchHeader, Bytes)>, position: Offset) -> bool {
    let before = pending.len();
    while pending
        .front()
        .is_some_and(|(header, _)| header.next_offset() <= position)
    {
        pending.pop_front();
    }
    pending.len() < before
}
