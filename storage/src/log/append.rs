//! Appending: place, stage, flush, roll, and the sync that makes it durable.

use super::idx_file::IndexFile;
use super::lsns::Places;
use super::segment::Segment;
use super::{LogConfig, ShardLog};
use crate::disk::{Disk, DiskFile, remove_if_there};
use crate::error::Error;
use crate::layout;
use bytes::Bytes;
use flowstone_wire::{BatchHeader, CheckedBatch, Epoch, Lsn, Offset, PartitionId, Stamp};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A batch that has its place in the log.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its header, stamped.
    pub header: BatchHeader,
    /// Its bytes, header included.
    pub bytes: Bytes,
}

/// What must be synced so that everything written by now is durable.
#[derive(Debug)]
pub struct SyncJob {
    /// The last LSN that is durable when this succeeded.
    pub upto: Lsn,
    files: Vec<Arc<dyn DiskFile>>,
    dir: Option<(Arc<dyn Disk>, PathBuf)>,
}

impl SyncJob {
    /// Syncs. May take as long as the device likes.
    ///
    /// # Errors
    /// What the disk says. The log must then take nothing more: see [`DiskFile::sync`].
    pub fn run(&self) -> std::io::Result<()> {
        for file in &self.files {
            file.sync()?;
        }
        match &self.dir {
            Some((disk, dir)) => disk.sync_dir(dir),
            None => Ok(()),
        }
    }

    /// The one file to sync, where it is no more than that, for drivers that sync through io_uring.
    pub fn single_file(&self) -> Option<&Arc<dyn DiskFile>> {
        match (&self.files[..], &self.dir) {
            ([file], None) => Some(file),
            _ => None,
        }
    }
}

/// Allocates the segment that will be active after the current one, so that a roll is a rename.
///
/// # Errors
/// [`Error::DiskFull`], [`Error::Io`]; nothing is left behind but an unfinished spare, which the next
/// call or start removes.
pub fn allocate_spare(
    disk: &dyn Disk,
    dir: &Path,
    config: LogConfig,
) -> Result<Arc<dyn DiskFile>, Error> {
    let unfinished = dir.join(layout::SPARE_UNFINISHED);
    remove_if_there(disk, &unfinished)?;
    let file = allocate(disk, dir, &unfinished, config)?;
    file.sync().map_err(Error::io("sync", &unfinished))?;
    let spare = dir.join(layout::SPARE);
    disk.rename(&unfinished, &spare)
        .map_err(Error::io("rename", &unfinished))?;
    Ok(file)
}

pub(super) fn allocate(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    config: LogConfig,
) -> Result<Arc<dyn DiskFile>, Error> {
    let free_bytes = disk
        .free_bytes()
        .map_err(Error::io("read the free space of", dir))?;
    let needed_bytes = config.segment_bytes + config.min_free_bytes;
    if free_bytes < needed_bytes {
        return Err(Error::DiskFull {
            free_bytes,
            needed_bytes,
        });
    }
    disk.create(path, config.segment_bytes)
        .map_err(|e| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull {
                free_bytes,
                needed_bytes,
            },
            _ => Error::io("allocate", path)(e),
        })
}

