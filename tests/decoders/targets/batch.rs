//! Batches and their bodies: what a producer sends, and what stands in a log.

use super::{dice, flipped};
use bytes::{Bytes, BytesMut};
use flowstone_wire::batch::{self, HEADER_BYTES, MAGIC, Stamp};
use flowstone_wire::{
    BatchHeader, CheckedBatch, Codec, Epoch, Lsn, Offset, PartitionId, compress, limits, record,
};

const STAMP: Stamp = Stamp {
    partition: PartitionId(2000),
    base_offset: Offset(77),
    lsn: Lsn(9),
    epoch: Epoch(3),
};

/// A batch as it is, and with the magic, size and checksum that its bytes should have: behind a
/// checksum most of a decoder is out of reach of chance.
pub(super) fn batch(data: &[u8]) {
    stored(data);
    sent(data);
    let mut repaired = data.to_vec();
    if repair(&mut repaired) {
        stored(&repaired);
        sent(&repaired);
    }
}

/// Makes the bytes a batch as far as magic, size and checksum go.
pub(super) fn repair(bytes: &mut [u8]) -> bool {
    if !(HEADER_BYTES..=limits::BATCH_BYTES_MAX).contains(&bytes.len()) {
        return false;
    }
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&size.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    true
}

/// What readers of stored bytes do.
fn stored(data: &[u8]) {
    if let Ok(header) = BatchHeader::decode(data) {
        assert_eq!(
            header.encode(),
            data[..HEADER_BYTES],
            "a header is its bytes"
        );
        let _ = (header.next_offset(), header.max_timestamp(), header.codec());
    }
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(header) = batch::verify(data) {
        let size = header.size as usize;
        let bit = dice(data) % (8 * size);
        let other = batch::verify(&flipped(data, bit));
        assert!(other.is_err(), "bit {bit} is not covered");
        let from_log = CheckedBatch::from_log(&bytes).expect("it has just verified");
        let (header, stamped) = from_log.stamp(STAMP);
        assert_eq!(batch::verify(&stamped), Ok(header));
        batch::find_time(&bytes, header.base_timestamp.saturating_add(1));
    }
    if let Ok((header, body)) = batch::records(&bytes) {
        assert!(body.len() <= limits::BATCH_UNPACKED_BYTES_MAX);
        walk(&header, &body);
    }
}

/// Looks at everything that a walk gives; returns how many records are whole.
fn walk(header: &BatchHeader, body: &[u8]) -> u32 {
    let mut whole = 0;
    for view in record::walk(header, body).map_while(Result::ok) {
        let parts = [view.key, view.value].into_iter().flatten();
        let bytes: usize = parts.map(<[u8]>::len).sum();
        let headers: usize = view.headers().map(|h| h.name.len()).sum();
        assert!(
            bytes + headers <= body.len(),
            "a record points out of its batch"
        );
        let _ = view.header("traceparent");
        whole += 1;
    }
    whole
}

/// What the door does with a producer's batch, and the log with what the door lets in.
fn sent(data: &[u8]) {
    let Ok(checked) = CheckedBatch::check(BytesMut::from(data)) else {
        return;
    };
    assert_eq!(batch::verify(data).as_ref(), Ok(checked.header()));
    let bit = dice(data) % (8 * data.len());
    let other = CheckedBatch::check(BytesMut::from(&flipped(data, bit)[..]));
    assert!(other.is_err(), "bit {bit} is not covered");

    let count = checked.header().record_count;
    let (header, bytes) = checked.stamp(STAMP);
    assert_eq!(batch::verify(&bytes), Ok(header));
    assert_eq!(
        bytes[36..],
        data[36..],
        "a stamp changes nothing of the producer's"
    );
    let (_, body) = batch::records(&bytes).expect("it was checked");
    assert_eq!(
        walk(&header, &body),
        count,
        "every record that was checked is there"
    );
    let last = record::walk(&header, &body).last().expect("there is one");
    assert_eq!(last.expect("it was checked").offset, header.last_offset());
    let latest = batch::find_time(&bytes, header.max_timestamp());
    assert!(latest.is_some_and(|o| (header.base_offset..header.next_offset()).contains(&o)));
}

/// A compressed body: the first byte chooses the codec.
pub(super) fn body(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((first, packed)) = data.split_first() else {
        return;
    };
    let codec = Codec::from_bits(u16::from(first % 5)).expect("there are five");
    assert_eq!(Codec::from_name(codec.name()), Some(codec));
    let Ok(plain) = compress::decompress(codec, packed, LIMIT) else {
        return;
    };
    assert!(plain.len() <= LIMIT, "{} bytes unfolded", plain.len());
    let mut again = Vec::new();
    compress::compress(codec, &plain, &mut again);
    let unpacked = compress::decompress(codec, &again, LIMIT);
    assert!(
        unpacked.as_deref() == Ok(&plain[..]),
        "{codec:?} does not round trip"
    );
}
