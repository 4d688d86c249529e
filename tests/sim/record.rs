//! Records as the checkers see them, and how they get into and out of batches.

use bytes::Bytes;
use flowstone_wire::{BatchBuilder, BatchHeader, CheckedBatch, Codec, ProducerId, batch, record};

/// A record, with all by which two of them can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rec {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) timestamp: i64,
    /// Producer, epoch and sequence; of no producer it is all 0.
    pub(crate) producer: (u64, u16, u32),
}

/// What a producer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct New {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) timestamp: i64,
}

/// The batch of these records.
pub(crate) fn batch_of(records: &[New], producer: Option<(u64, u16, u32)>) -> CheckedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    for r in records {
        let (key, value) = (Some(r.key.as_bytes()), Some(r.value.as_bytes()));
        assert!(
            builder.push(r.timestamp, key, value, &[]),
            "records of the simulation are small"
        );
    }
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(ProducerId(id), epoch, sequence);
    }
    builder.finish()
}

/// The records of whole batches that stand back to back, with their offsets.
pub(crate) fn records_of(slice: &Bytes) -> Result<Vec<(u64, Rec)>, String> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < slice.len() {
        let header =
            batch::verify(&slice[at..]).map_err(|e| format!("a bad batch was read: {e}"))?;
        let (_, body) = batch::records(&slice.slice(at..)).map_err(|e| e.to_string())?;
        take_records(&header, &body, &mut all)?;
        at += header.size as usize;
    }
    Ok(all)
}

/// The offset behind whole batches that stand back to back; `None` where there are none.
pub(crate) fn behind(slices: &[Bytes]) -> Option<u64> {
    let (mut next, mut at) = (None, 0);
    let slice = slices.last()?;
    while let Some(Ok(header)) = slice.get(at..).map(BatchHeader::decode) {
        next = Some(header.next_offset().0);
        at += header.size as usize;
    }
    next
}

fn take_records(h: &BatchHeader, body: &[u8], all: &mut Vec<(u64, Rec)>) -> Result<(), String> {
    let text = |b: Option<&[u8]>| String::from_utf8_lossy(b.unwrap_or_default()).into_owned();
    for view in record::walk(h, body) {
        let view = view.map_err(|e| e.to_string())?;
        let number = view.offset.0 - h.base_offset.0;
        let sequence = h.base_sequence.wrapping_add(number as u32);
        let producer = match h.producer_id.0 {
            0 => (0, 0, 0),
            id => (id, h.producer_epoch, sequence),
        };
        let rec = Rec {
            key: text(view.key),
            value: text(view.value),
            timestamp: view.timestamp,
            producer,
        };
        all.push((view.offset.0, rec));
    }
    Ok(())
}
