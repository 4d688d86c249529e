//! Giving a finished batch another producer id and sequence.

use bytes::Bytes;
use flowstone_wire::{BatchBuilder, Header, ProducerId, batch, record};

/// Builds `sent`, a batch of this producer, again under another number. Slow, and rare.
pub(crate) fn renumber(sent: &Bytes, id: ProducerId, epoch: u16, base_sequence: u32) -> Bytes {
    let built_here = "a batch that was built here is valid";
    let (header, body) = batch::records(sent).expect(built_here);
    let codec = header.codec().expect(built_here);
    let mut builder = BatchBuilder::with_capacity(codec, body.len());
    for record in record::walk(&header, &body) {
        let record = record.expect(built_here);
        let headers: Vec<Header<'_>> = record.headers().collect();
        let fits = builder.push(record.timestamp, record.key, record.value, &headers);
        assert!(fits, "{built_here}, and its records fit it");
    }
    builder.set_producer(id, epoch, base_sequence);
    builder.finish_for_sending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use flowstone_wire::{CheckedBatch, Codec};

    #[test]
    fn only_the_number_changes() {
        let header = Header {
            name: b"n",
            value: None,
        };
        for codec in [Codec::None, Codec::Zstd] {
            let build = |id, epoch, sequence| {
                let mut builder = BatchBuilder::new(codec);
                for i in 0..100 {
                    assert!(builder.push(1_000 + i, Some(b"key"), None, &[header]));
                }
                builder.set_producer(ProducerId(id), epoch, sequence);
                builder.finish_for_sending()
            };
            let again = renumber(&build(1, 2, 3), ProducerId(9), 8, 7);
            assert_eq!(again, build(9, 8, 7));
            CheckedBatch::check(BytesMut::from(&again[..])).unwrap();
        }
    }
}
