//! Properties of batches: what is built is accepted, what is altered is not.

use super::*;
use crate::batch_build::BatchBuilder;
use proptest::prelude::*;

fn build(values: &[Vec<u8>], codec: Codec) -> BytesMut {
    let mut b = BatchBuilder::new(codec);
    for (i, v) in values.iter().enumerate() {
        assert!(b.push(1_000 + i as i64, Some(b"k"), Some(v), &[]));
    }
    let (_, bytes) = b.finish().stamp(Stamp {
        partition: PartitionId(0),
        base_offset: Offset(0),
        lsn: Lsn(0),
        epoch: Epoch(0),
    });
    BytesMut::from(&bytes[..])
}

const STAMP: Stamp = Stamp {
    partition: PartitionId(2000),
    base_offset: Offset(77),
    lsn: Lsn(9),
    epoch: Epoch(3),
};

proptest! {
    #[test]
    fn built_batches_are_accepted_and_stamped_ones_verify(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..120),
        codec in 0u16..5,
    ) {
        let codec = Codec::from_bits(codec).unwrap();
        let checked = CheckedBatch::check(build(&values, codec)).unwrap();
        let (header, bytes) = checked.stamp(STAMP);
        prop_assert_eq!(verify(&bytes).unwrap(), header);
        prop_assert_eq!(header.base_offset, Offset(77));
        let (_, body) = records(&bytes).unwrap();
        let got: Vec<Vec<u8>> = record::walk(&header, &body)
            .map(|r| r.unwrap().value.unwrap().to_vec()).collect();
        prop_assert_eq!(got, values);
    }

    #[test]
    fn one_flipped_bit_is_always_noticed(
        value in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0u8..8,
    ) {
        let mut bytes = build(&[value], Codec::None);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(CheckedBatch::check(bytes.clone()).is_err());
        prop_assert!(verify(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(CheckedBatch::check(BytesMut::from(&bytes[..])).is_err());
    }
}

#[test]
fn a_large_batch_is_stamped_by_combining_and_still_verifies() {
    let values: Vec<Vec<u8>> = (0..64u8).map(|i| vec![i; 1024]).collect();
    let checked = CheckedBatch::check(build(&values, Codec::None)).unwrap();
    assert!(
        checked.tail_crc.is_some(),
        "the short cut is what is tested here"
    );
    let (_, bytes) = checked.stamp(STAMP);
    verify(&bytes).unwrap();
}

#[test]
fn a_time_is_found_to_the_record() {
    let stamped = |base: u64, first: i64| {
        let mut b = BatchBuilder::new(Codec::None);
        for ts in first..first + 3 {
            assert!(b.push(ts, None, Some(b"x"), &[]));
        }
        b.finish()
            .stamp(Stamp {
                base_offset: Offset(base),
                ..STAMP
            })
            .1
    };
    let both = Bytes::from([&stamped(10, 100)[..], &stamped(13, 200)[..]].concat());
    for (wanted, found) in [(0, 10), (101, 11), (102, 12), (103, 13), (202, 15)] {
        assert_eq!(find_time(&both, wanted), Some(Offset(found)), "{wanted}");
    }
    assert_eq!(find_time(&both, 203), None);
}

#[test]
fn lying_headers_are_refused_even_with_a_right_checksum() {
    let relabel = |change: fn(&mut BatchHeader)| {
        let bytes = build(&[b"one".to_vec(), b"two".to_vec()], Codec::None);
        let mut header = BatchHeader::decode(&bytes).unwrap();
        change(&mut header);
        let mut out = BytesMut::from(&header.encode()[..]);
        out.extend_from_slice(&bytes[HEADER_BYTES..]);
        let crc = crc32fast::hash(&out[SIZE_AT..]);
        out[CRC_AT..SIZE_AT].copy_from_slice(&crc.to_le_bytes());
        CheckedBatch::check(out).unwrap_err()
    };
    assert!(matches!(
        relabel(|h| h.record_count = 3),
        BatchError::Records(_)
    ));
    assert!(matches!(
        relabel(|h| h.last_offset_delta = 5),
        BatchError::Records(_)
    ));
    assert!(matches!(
        relabel(|h| {
            h.record_count = u32::MAX;
            h.last_offset_delta = u32::MAX - 1
        }),
        BatchError::Records(_)
    ));
    assert!(matches!(
        relabel(|h| h.flags |= FLAG_CONTROL),
        BatchError::Flags(_)
    ));
    assert!(matches!(
        relabel(|h| h.flags |= FLAG_GROUP_CONTINUES),
        BatchError::Flags(_)
    ));
    assert!(matches!(relabel(|h| h.flags |= 7), BatchError::Flags(_)));
    assert!(matches!(
        relabel(|h| h.flags |= 1 << 9),
        BatchError::Flags(_)
    ));
    assert!(matches!(
        relabel(|h| h.max_ts_delta = 0),
        BatchError::Records(_)
    ));
    assert!(matches!(
        relabel(|h| h.base_timestamp = -5),
        BatchError::Records(_)
    ));
}

#[test]
fn a_bomb_is_refused_before_it_unfolds() {
    let mut body = Vec::new();
    compress::compress(
        Codec::Zstd,
        &vec![0u8; limits::BATCH_UNPACKED_BYTES_MAX + 1],
        &mut body,
    );
    let mut header = BatchHeader {
        size: (HEADER_BYTES + body.len()) as u32,
        record_count: 1,
        flags: Codec::Zstd.bits(),
        ..BatchHeader::default()
    };
    let mut out = BytesMut::from(&header.encode()[..]);
    out.extend_from_slice(&body);
    header.crc32 = crc32fast::hash(&out[SIZE_AT..]);
    out[CRC_AT..SIZE_AT].copy_from_slice(&header.crc32.to_le_bytes());
    assert!(out.len() < 64 << 10, "a bomb is small");
    assert!(matches!(
        CheckedBatch::check(out).unwrap_err(),
        BatchError::Body(compress::CompressError::TooLarge { .. })
    ));
}
