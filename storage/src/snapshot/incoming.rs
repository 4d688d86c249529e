//! Putting a snapshot together, beside what the shard has.

use super::Part;
use crate::disk::{Disk, DiskFile, create_dir_durably, list_or_nothing, remove_if_there};
use crate::error::Error;
use crate::layout;
use crate::log::{CheckedCopy, CopyError, LogConfig, ShardLog};
use crate::settled::{SegmentId, SettledMeta, SettledReader};
use crate::state::StateStore;
use bytes::Bytes;
use flowstone_wire::{BatchHeader, Epoch, Lsn};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A snapshot that is coming in.
#[derive(Debug)]
pub struct Incoming {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: StateStore,
    /// How far it goes, once that was said.
    reach: Option<(Lsn, Lsn)>,
    /// Segments whose files may come.
    wanted: BTreeMap<SegmentId, SettledMeta>,
    file: Option<Growing>,
    config: LogConfig,
    /// Begins where what is settled ends.
    log: Option<ShardLog>,
    ended: bool,
}

#[derive(Debug)]
struct Growing {
    id: SegmentId,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    at: u64,
    len: u64,
}

impl Incoming {
    /// Begins anew; what is left of an earlier one goes. `config` is that of the shard's log.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::State`].
    pub fn begin(disk: Arc<dyn Disk>, shard_dir: &Path, config: LogConfig) -> Result<Self, Error> {
        let dir = layout::incoming_dir(shard_dir);
        clear(&*disk, shard_dir)?;
        create_dir_durably(&*disk, &dir).map_err(Error::io("create", &dir))?;
        let state = StateStore::open(&*disk, &layout::state(&dir))?;
        Ok(Self {
            disk,
            dir,
            state,
            reach: None,
            wanted: BTreeMap::new(),
            file: None,
            config,
            log: None,
            ended: false,
        })
    }

    /// Takes the next part. On return from the last one all of it is durable.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not what can come next; [`Error::Io`], [`Error::State`]. It is of no use
    /// then.
    pub fn take(&mut self, part: Part) -> Result<(), Error> {
        let begun = self.reach.is_some();
        match part {
            Part::Begin {
                applied,
                settled_upto,
            } if !begun => self.reach = Some((applied, settled_upto)),
            _ if !begun || self.ended => return Err(self.wrong("a part comes out of turn")),
            Part::State(rows) => self.state.fill(&rows, &[], &[], (Lsn(0), Lsn(0)))?,
            Part::Settled(metas) => {
                self.state.fill(&[], &metas, &[], (Lsn(0), Lsn(0)))?;
                self.wanted.extend(metas.into_iter().map(|m| (m.id(), m)));
            }
            Part::Tiered(notes) => {
                self.state.fill(&[], &[], &notes, (Lsn(0), Lsn(0)))?;
                for (id, _) in notes.iter().filter(|(_, t)| !t.local) {
                    self.wanted.remove(id);
                }
            }
            Part::File { id, bytes } => self.begin_file(id, bytes)?,
            Part::Bytes(bytes) => self.grow(&bytes)?,
            Part::Log {
                epoch,
                first,
                last,
                bytes,
            } => self.append((epoch, first, last), bytes.into())?,
            Part::End => self.end()?,
            Part::Begin { .. } => return Err(self.wrong("it begins twice")),
        }
        Ok(())
    }

    /// Whether the last part has come, so that it can be installed.
    pub fn is_whole(&self) -> bool {
        self.ended
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Format {
            path: self.dir.clone(),
            what: format!("the snapshot cannot be: {what}"),
        }
    }

    fn begin_file(&mut self, id: SegmentId, len: u64) -> Result<(), Error> {
        let known = self.wanted.remove(&id).filter(|m| m.bytes == len);
        if known.is_none() || self.file.is_some() {
            return Err(self.wrong("a file comes that its manifest does not have"));
        }
        let path = layout::settled_path(&self.dir, id);
        let parent = layout::settled_dir(&self.dir, id.partition);
        create_dir_durably(&*self.disk, &parent).map_err(Error::io("create", &parent))?;
        let file = self
            .disk
            .create(&path, 0)
            .map_err(Error::io("create", &path))?;
        self.file = Some(Growing {
            id,
            file,
            path,
            at: 0,
            len,
        });
        self.close_if_whole()
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let room = self.file.as_ref().map_or(0, |f| f.len - f.at);
        let Some(f) = self.file.as_mut().filter(|_| bytes.len() as u64 <= room) else {
            return Err(self.wrong("bytes come that belong to no file"));
        };
        f.file
            .write_at(f.at, &[IoSlice::new(bytes)])
            .map_err(Error::io("write", &f.path))?;
        f.at += bytes.len() as u64;
        self.close_if_whole()
    }

