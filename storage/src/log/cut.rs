//! Cutting the log: entries that were never committed go, durably, before anything is put in their place.
//!
//! The segment in which the log is to end is copied up to there and takes the place of the old one by a
//! rename: the old bytes stay where they are for those who have slices of them, and never come back.
//! Whatever a crash leaves is a log that begins like the old one: cut, or not cut yet.

use super::append::allocate;
use super::index::HotIndex;
use super::recover_tail::segment;
use super::segment::Segment;
use super::{LogConfig, ShardLog};
use crate::disk::{Disk, DiskFile, remove_if_there};
use crate::error::Error;
use crate::layout;
use crate::mark::Mark;
use flowstone_wire::Lsn;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

/// Copied at once.
const COPY_BYTES: u64 = 4 << 20;

/// A log that is to end earlier, for a thread that may wait.
#[derive(Debug)]
pub struct CutJob {
    /// The last LSN that stays.
    pub last: Lsn,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: LogConfig,
    /// The segment in which the log will end, and where in it.
    end: Segment,
    position: u64,
    /// First LSNs of the segments behind it, oldest first.
    later: Vec<Lsn>,
}

/// What came of a [`CutJob`]: the segment in which the log ends now.
#[derive(Debug)]
pub struct CutLog(Segment);

impl CutJob {
    /// Cuts. On return what is left is durable, and so is that there is no more.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`]; the log is as before or cut, and must be opened again.
    pub fn run(&self, mark: &mut Mark) -> Result<CutLog, Error> {
        // Else a start would miss what is about to go.
        mark.retreat(self.last)?;
        let first = self.end.first_lsn;
        let path = self.dir.join(layout::segment_name(first));
        let whole = self.position == self.end.end;
        let file = match whole {
            true => self.end.file.clone(),
            false => self.copy_front()?,
        };
        for first in self.later.iter().rev() {
            remove_if_there(&*self.disk, &self.dir.join(layout::index_name(*first)))?;
            remove_if_there(&*self.disk, &self.dir.join(layout::segment_name(*first)))?;
        }
        remove_if_there(&*self.disk, &self.dir.join(layout::index_name(first)))?;
        if !whole {
            let cut = self.dir.join(layout::CUT);
            let renamed = self.disk.rename(&cut, &path);
            renamed.map_err(Error::io("rename", &cut))?;
        }
        let synced = self.disk.sync_dir(&self.dir);
        synced.map_err(Error::io("sync", &self.dir))?;
        segment(&path, file, first, self.last.next(), self.position).map(CutLog)
    }

    /// Copies the front of the last segment into a file of its own, durably.
    fn copy_front(&self) -> Result<Arc<dyn DiskFile>, Error> {
        let cut = self.dir.join(layout::CUT);
        remove_if_there(&*self.disk, &cut)?;
        let file = allocate(&*self.disk, &self.dir, &cut, self.config)?;
        let mut at = 0;
        while at < self.position {
            let len = COPY_BYTES.min(self.position - at);
            let bytes = self
                .end
                .map
                .fetch(at, len)
                .map_err(Error::io("read", &cut))?;
            file.write_at(at, &[IoSlice::new(&bytes)])
                .map_err(Error::io("write", &cut))?;
            at += len;
        }
        file.sync().map_err(Error::io("sync", &cut))?;
        Ok(file)
    }
}

impl ShardLog {
    /// What is to be done so that `last`, which is in the log or directly before it, is the last entry.
    /// Until [`Self::cut_done`] nothing may be appended or synced; nothing is staged.
    ///
    /// # Errors
    /// [`Error::Io`] if the place cannot be found.
    pub fn cut_job(&mut self, last: Lsn) -> Result<CutJob, Error> {
        debug_assert!(self.staged.is_empty(), "only what is written can be cut");
        let (sealed, active) = (&mut self.sealed, &mut self.active);
        let mut all: Vec<&mut Segment> = sealed.iter_mut().chain([active]).collect();
        let after = all.partition_point(|s| s.first_lsn <= last);
        // Where everything goes, the first segment stays, empty.
        let at = after.saturating_sub(1);
        let later = all[at + 1..].iter().map(|s| s.first_lsn).collect();
        let end = &mut all[at];
        let path = self.dir.join(layout::segment_name(end.first_lsn));
        let position = end
            .position_of(last.next())
            .map_err(Error::io("read", &path))?;
        Ok(CutJob {
            last,
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            config: self.config,
            end: end.clone(),
            position,
            later,
        })
    }

    /// The log ends where the job has cut it.
    ///
    /// # Errors
    /// [`Error::Io`] if the segment cannot be read; the log must be opened again.
    pub fn cut_done(&mut self, CutLog(end): CutLog) -> Result<(), Error> {
        let first = end.first_lsn;
        self.sealed.retain(|s| s.first_lsn < first);
        self.index.drop_from(first);
        self.next_lsn = end.next_lsn;
        self.written = Lsn(end.next_lsn.0 - 1);
        self.durable = self.written;
        self.staged_at = end.end;
        self.unsynced.clear();
        self.unsynced_dir = false;
        self.active = end;
        index_again(&self.active, &mut self.index).map_err(Error::io(
            "read",
            &self.dir.join(layout::segment_name(first)),
        ))
    }
}

fn index_again(segment: &Segment, index: &mut HotIndex) -> std::io::Result<()> {
    for batch in segment.all_headers() {
        let (at, header) = batch?;
        index.add(&header, segment.first_lsn, at);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
