//! Walking the records of a batch, without copying.
//!
//! Kafka's v2 record (<https://kafka.apache.org/documentation/#record>), all numbers zig-zag varints
//! but the attributes:
//!
//! ```text
//! length | attributes (1 byte, 0) | timestamp delta | offset delta
//! | key length (-1 = null) | key | value length (-1 = null) | value
//! | number of headers | (name length | name | value length (-1 = null) | value)*
//! ```

use crate::batch::{BatchError, BatchHeader};
use crate::ids::Offset;
use crate::limits;
use crate::varint;

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Offset in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: usize,
    headers: &'a [u8],
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name, UTF-8 by convention.
    pub name: &'a [u8],
    /// Value, if there is one.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordView<'a> {
    /// The headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.headers;
        (0..self.header_count).map_while(move |_| take_header(&mut rest))
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers()
            .find(|h| h.name == name.as_bytes())
            .and_then(|h| h.value)
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint::take(rest)?;
    if len == -1 {
        return Some(None);
    }
    let len = usize::try_from(len).ok()?;
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(Some(bytes))
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Option<Header<'a>> {
    let name = take_bytes(rest)??;
    let value = take_bytes(rest)?;
    Some(Header { name, value })
}

/// Walks the records of a decompressed body. Stops at the first that is not valid.
pub struct Walk<'a> {
    base_offset: Offset,
    base_timestamp: i64,
    left: u32,
    rest: &'a [u8],
}

/// The records of `body`, which is the decompressed body of the batch with this header.
pub fn walk<'a>(header: &BatchHeader, body: &'a [u8]) -> Walk<'a> {
    Walk {
        base_offset: header.base_offset,
        base_timestamp: header.base_timestamp,
        left: header.record_count,
        rest: body,
    }
}

impl<'a> Walk<'a> {
    #[inline]
    fn take_record(&mut self) -> Option<RecordView<'a>> {
        let len = usize::try_from(varint::take(&mut self.rest)?).ok()?;
        let (mut record, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        let (_attributes, r) = record.split_first()?;
        record = r;
        let ts_delta = varint::take(&mut record)?;
        let offset_delta = u32::try_from(varint::take(&mut record)?).ok()?;
        let key = take_bytes(&mut record)?;
        let value = take_bytes(&mut record)?;
        let header_count = usize::try_from(varint::take(&mut record)?).ok()?;
        Some(RecordView {
            offset: self.base_offset.plus(u64::from(offset_delta)),
            timestamp: self.base_timestamp.saturating_add(ts_delta),
            key,
            value,
            header_count,
            headers: record,
        })
    }
}

impl<'a> Walk<'a> {
    /// The next record, and its bytes as they stand in the body.
    pub fn next_with_bytes(&mut self) -> Option<Result<(RecordView<'a>, &'a [u8]), BatchError>> {
        let before = self.rest;
        let record = self.next()?;
        let taken = before.len() - self.rest.len();
        Some(record.map(|r| (r, &before[..taken])))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        match self.take_record() {
            Some(record) => Some(Ok(record)),
            None => {
                self.left = 0;
                Some(Err(BatchError::Records("a record is cut off")))
            }
        }
    }
}

/// Checks every record of a producer's batch; see [`crate::CheckedBatch`] for what is proven.
pub(crate) fn check(header: &BatchHeader, body: &[u8]) -> Result<(), BatchError> {
    let fail = |why| Err(BatchError::Records(why));
    // The base offset is the leader's to give: whatever a producer sends there does not matter.
    let header = &BatchHeader {
        base_offset: Offset(0),
        ..*header
    };
    let mut walk = walk(header, body);
    let (mut expected, mut max_ts) = (0u64, i64::MIN);
    while walk.left > 0 {
        walk.left -= 1;
        let Some(record) = walk.take_record() else {
            return fail("a record is cut off");
        };
        if record.offset.0 != expected {
            return fail("offsets do not run 0, 1, 2, ...");
        }
        expected += 1;
        let delta = record.timestamp.saturating_sub(header.base_timestamp);
        if record.timestamp < 0 || delta > i64::from(header.max_ts_delta) {
            return fail("a timestamp is outside the header's range");
        }
        max_ts = max_ts.max(delta);
        if record
            .key
            .is_some_and(|k| k.len() > limits::RECORD_KEY_BYTES_MAX)
        {
            return fail("a key is longer than 64 KiB");
        }
        if record
            .value
            .is_some_and(|v| v.len() > limits::RECORD_VALUE_BYTES_MAX)
        {
            return fail("a value is longer than 4 MiB");
        }
        check_headers(&record)?;
    }
    if !walk.rest.is_empty() {
        return fail("bytes are left behind the last record");
    }
    if max_ts != i64::from(header.max_ts_delta) {
        return fail("the largest timestamp is not the header's");
    }
    Ok(())
}

fn check_headers(record: &RecordView<'_>) -> Result<(), BatchError> {
    if record.header_count > limits::RECORD_HEADERS_MAX {
        return Err(BatchError::Records("a record has more than 64 headers"));
    }
    if record.headers.len() > limits::RECORD_HEADER_BYTES_MAX {
        return Err(BatchError::Records(
            "the headers of a record are over 64 KiB",
        ));
    }
    let mut rest = record.headers;
    for _ in 0..record.header_count {
        if take_header(&mut rest).is_none() {
            return Err(BatchError::Records("a header is cut off"));
        }
    }
    if !rest.is_empty() {
        return Err(BatchError::Records(
            "bytes are left behind the headers of a record",
        ));
    }
    Ok(())
}

/// Bytes that a record of these parts takes, its length prefix included.
pub(crate) fn encoded_len(
    ts_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> (usize, usize) {
    let part =
        |b: Option<&[u8]>| b.map_or(varint::len(-1), |b| varint::len(b.len() as i64) + b.len());
    let inner = 1
        + varint::len(ts_delta)
        + varint::len(i64::from(offset_delta))
        + part(key)
        + part(value)
        + varint::len(headers.len() as i64)
        + headers
            .iter()
            .map(|h| part(Some(h.name)) + part(h.value))
            .sum::<usize>();
    (inner, inner + varint::len(inner as i64))
}

/// Appends a record whose inner length is `inner_len` (from [`encoded_len`]).
pub(crate) fn encode(
    out: &mut Vec<u8>,
    inner_len: usize,
    ts_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) {
    fn part(out: &mut Vec<u8>, b: Option<&[u8]>) {
        match b {
            None => varint::put(out, -1),
            Some(b) => {
                varint::put(out, b.len() as i64);
                out.extend_from_slice(b);
            }
        }
    }
    varint::put(out, inner_len as i64);
    out.push(0);
    varint::put(out, ts_delta);
    varint::put(out, i64::from(offset_delta));
    part(out, key);
    part(out, value);
    varint::put(out, headers.len() as i64);
    for h in headers {
        part(out, Some(h.name));
        part(out, h.value);
    }
}
