//! The records that a step gives out, in one shared buffer.
//!
//! ```text
//! bytes:   key | value | (header name | header value)*  | next record ...
//! entries: sink, partition, time, start in bytes, lengths
//! headers: lengths
//! ```

use crate::pipeline::SinkRef;
use crate::processor::ProcessError;
use crate::record::Headers;
use flowstone_wire::{Header, PartitionId, limits};

/// A length that stands for "there is none".
const ABSENT: u32 = u32::MAX;
/// What one header is taken to cost beside its bytes; the same as in a batch.
pub(crate) const HEADER_COST_BYTES: usize = 10;

const _: () = assert!(limits::RECORD_VALUE_BYTES_MAX < ABSENT as usize);

/// The records that one step gives out, in the order they were emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderLens>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    sink: SinkRef,
    key_changed: bool,
    partition: PartitionId,
    timestamp: i64,
    start: usize,
    headers_start: usize,
    headers_end: usize,
    key_len: u32,
    value_len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeaderLens {
    name_len: u32,
    value_len: u32,
}

/// One record for a sink.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Where it goes: an index into [`crate::Pipeline::sinks`].
    pub sink: SinkRef,
    /// Partition of the input record that caused it.
    pub partition: PartitionId,
    /// A stage changed the key: the partition must be chosen by the hash of the key. Otherwise it
    /// goes to the partition of the same number.
    pub key_changed: bool,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    lens: &'a [HeaderLens],
    header_bytes: &'a [u8],
}

/// What an output is, before it is copied.
pub(crate) struct Draft<'a> {
    pub(crate) sink: SinkRef,
    pub(crate) partition: PartitionId,
    pub(crate) key_changed: bool,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

/// A place in the outputs to which they can be cut back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputMark {
    bytes: usize,
    entries: usize,
    headers: usize,
}

impl<'a> Output<'a> {
    /// The headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.header_bytes;
        self.lens.iter().map(move |lens| Header {
            name: take(&mut rest, lens.name_len).unwrap_or_default(),
            value: take(&mut rest, lens.value_len),
        })
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers()
            .find(|h| h.name == name.as_bytes())
            .and_then(|h| h.value)
    }
}

fn take<'a>(rest: &mut &'a [u8], len: u32) -> Option<&'a [u8]> {
    if len == ABSENT {
        return None;
    }
    let (bytes, tail) = rest.split_at(len as usize);
    *rest = tail;
    Some(bytes)
}

impl Outputs {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys, values and headers.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The record at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<Output<'_>> {
        self.entries.get(index).map(|entry| self.view(entry))
    }

    /// The records, in the order they were emitted.
    pub fn iter(&self) -> impl Iterator<Item = Output<'_>> {
        self.entries.iter().map(|entry| self.view(entry))
    }

    fn view(&self, entry: &Entry) -> Output<'_> {
        let mut rest = &self.bytes[entry.start..];
        let key = take(&mut rest, entry.key_len);
        let value = take(&mut rest, entry.value_len);
        Output {
            sink: entry.sink,
            partition: entry.partition,
            key_changed: entry.key_changed,
            timestamp: entry.timestamp,
            key,
            value,
            lens: &self.headers[entry.headers_start..entry.headers_end],
            header_bytes: rest,
        }
    }

    /// Room for a step that is about as large as one that gave out `other`.
    pub(crate) fn sized_like(other: &Self) -> Self {
        const KEEP_BYTES: usize = 64 << 10;
        Self {
            bytes: Vec::with_capacity(other.bytes.len().min(KEEP_BYTES)),
            entries: Vec::with_capacity(other.entries.len().min(KEEP_BYTES / size_of::<Entry>())),
            headers: Vec::new(),
        }
    }

    pub(crate) fn mark(&self) -> OutputMark {
        OutputMark {
            bytes: self.bytes.len(),
            entries: self.entries.len(),
            headers: self.headers.len(),
        }
    }

    pub(crate) fn bytes_since(&self, mark: OutputMark) -> usize {
        self.bytes.len() - mark.bytes
    }

    pub(crate) fn cut_back(&mut self, mark: OutputMark) {
        self.bytes.truncate(mark.bytes);
        self.entries.truncate(mark.entries);
        self.headers.truncate(mark.headers);
    }

    /// Copies a record in, if it fits into a batch.
    ///
    /// # Errors
    /// [`ProcessError::Reject`] with the limit that is exceeded; nothing is added then.
    #[inline]
    pub(crate) fn push(&mut self, draft: &Draft<'_>) -> Result<(), ProcessError> {
        let key_len = length("key", draft.key, limits::RECORD_KEY_BYTES_MAX)?;
        let value_len = length("value", draft.value, limits::RECORD_VALUE_BYTES_MAX)?;
        let mark = self.mark();
        self.bytes.extend_from_slice(draft.key.unwrap_or_default());
        self.bytes
            .extend_from_slice(draft.value.unwrap_or_default());
        if let Err(error) = self.push_headers(draft.headers) {
            self.cut_back(mark);
            return Err(error);
        }
        self.entries.push(Entry {
            sink: draft.sink,
            key_changed: draft.key_changed,
            partition: draft.partition,
            timestamp: draft.timestamp,
            start: mark.bytes,
            headers_start: mark.headers,
            headers_end: self.headers.len(),
            key_len,
            value_len,
        });
        Ok(())
    }

    fn push_headers(&mut self, headers: Headers<'_>) -> Result<(), ProcessError> {
        let (mut count, mut cost_bytes) = (0, 0);
        for header in headers.iter() {
            count += 1;
            cost_bytes += header_cost(&header);
            if count > limits::RECORD_HEADERS_MAX || cost_bytes > limits::RECORD_HEADER_BYTES_MAX {
                return Err(ProcessError::Reject(
                    "an emitted record has more than 64 headers or 64 KiB of them: emit fewer"
                        .into(),
                ));
            }
            self.bytes.extend_from_slice(header.name);
            self.bytes
                .extend_from_slice(header.value.unwrap_or_default());
            self.headers.push(HeaderLens {
                name_len: header.name.len() as u32,
                value_len: header.value.map_or(ABSENT, |v| v.len() as u32),
            });
        }
        Ok(())
    }
}

