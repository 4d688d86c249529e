//! A record on its way to the broker: borrowed bytes are encoded straight into a batch.

use crate::error::Error;
use bytes::Bytes;
use flowstone_wire::limits::{
    RECORD_HEADER_BYTES_MAX, RECORD_HEADERS_MAX, RECORD_KEY_BYTES_MAX, RECORD_VALUE_BYTES_MAX,
};

/// Bytes of a record beside its key, value and headers: an upper bound of its encoded fields.
const FIELD_BYTES_MAX: usize = 32;
/// The same of a header beside its name and value.
const HEADER_FIELD_BYTES_MAX: usize = 10;

/// Bytes of a key or a value, borrowed or owned. A borrowed one is copied once, into the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Bytes of the caller.
    Borrowed(&'a [u8]),
    /// Bytes of the record's own.
    Owned(Bytes),
}

impl Payload<'_> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

macro_rules! payload_from {
    ($($borrowed:ty),* ; $($owned:ty),*) => {
        $(impl<'a> From<&'a $borrowed> for Payload<'a> {
            fn from(bytes: &'a $borrowed) -> Self {
                Self::Borrowed(bytes.as_ref())
            }
        })*
        $(impl From<$owned> for Payload<'_> {
            fn from(bytes: $owned) -> Self {
                Self::Owned(bytes.into())
            }
        })*
    };
}
payload_from!([u8], str, Vec<u8>, String, Bytes ; Vec<u8>, String, Bytes);

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Borrowed(bytes)
    }
}

/// A record to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    key: Option<Payload<'a>>,
    value: Option<Payload<'a>>,
    headers: Vec<(Payload<'a>, Option<Payload<'a>>)>,
    partition: Option<u32>,
    timestamp_ms: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record with this value, of at most 4 MiB.
    pub fn new(value: impl Into<Payload<'a>>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// A record without a value: it says that its key is gone.
    pub fn tombstone(key: impl Into<Payload<'a>>) -> Self {
        Self::default().key(key)
    }

    /// Sets the key, of at most 64 KiB. Records of one key go to one partition and keep their order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Payload<'a>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header; at most 64 of them, 64 KiB together.
    #[must_use]
    pub fn header(mut self, name: impl Into<Payload<'a>>, value: impl Into<Payload<'a>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Sets the partition by its index in the topic, whatever the key says.
    #[must_use]
    pub fn partition(mut self, index: u32) -> Self {
        self.partition = Some(index);
        self
    }

    /// Sets the time of the event, milliseconds since 1970; the time of sending if not set.
    #[must_use]
    pub fn timestamp(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    #[inline]
    pub(crate) fn key_bytes(&self) -> Option<&[u8]> {
        self.key.as_ref().map(Payload::as_slice)
    }

    #[inline]
    pub(crate) fn value_bytes(&self) -> Option<&[u8]> {
        self.value.as_ref().map(Payload::as_slice)
    }

    pub(crate) fn wanted_partition(&self) -> Option<u32> {
        self.partition
    }

    pub(crate) fn wanted_timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    /// The headers as the encoder takes them. Does not allocate where there are none.
    #[inline]
    pub(crate) fn header_views(&self) -> Vec<flowstone_wire::Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| flowstone_wire::Header {
                name: name.as_slice(),
                value: value.as_ref().map(Payload::as_slice),
            })
            .collect()
    }

    /// An upper bound of the bytes that the record takes in a batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is over a limit, and so fits no batch.
    #[inline]
    pub(crate) fn checked_size_bytes(&self) -> Result<usize, Error> {
        let key_bytes = self.key_bytes().map_or(0, <[u8]>::len);
        let value_bytes = self.value_bytes().map_or(0, <[u8]>::len);
        let header_bytes: usize = self
            .headers
            .iter()
            .map(|(name, value)| {
                let value_bytes = value.as_ref().map_or(0, |v| v.as_slice().len());
                name.as_slice().len() + value_bytes + HEADER_FIELD_BYTES_MAX
            })
            .sum();
        let over = |what, size_bytes: usize, max: usize| {
            Err(Error::Invalid(format!(
                "record {what} of {size_bytes} is over its limit of {max}; send less at once"
            )))
        };
        if key_bytes > RECORD_KEY_BYTES_MAX {
            return over("key (bytes)", key_bytes, RECORD_KEY_BYTES_MAX);
        }
        if value_bytes > RECORD_VALUE_BYTES_MAX {
            return over("value (bytes)", value_bytes, RECORD_VALUE_BYTES_MAX);
        }
        if self.headers.len() > RECORD_HEADERS_MAX {
            return over("headers (number)", self.headers.len(), RECORD_HEADERS_MAX);
        }
        if header_bytes > RECORD_HEADER_BYTES_MAX {
            return over("headers (bytes)", header_bytes, RECORD_HEADER_BYTES_MAX);
        }
        Ok(FIELD_BYTES_MAX + key_bytes + value_bytes + header_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_is_bytes_makes_a_record() {
        let owned = vec![1u8, 2];
        let records = [
            Record::new(&owned),
            Record::new(owned.clone()),
            Record::new(&[1u8, 2]),
            Record::new(Bytes::from_static(&[1, 2])),
        ];
        for record in &records {
            assert_eq!(record.value_bytes(), Some(&[1u8, 2][..]));
        }
        let record = Record::tombstone("k").header("h", "v");
        assert_eq!(record.value_bytes(), None);
        assert_eq!(record.header_views()[0].value, Some(&b"v"[..]));
    }

    #[test]
    fn what_fits_no_batch_is_refused_with_its_size() {
        let large = vec![0; RECORD_VALUE_BYTES_MAX + 1];
        let error = Record::new(&large).checked_size_bytes().unwrap_err();
        assert!(error.to_string().contains("4194305"), "{error}");
        assert!(Record::new("").key(&large).checked_size_bytes().is_err());
        let mut many = Record::new("");
        for _ in 0..=RECORD_HEADERS_MAX {
            many = many.header("n", "v");
        }
        assert!(many.checked_size_bytes().is_err());
    }
}
