//! Damage: what of the log cannot be read any more, and where it can be read again.

use crate::disk::{Disk, Mapping, create_dir_durably};
use crate::layout;
use flowstone_wire::batch::{self, HEADER_BYTES};
use flowstone_wire::{BatchHeader, Lsn, Offset, PartitionId};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

/// What is kept of one damaged place, at most.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Durable batches that are not there, or not as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The segment in which it starts.
    pub path: PathBuf,
    /// Where in it.
    pub position: u64,
    /// First LSN that is missing.
    pub first_lsn: Lsn,
    /// Last LSN that is missing.
    pub last_lsn: Lsn,
    /// What stands there instead.
    pub what: String,
}

impl std::fmt::Display for Hole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            position,
            first_lsn,
            last_lsn,
            what,
        } = self;
        let path = path.display();
        write!(
            f,
            "'{path}' is damaged at byte {position}: LSN {first_lsn} to {last_lsn}: {what}"
        )
    }
}

/// Offsets of a partition that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostOffsets {
    /// Whose.
    pub partition: PartitionId,
    /// The first one.
    pub from: Offset,
    /// The first one behind them that can be read, or the end of the partition.
    pub to: Offset,
    /// Why, with the file and the place where that is known.
    pub what: String,
}

impl std::fmt::Display for LostOffsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            partition,
            from,
            to,
            what,
        } = self;
        let last = to.0.saturating_sub(1);
        write!(
            f,
            "offsets {from} to {last} of partition {partition} are damaged ({what}); read on from {to}, \
             or have `flowstone repair` close the gap"
        )
    }
}

/// Keeps a copy of damaged bytes: the file that they stand in will go.
///
/// # Errors
/// What the disk says.
pub(crate) fn keep(
    disk: &dyn Disk,
    shard_dir: &Path,
    name: &str,
    map: &Mapping,
    (from, to): (u64, u64),
) -> std::io::Result<()> {
    let dir = layout::damaged_dir(shard_dir);
    create_dir_durably(disk, &dir)?;
    let bytes = map.slice(from, to.saturating_sub(from).min(KEPT_BYTES_MAX));
    match disk.create(&dir.join(name), 0) {
        Ok(file) => {
            file.write_at(0, &[IoSlice::new(&bytes)])?;
            file.sync()?;
            disk.sync_dir(&dir)
        }
        // An earlier start has kept it.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// The next position at or behind `from`, and before `end`, at which a whole batch stands that is
/// wanted. Only for bytes that are known to be damaged: every byte is looked at.
pub(crate) fn next_batch(
    map: &Mapping,
    from: u64,
    end: u64,
    wanted: impl Fn(&BatchHeader) -> bool,
) -> Option<(u64, BatchHeader)> {
    /// Looked through at once.
    const WINDOW_BYTES: u64 = 1 << 20;
    let overlap = batch::MAGIC.len() as u64 - 1;
    let mut at = from;
    while at < end {
        let bytes = map.slice(at, (WINDOW_BYTES + overlap).min(end - at));
        let hits = bytes.windows(batch::MAGIC.len()).enumerate();
        for (n, _) in hits.filter(|(_, w)| *w == batch::MAGIC) {
            let position = at + n as u64;
            // The header first: a checksum over what is no batch would be work for nothing.
            let front = map.slice(position, (end - position).min(HEADER_BYTES as u64));
            let is_wanted = BatchHeader::decode(&front).is_ok_and(|h| wanted(&h));
            if let Some(header) = is_wanted.then(|| batch_at(map, position, end)).flatten() {
                return Some((position, header));
            }
        }
        at += WINDOW_BYTES;
    }
    None
}

/// The header of the whole, valid batch at this position, if there is one before `end`.
pub(crate) fn batch_at(map: &Mapping, position: u64, end: u64) -> Option<BatchHeader> {
    let left = end.checked_sub(position)?;
    let front = map.slice(position, left.min(HEADER_BYTES as u64));
    let header = BatchHeader::decode(&front).ok()?;
    let bytes = map.slice(position, u64::from(header.size).min(left));
    batch::verify(&bytes).ok()
}
