//! One answer to a fetch, cut into batches that are in their place.
//!
//! Only headers are looked at here, so that the next fetch can start at once; checksums are verified
//! when the records are handed out, while that fetch is under way.

use bytes::Bytes;
use flowstone_wire::batch::BatchError;
use flowstone_wire::native::FetchAnswer;
use flowstone_wire::{BatchHeader, Offset, PartitionId};
use std::collections::VecDeque;

/// Offsets stay below this, so that sums of them cannot overflow.
const OFFSET_LIMIT: u64 = 1 << 62;

/// A batch as it came; only its size and its place were looked at.
#[derive(Clone, Debug)]
pub(crate) struct FetchedBatch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

/// An answer, cut into batches.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bounds: FetchAnswer,
    /// Whole batches in order; the first may begin before the offset asked for.
    pub(crate) batches: VecDeque<FetchedBatch>,
    /// The offset behind the last batch: what to ask for next.
    pub(crate) next_offset: Offset,
    /// Why the bytes behind the last batch are not given out.
    pub(crate) damage: Option<BatchError>,
}

/// Cuts the answer to a fetch of `partition` from `offset`.
pub(crate) fn cut(
    partition: PartitionId,
    offset: Offset,
    bounds: FetchAnswer,
    pieces: Vec<Bytes>,
) -> Fetched {
    let mut fetched = Fetched {
        bounds,
        batches: VecDeque::new(),
        next_offset: offset,
        damage: None,
    };
    let came = pieces.iter().any(|piece| !piece.is_empty());
    for mut piece in pieces {
        while !piece.is_empty() && fetched.damage.is_none() {
            match take_batch(&mut piece, partition) {
                Ok(batch) => fetched.append(batch),
                Err(damage) => fetched.damage = Some(damage),
            }
        }
    }
    // Asking again for the same would go on for ever.
    if came && fetched.damage.is_none() && fetched.next_offset <= offset {
        let why = "the broker gave none at or behind the offset asked for";
        fetched.damage = Some(BatchError::Records(why));
    }
    fetched
}

impl Fetched {
    fn append(&mut self, batch: FetchedBatch) {
        // What was read before is not read again.
        if batch.header.last_offset() >= self.next_offset {
            self.next_offset = batch.header.next_offset();
            self.batches.push_back(batch);
        }
    }
}

fn take_batch(piece: &mut Bytes, partition: PartitionId) -> Result<FetchedBatch, BatchError> {
    let header = BatchHeader::decode(piece)?;
    let (have, need) = (piece.len(), header.size as usize);
    if have < need {
        return Err(BatchError::CutOff { have, need });
    }
    if header.base_offset.0 >= OFFSET_LIMIT {
        return Err(BatchError::Records("its offset is not possible"));
    }
    if header.partition != partition {
        return Err(BatchError::Records("they are of another partition"));
    }
    let bytes = piece.split_to(header.size as usize);
    Ok(FetchedBatch { header, bytes })
}
