//! The end of the log: where it is, and making it ready to be written again.

use super::LogConfig;
use super::append::allocate;
use super::damage::Hole;
use super::lsns::Places;
use super::recover::{FoundSegment, Recovery, RecoveryNote};
use super::segment::Segment;
use crate::disk::{DiskFile, remove_if_there};
use crate::error::Error;
use crate::layout;
use flowstone_wire::Lsn;
use std::path::Path;
use std::sync::Arc;

/// Where the log ends.
pub(super) struct Tail {
    /// Index into the found segments.
    pub(super) segment: usize,
    pub(super) position: u64,
    /// Durable batches are missing behind it: what stands there stays as it is.
    pub(super) torn_off: bool,
}

impl Recovery<'_> {
    /// The end of the log at this position, or before the group that is not complete there.
    pub(super) fn tail(&mut self, number: usize, at: u64, cut: bool) -> Tail {
        let mut position = at;
        if let Some((first, _, start)) = self.group.first() {
            position = *start;
            self.expected = first.lsn;
            self.result.rows.push('h');
            self.group.clear();
        }
        if cut {
            let path = self.found[number].path.clone();
            self.result.notes.push(RecoveryNote::Cut {
                path,
                position,
                lsn: self.expected,
            });
        }
        Tail {
            segment: number,
            position,
            torn_off: false,
        }
    }

    pub(super) fn start_empty(&mut self, config: LogConfig) -> Result<Segment, Error> {
        if self.mark > self.applied {
            self.note_hole(Hole {
                path: self.dir.join(layout::segment_name(self.expected)),
                position: 0,
                first_lsn: self.applied.next(),
                last_lsn: self.mark,
                what: "the log has no segments".into(),
            })?;
            self.expected = self.mark.next();
        }
        self.result.rows.push('0');
        self.start_segment(config)
    }

    /// Makes the segment that takes the next batch.
    fn start_segment(&self, config: LogConfig) -> Result<Segment, Error> {
        let path = self.dir.join(layout::segment_name(self.expected));
        let file = allocate(self.disk, self.dir, &path, config)?;
        file.sync().map_err(Error::io("sync", &path))?;
        self.sync_dir()?;
        segment(&path, file, self.expected, self.expected, 0)
    }

    fn sync_dir(&self) -> Result<(), Error> {
        let synced = self.disk.sync_dir(self.dir);
        synced.map_err(Error::io("sync", self.dir))
    }

    /// Removes the segments behind the end of the log, newest first, so that a crash in between
    /// leaves a picture of the same row.
    pub(super) fn drop_later_segments(&mut self, last: usize) -> Result<(), Error> {
        for gone in self.found.drain(last + 1..).rev() {
            let index = self.dir.join(layout::index_name(gone.first_lsn));
            remove_if_there(self.disk, &index)?;
            remove_if_there(self.disk, &gone.path)?;
            self.result
                .notes
                .push(RecoveryNote::Dropped { path: gone.path });
        }
        Ok(())
    }

    /// Makes the last segment ready to be written again: nothing but zeros behind the end.
    pub(super) fn open_tail(&mut self, tail: &Tail, config: LogConfig) -> Result<Segment, Error> {
        if tail.torn_off {
            self.sync_sealed()?;
            return self.start_segment(config);
        }
        let FoundSegment {
            first_lsn,
            path,
            file,
        } = &self.found[tail.segment];
        let io = |action| Error::io(action, path);
        remove_if_there(self.disk, &self.dir.join(layout::index_name(*first_lsn)))?;
        // Even a blank tail may have islands of unsynced batches further on. They must not come
        // back to life when the log grows up to them.
        file.set_len(tail.position).map_err(io("cut"))?;
        // On a full disk the segment stays short: the next append rolls, and is refused there.
        let _ = file.set_len(config.segment_bytes.max(tail.position));
        file.sync().map_err(io("sync"))?;
        self.sync_sealed()?;
        self.sync_dir()?;
        segment(path, file.clone(), *first_lsn, self.expected, tail.position)
    }

    fn sync_sealed(&self) -> Result<(), Error> {
        for sealed in &self.sealed {
            // After a kill these may be in the page cache only.
            sealed.file.sync().map_err(Error::io("sync", self.dir))?;
        }
        Ok(())
    }
}

pub(super) fn segment(
    path: &Path,
    file: Arc<dyn DiskFile>,
    first_lsn: Lsn,
    next_lsn: Lsn,
    end: u64,
) -> Result<Segment, Error> {
    let map = file.map().map_err(Error::io("map", path))?;
    let size = file.len().map_err(Error::io("read", path))?;
    Ok(Segment {
        file,
        map,
        first_lsn,
        next_lsn,
        end,
        size,
        places: Places::default(),
    })
}
