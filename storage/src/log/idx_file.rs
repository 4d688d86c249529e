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
        postcard::from_bytes(body).ok()
    }
}