/// What a header counts against [`limits::RECORD_HEADER_BYTES_MAX`].
pub(crate) fn header_cost(header: &Header<'_>) -> usize {
    header.name.len() + header.value.map_or(0, <[u8]>::len) + HEADER_COST_BYTES
}

fn length(what: &str, bytes: Option<&[u8]>, max: usize) -> Result<u32, ProcessError> {
    match bytes {
        None => Ok(ABSENT),
        Some(bytes) if bytes.len() <= max => Ok(bytes.len() as u32),
        Some(bytes) => Err(ProcessError::Reject(format!(
            "an emitted {what} has {} bytes, over the limit of {max}: emit less",
            bytes.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft<'a>(value: &'a [u8], headers: Headers<'a>) -> Draft<'a> {
        Draft {
            sink: SinkRef::DLQ,
            partition: PartitionId(7),
            key_changed: false,
            timestamp: -5,
            key: None,
            value: Some(value),
            headers,
        }
    }

    #[test]
    fn what_goes_in_comes_out_also_behind_a_cut() {
        let headers = [
            Header {
                name: b"a",
                value: None,
            },
            Header {
                name: b"",
                value: Some(b""),
            },
            Header {
                name: b"b",
                value: Some(b"xyz"),
            },
        ];
        let mut outputs = Outputs::default();
        outputs.push(&draft(b"one", (&headers).into())).unwrap();
        let mark = outputs.mark();
        outputs.push(&draft(b"undone", (&headers).into())).unwrap();
        outputs.cut_back(mark);
        outputs.push(&draft(b"", Headers::NONE)).unwrap();
        let all: Vec<_> = outputs.iter().collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].key, all[0].value), (None, Some(&b"one"[..])));
        assert_eq!(all[0].headers().collect::<Vec<_>>(), headers);
        assert_eq!(all[0].header("b"), Some(&b"xyz"[..]));
        assert_eq!(
            (all[1].value, all[1].headers().count()),
            (Some(&b""[..]), 0)
        );
    }

    #[test]
    fn what_fits_no_batch_is_refused_and_leaves_nothing() {
        let mut outputs = Outputs::default();
        let large = vec![0; limits::RECORD_VALUE_BYTES_MAX + 1];
        assert!(outputs.push(&draft(&large, Headers::NONE)).is_err());
        let many = vec![
            Header {
                name: b"n",
                value: None
            };
            limits::RECORD_HEADERS_MAX + 1
        ];
        assert!(outputs.push(&draft(b"x", (&many).into())).is_err());
        assert_eq!(outputs, Outputs::default());
    }
}
