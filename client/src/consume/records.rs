//! Records as they are handed out: views of the bytes that came, checked before.

use super::fetch::FetchedBatch;
use bytes::Bytes;
use flowstone_wire::batch::{self, BatchError};
use flowstone_wire::native::FetchAnswer;
use flowstone_wire::record::{self, Walk};
use flowstone_wire::{BatchHeader, Offset, RecordView};

/// Some records of one partition, in order; none if nothing came in time.
///
/// Iterating gives [`RecordView`]s that borrow from the bytes received; nothing is copied.
#[derive(Clone, Debug)]
pub struct Records {
    partition: u32,
    batches: Vec<(BatchHeader, Bytes)>,
    first_offset: Offset,
    next_offset: Offset,
    bounds: FetchAnswer,
    count: usize,
    body_bytes: usize,
}

impl Records {
    /// No records; the next one read will be `position`.
    pub(crate) fn none(partition: u32, position: Offset, bounds: FetchAnswer) -> Self {
        Self {
            partition,
            batches: Vec::new(),
            first_offset: position,
            next_offset: position,
            bounds,
            count: 0,
            body_bytes: 0,
        }
    }

    /// Adds the records of a batch that are not before the ones wanted.
    ///
    /// # Errors
    /// [`BatchError`] if the checksum does not agree or the records are not what the header says; nothing is added then.
    pub(crate) fn add(&mut self, fetched: &FetchedBatch) -> Result<(), BatchError> {
        batch::verify(&fetched.bytes)?;
        let (header, body) = batch::records(&fetched.bytes)?;
        let mut behind_last = header.base_offset;
        let mut wanted = 0;
        for record in record::walk(&header, &body) {
            let offset = record?.offset;
            if offset < behind_last || offset > header.last_offset() {
                return Err(BatchError::Records("offsets are not in order"));
            }
            behind_last = offset.plus(1);
            wanted += usize::from(offset >= self.first_offset);
        }
        self.next_offset = header.next_offset();
        // The shard's own records take offsets but are nobody's to read.
        if !header.is_control() && wanted > 0 {
            self.count += wanted;
            self.body_bytes += body.len();
            self.batches.push((header, body));
        }
        Ok(())
    }

    /// Index of the partition in the topic.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none: nothing came in time.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batches' bodies after decompression.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The offset behind the last record: what is read next, and what a commit stores.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The first offset that the partition still kept when this was read.
    pub fn start(&self) -> Offset {
        self.bounds.start
    }

    /// Behind the last record that readers could see when this was read.
    pub fn end(&self) -> Offset {
        self.bounds.end
    }

    /// The records, in order.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            batches: self.batches.iter(),
            walk: None,
            first_offset: self.first_offset,
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = RecordView<'a>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Records`].
pub struct RecordIter<'a> {
    batches: std::slice::Iter<'a, (BatchHeader, Bytes)>,
    walk: Option<Walk<'a>>,
    first_offset: Offset,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        loop {
            if let Some(walk) = &mut self.walk {
                // All of them were walked when they were added: none is an error.
                for record in walk.flatten() {
                    if record.offset >= self.first_offset {
                        return Some(record);
                    }
                }
            }
            let (header, body) = self.batches.next()?;
            self.walk = Some(record::walk(header, body));
        }
    }
}