impl ShardLog {
    /// Makes room for a group of `bytes` in one segment, rolling to a new one where need be.
    ///
    /// # Errors
    /// [`Error::DiskFull`] (try again later; the log is as before), [`Error::GroupTooLarge`], and
    /// [`Error::Io`], after which the log must not be used.
    pub fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        if self.active.end + bytes <= self.active.size {
            return Ok(());
        }
        if bytes > self.config.segment_bytes {
            let segment_bytes = self.config.segment_bytes;
            return Err(Error::GroupTooLarge {
                bytes,
                segment_bytes,
            });
        }
        self.roll()
    }

    /// Gives the batch its LSN and place and stages it. Room must have been made.
    ///
    /// # Panics
    /// If no room was made: batches of a group never straddle segments.
    pub fn append(
        &mut self,
        batch: CheckedBatch,
        partition: PartitionId,
        base_offset: Offset,
    ) -> Appended {
        let lsn = self.next_lsn;
        let stamp = Stamp {
            partition,
            base_offset,
            lsn,
            epoch: self.epoch,
        };
        let (header, bytes) = batch.stamp(stamp);
        self.place(&header, bytes.clone());
        Appended { header, bytes }
    }

    /// Stages a batch that has its LSN, for which room was made.
    pub(super) fn place(&mut self, header: &BatchHeader, bytes: Bytes) {
        let position = self.active.end;
        assert!(
            position + u64::from(header.size) <= self.active.size,
            "room was made"
        );
        self.index.add(header, self.active.first_lsn, position);
        self.active.end += u64::from(header.size);
        self.next_lsn = header.lsn.next();
        self.active.next_lsn = self.next_lsn;
        self.staged.push(bytes);
    }

    /// Stamps this epoch on what is appended from now on.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Writes what is staged to the page cache and returns the last written LSN.
    ///
    /// # Errors
    /// [`Error::Io`]; the log must not be used after it.
    pub fn flush(&mut self) -> Result<Lsn, Error> {
        if !self.staged.is_empty() {
            self.write_staged()?;
            self.staged.clear();
            self.staged_at = self.active.end;
            self.written = Lsn(self.next_lsn.0 - 1);
        }
        Ok(self.written)
    }

    fn write_staged(&mut self) -> Result<(), Error> {
        let path = || self.dir.join(layout::segment_name(self.active.first_lsn));
        let write = |at: u64, parts: &[IoSlice<'_>]| {
            self.active
                .file
                .write_at(at, parts)
                .map_err(|e| Error::io("write", &path())(e))
        };
        // The common case has one batch: no list is built for it.
        if let [one] = &self.staged[..] {
            return write(self.staged_at, &[IoSlice::new(one)]);
        }
        let parts: Vec<IoSlice<'_>> = self.staged.iter().map(|b| IoSlice::new(b)).collect();
        write(self.staged_at, &parts)
    }

    fn roll(&mut self) -> Result<(), Error> {
        // First of all, so that a killed process leaves no gap between two segments.
        self.flush()?;
        let first_lsn = self.next_lsn;
        let path = self.dir.join(layout::segment_name(first_lsn));
        let file = match &self.spare {
            Some(_) => {
                let spare = self.dir.join(layout::SPARE);
                self.disk
                    .rename(&spare, &path)
                    .map_err(Error::io("rename", &spare))?;
                self.spare.take().expect("it was matched")
            }
            None => allocate(&*self.disk, &self.dir, &path, self.config)?,
        };
        let map = file.map().map_err(Error::io("map", &path))?;
        let size = file.len().map_err(Error::io("read", &path))?;
        let next = Segment {
            file,
            map,
            first_lsn,
            next_lsn: first_lsn,
            end: 0,
            size,
            places: Places::default(),
        };
        let full = std::mem::replace(&mut self.active, next);
        self.staged_at = 0;
        self.unsynced.push(full.file.clone());
        self.unsynced_dir = true;
        // Without its index a start reads the segment: slower, not wrong.
        let _ = self.write_index(&full);
        self.sealed.push_back(full);
        Ok(())
    }

    fn write_index(&self, segment: &Segment) -> std::io::Result<()> {
        let index = IndexFile {
            first_lsn: segment.first_lsn,
            next_lsn: segment.next_lsn,
            end: segment.end,
            runs: self.index.of_segment(segment.first_lsn),
        };
        index.write(
            &*self.disk,
            &self.dir.join(layout::index_name(segment.first_lsn)),
        )
    }

    /// What to sync for everything that is written and not yet durable; `None` if that is nothing.
    pub fn sync_job(&mut self) -> Option<SyncJob> {
        if self.durable == self.written {
            return None;
        }
        let mut files = std::mem::take(&mut self.unsynced);
        files.push(self.active.file.clone());
        let dir = std::mem::take(&mut self.unsynced_dir);
        let dir = dir.then(|| (self.disk.clone(), self.dir.clone()));
        Some(SyncJob {
            upto: self.written,
            files,
            dir,
        })
    }

    /// Notes that a sync job up to this LSN succeeded.
    pub fn synced(&mut self, upto: Lsn) {
        debug_assert!(upto <= self.written, "only what was written can be durable");
        self.durable = self.durable.max(upto);
    }

    /// Whether there is no segment that waits to become active.
    pub fn wants_spare(&self) -> bool {
        self.spare.is_none()
    }

    /// Takes a segment that [`allocate_spare`] made.
    pub fn give_spare(&mut self, file: Arc<dyn DiskFile>) {
        self.spare = Some(file);
    }

    /// What [`allocate_spare`] needs.
    pub fn spare_request(&self) -> (Arc<dyn Disk>, PathBuf, LogConfig) {
        (self.disk.clone(), self.dir.clone(), self.config)
    }
}
