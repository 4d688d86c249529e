//! Building a batch record by record, into one buffer that becomes the batch.

use crate::batch::{BatchHeader, CheckedBatch, HEADER_BYTES};
use crate::compress::{self, Codec};
use crate::ids::ProducerId;
use crate::limits;
use crate::record::{self, Header};
use bytes::{Bytes, BytesMut};

/// Collects records and turns them into a batch.
#[derive(Debug)]
pub struct BatchBuilder {
    codec: Codec,
    /// Room for the header, then the plain records.
    buffer: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: Option<(ProducerId, u16, u32)>,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(codec: Codec) -> Self {
        Self::with_capacity(codec, 0)
    }

    /// An empty batch with room for `capacity` bytes of records.
    pub fn with_capacity(codec: Codec, capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + capacity);
        buffer.resize(HEADER_BYTES, 0);
        Self {
            codec,
            buffer,
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer: None,
        }
    }

    /// Adds a record of time `timestamp` (milliseconds since 1970; earlier times count as 1970).
    ///
    /// Returns `false`, and adds nothing, where the record would take the batch over a limit, or is
    /// more than 49 days younger than its first: send what there is and start another. A record that
    /// does not fit an empty batch fits none.
    #[must_use]
    #[inline]
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> bool {
        if self.count >= limits::BATCH_RECORDS_MAX || !within_record_limits(key, value, headers) {
            return false;
        }
        let timestamp = timestamp.max(0);
        let base = if self.count == 0 {
            timestamp
        } else {
            self.base_timestamp
        };
        let delta = timestamp.saturating_sub(base);
        if delta > i64::from(u32::MAX) {
            return false;
        }
        let (inner, whole) = record::encoded_len(delta, self.count, key, value, headers);
        if self.buffer.len() + whole > limits::BATCH_BYTES_MAX {
            return false;
        }
        self.base_timestamp = base;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.buffer.reserve(whole);
        record::encode(
            &mut self.buffer,
            inner,
            delta,
            self.count,
            key,
            value,
            headers,
        );
        self.count += 1;
        true
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far, before compression, header included.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Makes it a batch of an idempotent producer; `base_sequence` is its first record's.
    pub fn set_producer(&mut self, id: ProducerId, epoch: u16, base_sequence: u32) {
        self.producer = Some((id, epoch, base_sequence));
    }

    /// The finished batch, not yet stamped.
    ///
    /// # Panics
    /// If there is no record: an empty batch does not exist.
    pub fn finish(mut self) -> CheckedBatch {
        let header = self.header();
        self.buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
        CheckedBatch::trusted(header, BytesMut::from(Bytes::from(self.buffer)))
    }

    /// The finished batch as a producer sends it: checksummed, with the leader's fields 0.
    ///
    /// # Panics
    /// If there is no record: an empty batch does not exist.
    pub fn finish_for_sending(mut self) -> Bytes {
        let mut header = self.header();
        self.buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
        header.crc32 = crc32fast::hash(&self.buffer[8..]);
        self.buffer[4..8].copy_from_slice(&header.crc32.to_le_bytes());
        Bytes::from(self.buffer)
    }

    fn header(&mut self) -> BatchHeader {
        assert!(self.count > 0, "a batch has at least one record");
        if self.codec != Codec::None {
            let mut packed = Vec::with_capacity(self.buffer.len() / 2);
            packed.resize(HEADER_BYTES, 0);
            compress::compress(self.codec, &self.buffer[HEADER_BYTES..], &mut packed);
            // What does not shrink travels plain.
            if packed.len() < self.buffer.len() {
                self.buffer = packed;
            } else {
                self.codec = Codec::None;
            }
        }
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or_default();
        BatchHeader {
            size: self.buffer.len() as u32,
            last_offset_delta: self.count - 1,
            record_count: self.count,
            producer_epoch,
            flags: self.codec.bits(),
            producer_id,
            base_sequence,
            max_ts_delta: (self.max_timestamp - self.base_timestamp) as u32,
            base_timestamp: self.base_timestamp,
            ..BatchHeader::default()
        }
    }
}

fn within_record_limits(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> bool {
    let header_bytes: usize = headers
        .iter()
        .map(|h| h.name.len() + h.value.map_or(0, <[u8]>::len) + 10)
        .sum();
    key.is_none_or(|k| k.len() <= limits::RECORD_KEY_BYTES_MAX)
        && value.is_none_or(|v| v.len() <= limits::RECORD_VALUE_BYTES_MAX)
        && headers.len() <= limits::RECORD_HEADERS_MAX
        && header_bytes <= limits::RECORD_HEADER_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_order_are_kept() {
        let mut b = BatchBuilder::new(Codec::None);
        assert!(b.push(500, None, Some(b"x"), &[]));
        assert!(b.push(100, None, None, &[]));
        assert!(b.push(700, None, None, &[]));
        assert!(
            !b.push(500 + (1 << 32), None, None, &[]),
            "another batch is needed"
        );
        let bytes = b.finish_for_sending();
        let checked = CheckedBatch::check(BytesMut::from(&bytes[..])).unwrap();
        assert_eq!(checked.header().max_timestamp(), 700);
        let walked = crate::record::walk(checked.header(), &bytes[HEADER_BYTES..]);
        let times: Vec<i64> = walked.map(|r| r.unwrap().timestamp).collect();
        assert_eq!(times, [500, 100, 700]);
    }

    #[test]
    fn a_record_over_its_limit_is_not_taken() {
        let mut b = BatchBuilder::new(Codec::None);
        assert!(!b.push(
            0,
            None,
            Some(&vec![0; limits::RECORD_VALUE_BYTES_MAX + 1]),
            &[]
        ));
        assert!(!b.push(
            0,
            Some(&vec![0; limits::RECORD_KEY_BYTES_MAX + 1]),
            None,
            &[]
        ));
        let many = vec![
            Header {
                name: b"n",
                value: None
            };
            limits::RECORD_HEADERS_MAX + 1
        ];
        assert!(!b.push(0, None, None, &many));
        assert!(b.is_empty());
    }
}