    fn append(&mut self, range: (Epoch, Lsn, Lsn), bytes: Bytes) -> Result<(), Error> {
        let (applied, settled_upto) = self.reach.unwrap_or_default();
        let (_, first, _) = range;
        let log = match &mut self.log {
            Some(log) => log,
            None if first > applied.min(settled_upto).next() => {
                return Err(self.wrong("its log begins behind what is taken in and settled"));
            }
            None => {
                let (disk, dir) = (self.disk.clone(), &self.dir);
                let before = Lsn(first.0.saturating_sub(1));
                let none = &mut |_: &BatchHeader, _: &Bytes| {};
                let (log, ..) = ShardLog::open(disk, dir, self.config, before, none)?;
                self.log.insert(log)
            }
        };
        let copy = CheckedCopy::prove(range, vec![bytes]);
        let appended = copy.and_then(|copy| log.append_copy(copy, range.1));
        appended.map_err(|e| match e {
            CopyError::Log(e) => e,
            CopyError::NotThat { what, .. } => self.wrong(&what),
        })
    }

    /// Has the log on the disk: it must go as far as the state and the settled segments do.
    fn end_log(&mut self, applied: Lsn, settled_upto: Lsn) -> Result<(), Error> {
        let Some(mut log) = self.log.take() else {
            if applied != settled_upto {
                return Err(self.wrong("what is not both taken in and settled is missing"));
            }
            return Ok(());
        };
        if log.written() < applied.max(settled_upto) {
            return Err(self.wrong("the log is shorter than what was taken in or settled"));
        }
        match log.sync_job() {
            Some(job) => job.run().map_err(Error::io("sync", &self.dir)),
            None => Ok(()),
        }
    }

    fn close_if_whole(&mut self) -> Result<(), Error> {
        let Some(f) = self.file.take_if(|f| f.at == f.len) else {
            return Ok(());
        };
        f.file.sync().map_err(Error::io("sync", &f.path))?;
        let parent = f.path.parent().unwrap_or(&self.dir);
        self.disk
            .sync_dir(parent)
            .map_err(Error::io("sync", parent))?;
        // Its footer and its index are proven; its blocks are by whoever reads them.
        SettledReader::open(&*self.disk, &self.dir, f.id).map(drop)
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.file.is_some() || !self.wanted.is_empty() {
            return Err(self.wrong("files are missing"));
        }
        let reach = self.reach.unwrap_or_default();
        self.end_log(reach.0, reach.1)?;
        self.state.fill(&[], &[], &[], reach)?;
        let synced = self.disk.sync_dir(&self.dir);
        synced.map_err(Error::io("sync", &self.dir))?;
        self.ended = true;
        Ok(())
    }
}

/// Removes what is in `incoming/`, the mark that it is ready first.
pub(super) fn clear(disk: &dyn Disk, shard_dir: &Path) -> Result<(), Error> {
    let dir = layout::incoming_dir(shard_dir);
    remove_if_there(disk, &layout::incoming_ready(shard_dir))?;
    let settled = layout::settled_root(&dir);
    for partition in list_or_nothing(disk, &settled)? {
        let of = settled.join(partition);
        for name in list_or_nothing(disk, &of)? {
            remove_if_there(disk, &of.join(name))?;
        }
    }
    let log = layout::log_dir(&dir);
    for name in list_or_nothing(disk, &log)? {
        remove_if_there(disk, &log.join(name))?;
    }
    remove_if_there(disk, &layout::mark(&dir))?;
    let state = layout::state(&dir);
    remove_if_there(disk, &state)?;
    // What was made under another name first.
    for name in list_or_nothing(disk, &dir)? {
        if name.starts_with("state") {
            remove_if_there(disk, &dir.join(name))?;
        }
    }
    Ok(())
}
