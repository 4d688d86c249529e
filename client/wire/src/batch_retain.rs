//! A stored batch without some of its records: what compaction leaves of it.

use crate::batch::{self, BatchError, BatchHeader, HEADER_BYTES};
use crate::ids::{Epoch, Lsn, Offset, PartitionId, ProducerId};
use crate::record::{self, RecordView};
use bytes::Bytes;

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// These records, plain. Offsets, LSN and the producer's fields are those of the batch.
    Some(BatchHeader, Bytes),
}

/// Takes the records out of a stored batch that `keep` does not want.
///
/// # Errors
/// As [`batch::records`] and [`record::walk`].
pub fn retain(
    stored: &Bytes,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Retained, BatchError> {
    let (mut header, body) = batch::records(stored)?;
    let mut kept = Vec::with_capacity(HEADER_BYTES + body.len());
    kept.resize(HEADER_BYTES, 0);
    let (mut count, mut walk) = (0, record::walk(&header, &body));
    while let Some(next) = walk.next_with_bytes() {
        let (view, bytes) = next?;
        if keep(&view) {
            kept.extend_from_slice(bytes);
            count += 1;
        }
    }
    if count == header.record_count {
        return Ok(Retained::All);
    }
    if count == 0 {
        return Ok(Retained::Nothing);
    }
    header.record_count = count;
    header.size = kept.len() as u32;
    // The body was unpacked; whoever stores it packs whole blocks.
    header.flags &= !batch::CODEC_MASK;
    kept[..HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc32 = batch::seal(&mut kept);
    Ok(Retained::Some(header, kept.into()))
}

/// A batch without records: it stands for offsets whose records are gone, so that a reader gets past
/// them. Readers of records pass over it, it has the control flag.
///
/// # Panics
/// If the range is empty or longer than a batch can be.
pub fn filler(partition: PartitionId, from: Offset, to: Offset, lsn: Lsn) -> (BatchHeader, Bytes) {
    let delta =
        to.0.checked_sub(from.0 + 1)
            .and_then(|d| u32::try_from(d).ok());
    let mut header = BatchHeader {
        crc32: 0,
        size: HEADER_BYTES as u32,
        partition,
        base_offset: from,
        lsn,
        epoch: Epoch(0),
        last_offset_delta: delta.expect("the range holds an offset, and not too many"),
        record_count: 0,
        producer_epoch: 0,
        flags: batch::FLAG_CONTROL,
        producer_id: ProducerId(0),
        base_sequence: 0,
        max_ts_delta: 0,
        base_timestamp: 0,
    };
    let mut bytes = header.encode().to_vec();
    header.crc32 = batch::seal(&mut bytes);
    (header, bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, Codec, Offset, Stamp};

    fn stored(codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        for n in 0..10i64 {
            let value = "x".repeat(n as usize * 20);
            assert!(builder.push(100 + n, Some(&[n as u8]), Some(value.as_bytes()), &[]));
        }
        let stamp = Stamp {
            base_offset: Offset(50),
            ..Stamp::default()
        };
        builder.finish().stamp(stamp).1
    }

    #[test]
    fn a_filler_is_a_batch_without_records() {
        let (header, bytes) = filler(PartitionId(5), Offset(7), Offset(20), Lsn(3));
        assert_eq!(batch::verify(&bytes), Ok(header));
        assert_eq!((header.next_offset(), header.lsn), (Offset(20), Lsn(3)));
        let (_, body) = batch::records(&bytes).unwrap();
        assert_eq!(record::walk(&header, &body).count(), 0);
    }

    #[test]
    fn what_is_kept_keeps_its_place() {
        for codec in [Codec::None, Codec::Zstd, Codec::Gzip] {
            let batch = stored(codec);
            assert_eq!(retain(&batch, |_| true).unwrap(), Retained::All);
            assert_eq!(retain(&batch, |_| false).unwrap(), Retained::Nothing);
            let Retained::Some(header, bytes) = retain(&batch, |r| r.offset.0 % 3 == 0).unwrap()
            else {
                panic!("some are kept")
            };
            assert_eq!(batch::verify(&bytes), Ok(header));
            assert_eq!(
                (header.base_offset, header.next_offset()),
                (Offset(50), Offset(60))
            );
            let (_, body) = batch::records(&bytes).unwrap();
            let all: Vec<_> = record::walk(&header, &body).map(|r| r.unwrap()).collect();
            let offsets: Vec<u64> = all.iter().map(|r| r.offset.0).collect();
            assert_eq!(offsets, [51, 54, 57]);
            assert!(all.iter().all(|r| r.timestamp == 50 + r.offset.0 as i64));
            assert_eq!(all[2].value.map(<[u8]>::len), Some(140));
        }
    }
}
