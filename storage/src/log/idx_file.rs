//! The index file of a sealed segment: its runs, so that a start need not read the segment.
//!
//! It is derived data: written without a sync when the segment is sealed, and believed only where its
//! checksum agrees and the whole segment lies below the mark. Otherwise the segment is read.
//!
//! ```text
//! 0  magic  4  "FSX1"
//! 4  crc32  4  IEEE over the rest
//! 8  postcard of first LSN, next LSN, end position, [(partition, [run])]
//! ```

use super::index::Run;
use crate::disk::Disk;
use flowstone_wire::{Lsn, PartitionId};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice};
use std::path::Path;

const MAGIC: [u8; 4] = *b"FSX1";
/// An index is a fraction of its segment; more than this is not one.
const BYTES_MAX: u64 = 1 << 30;

/// What an index file says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexFile {
    pub(crate) first_lsn: Lsn,
    pub(crate) next_lsn: Lsn,
    pub(crate) end: u64,
    pub(crate) runs: Vec<(PartitionId, Vec<Run>)>,
}

impl IndexFile {
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let mut front = MAGIC.to_vec();
        front.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let file = match disk.create(path, 0) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(path)?;
                disk.create(path, 0)?
            }
            other => other?,
        };
        file.write_at(0, &[IoSlice::new(&front), IoSlice::new(&body)])
    }

    /// The index in this file, if it is whole.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Option<Self> {
        let file = disk.open(path).ok()?;
        let len = file.len().ok().filter(|len| (8..BYTES_MAX).contains(len))?;
        let mut bytes = vec![0; len as usize];
        file.read_at(0, &mut bytes).ok()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (crc, body) = rest.split_first_chunk::<4>()?;
        if *magic != MAGIC || u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return None;
        }
        match postcard::take_from_bytes::<Self>(body) {
            Ok((index, [])) if index.is_possible() => Some(index),
            _ => None,
        }
    }

    /// Whether the runs can stand in a segment like this. Readers add to their numbers.
    fn is_possible(&self) -> bool {
        let by_partition = self.runs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let one = |run: &Run| {
            let end = run.position.checked_add(u64::from(run.bytes));
            run.segment == self.first_lsn
                && run.bytes > 0
                && end.is_some_and(|end| end <= self.end)
                && run.base_offset < run.next_offset
                && (self.first_lsn..self.next_lsn).contains(&run.first_lsn)
                && run.first_lsn < run.next_lsn
                && run.next_lsn <= self.next_lsn
        };
        let in_order = |pair: &[Run]| {
            pair[0].next_offset <= pair[1].base_offset
                && pair[0].next_lsn <= pair[1].first_lsn
                && pair[0].position + u64::from(pair[0].bytes) <= pair[1].position
        };
        let mut all = self.runs.iter().map(|(_, runs)| runs);
        let bytes = self.runs.iter().flat_map(|(_, runs)| runs);
        let bytes: u64 = bytes.map(|run| u64::from(run.bytes)).sum();
        by_partition
            && bytes <= self.end
            && self.first_lsn.0 > 0
            && all.all(|runs| runs.iter().all(one) && runs.windows(2).all(in_order))
    }
}
