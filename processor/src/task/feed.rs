//! Reading the records of a batch, going on where the last step stopped inside it.

use super::Input;
use flowstone_wire::record::{Walk, walk};
use flowstone_wire::{
    BatchHeader, ErrorCode, Failure, Lsn, Offset, PartitionId, RecordView, varint,
};

/// A place inside a batch, so that a step that takes a part of a large batch need not walk over all
/// that was dealt with before. Only a hint: positions decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resume {
    partition: PartitionId,
    lsn: Lsn,
    base_offset: Offset,
    /// Records before the place.
    records: u32,
    /// Bytes before the place.
    bytes: usize,
    /// The position of the task at the place.
    position: Offset,
}

/// The records of one batch, from the task's position or a little before it.
pub(super) struct Feed<'a> {
    start: Resume,
    body: &'a [u8],
    walk: Walk<'a>,
    /// Records dealt with since `start`.
    done: u32,
    position: Offset,
    offsets_fit: bool,
}

/// The offset behind a batch, whatever its header says.
pub(super) fn next_offset(header: &BatchHeader) -> Offset {
    let last = header
        .base_offset
        .0
        .saturating_add(u64::from(header.last_offset_delta));
    Offset(last.saturating_add(1))
}

impl<'a> Feed<'a> {
    pub(super) fn new(batch: &Input<'a>, hint: Option<Resume>, position: Offset) -> Self {
        let beginning = Resume {
            partition: batch.partition,
            lsn: batch.header.lsn,
            base_offset: batch.header.base_offset,
            records: 0,
            bytes: 0,
            position,
        };
        let fits = |h: &Resume| {
            h.partition == beginning.partition
                && h.lsn == beginning.lsn
                && h.base_offset == beginning.base_offset
                && h.records <= batch.header.record_count
                && h.bytes <= batch.body.len()
                && h.position <= position
        };
        let start = hint.filter(fits).unwrap_or(beginning);
        let header = BatchHeader {
            record_count: batch.header.record_count - start.records,
            ..batch.header
        };
        let body = &batch.body[start.bytes..];
        Self {
            start,
            body,
            walk: walk(&header, body),
            done: 0,
            position,
            offsets_fit: header
                .base_offset
                .0
                .checked_add(u64::from(u32::MAX) + 1)
                .is_some(),
        }
    }

    /// The next record.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Result<RecordView<'a>, Failure>> {
        if !self.offsets_fit {
            return Some(Err(self.damaged("its offsets are too large")));
        }
        match self.walk.next()? {
            Ok(view) => Some(Ok(view)),
            Err(error) => Some(Err(self.damaged(&error.to_string()))),
        }
    }

    /// The record that [`Self::next`] gave last is dealt with.
    #[inline]
    pub(super) fn done(&mut self) {
        self.done += 1;
    }

    fn damaged(&self, why: &str) -> Failure {
        Failure::new(
            ErrorCode::Damaged,
            format!(
                "batch at offset {} of partition {} cannot be read: {why}; repair the partition",
                self.start.base_offset, self.start.partition
            ),
        )
    }

    /// The place to go on from; `None` if it is not worth remembering.
    pub(super) fn resume(&self) -> Option<Resume> {
        let mut rest = self.body;
        for _ in 0..self.done {
            let len = usize::try_from(varint::take(&mut rest)?).ok()?;
            rest = rest.get(len..)?;
        }
        Some(Resume {
            records: self.start.records + self.done,
            bytes: self.start.bytes + (self.body.len() - rest.len()),
            position: self.position,
            ..self.start
        })
    }
}
