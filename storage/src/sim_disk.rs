//! A simulated disk with two images: what a reader sees (live) and what a power cut leaves (durable).
//!
//! Writes, length changes and names are durable only after the sync that covers them; a crash keeps
//! any subset of the rest, as its caller chooses, and may tear a write. Files can be damaged, the
//! disk can be full, and syncs can fail. Everything is deterministic.

use crate::disk::{Disk, DiskFile, Mapping, SyncPoint};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a crash does with a write that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It reached the disk.
    Kept,
    /// It did not.
    Lost,
    /// Its first bytes did.
    Torn(usize),
}

/// A change of a file that was not synced.
#[derive(Clone, Debug)]
enum Change {
    Write { at: u64, data: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl Inode {
    /// A sync, which may fail: as on Linux the pages count as clean then, and the next sync would say
    /// that all is well.
    fn sync(&mut self, succeeds: bool) {
        for change in std::mem::take(&mut self.pending) {
            if succeeds {
                survive(&mut self.durable, &change, Fate::Kept);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    /// The name that it is about.
    fn path(&self) -> &PathBuf {
        match self {
            Self::Link(p, _) | Self::Unlink(p) | Self::Rename(_, p) => p,
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => drop(names.insert(path, inode)),
            Self::Unlink(path) => drop(names.remove(&path)),
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    /// Operations left before everything fails, if a failure is planned.
    stop_after: Option<u64>,
    operations: u64,
    fail_syncs: bool,
    /// Syncs of files that failed so far.
    failed_syncs: u64,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens under this lock")
    }

    /// The number of changes that a crash now could keep or lose: unsynced writes and names.
    pub fn unsynced(&self) -> (usize, usize) {
        let s = self.lock();
        (
            s.inodes.iter().map(|i| i.pending.len()).sum(),
            s.name_changes.len(),
        )
    }

    /// The disk after a power cut now. `fate` is asked for every unsynced change of a file, in the
    /// order of files and writes; of the unsynced names the first `names_kept` survive.
    #[must_use]
    pub fn crash(&self, mut fate: impl FnMut(usize) -> Fate, names_kept: usize) -> Self {
        let s = self.lock();
        let mut names = s.durable.clone();
        for change in s.name_changes.iter().take(names_kept) {
            change.clone().apply(&mut names);
        }
        let (mut inodes, mut number) = (Vec::with_capacity(s.inodes.len()), 0);
        for inode in &s.inodes {
            let mut image = inode.durable.clone();
            for change in &inode.pending {
                survive(&mut image, change, fate(number));
                number += 1;
            }
            inodes.push(Inode {
                live: image.clone(),
                durable: image,
                pending: Vec::new(),
            });
        }
        let state = State {
            inodes,
            live: names.clone(),
            durable: names,
            capacity_bytes: s.capacity_bytes,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The disk after the process was killed: everything written is still there, and unsynced. What a
    /// sync failed for can be read until [`DiskFile::drop_cached`], and no sync will save it.
    #[must_use]
    pub fn kill(&self) -> Self {
        let s = self.lock();
        let state = State {
            inodes: s.inodes.clone(),
            live: s.live.clone(),
            durable: s.durable.clone(),
            name_changes: s.name_changes.clone(),
            capacity_bytes: s.capacity_bytes,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Limits the bytes that all files together may take.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Makes every sync fail from now on, as after the device broke.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock().fail_syncs = fail;
    }

    /// Makes every change fail after `operations` more: the place of a crash in the middle of work.
    pub fn stop_after(&self, operations: u64) {
        self.lock().stop_after = Some(operations);
    }

    /// Changes and syncs asked for so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Flips a bit of a file, in both images.
    ///
    /// # Panics
    /// If there is no such byte: a test that damages nothing proves nothing.
    pub fn flip_bit(&self, path: &Path, at: usize, bit: u8) {
        let mut s = self.lock();
        let inode = *s.live.get(path).expect("the file to be damaged exists");
        let inode = &mut s.inodes[inode];
        inode.live[at] ^= 1 << bit;
        if let Some(b) = inode.durable.get_mut(at) {
            *b ^= 1 << bit;
        }
    }

    /// Changes the bytes of a file, in both images.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn damage(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut s = self.lock();
        let inode = *s.live.get(path).expect("the file to be damaged exists");
        change(&mut s.inodes[inode].live);
        change(&mut s.inodes[inode].durable);
    }

    /// The live bytes of a file.
    pub fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        let s = self.lock();
        s.live.get(path).map(|i| s.inodes[*i].live.clone())
    }

    /// All file names.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().live.keys().cloned().collect()
    }
}

fn survive(image: &mut Vec<u8>, change: &Change, fate: Fate) {
    match (change, fate) {
        (_, Fate::Lost) => {}
        (Change::SetLen(len), _) => image.resize(*len as usize, 0),
        (Change::Write { at, data }, Fate::Torn(n)) => put(image, *at, &data[..n.min(data.len())]),
        (Change::Write { at, data }, Fate::Kept) => put(image, *at, data),
    }
}

fn put(image: &mut Vec<u8>, at: u64, data: &[u8]) {
    let (at, end) = (at as usize, at as usize + data.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(data);
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.stop_after {
            Some(0) => Err(Error::other("simulated crash")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.live
            .values()
            .map(|i| self.inodes[*i].live.len() as u64)
            .sum()
    }

    fn take_space(&self, bytes: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(capacity) if self.used() + bytes > capacity => {
                Err(Error::new(ErrorKind::StorageFull, "simulated disk is full"))
            }
            _ => Ok(()),
        }
    }

    fn sync_names(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.name_changes) {
            if change.path().parent() == Some(dir) {
                change.apply(&mut self.durable);
            } else {
                self.name_changes.push(change);
            }
        }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.live
            .get(path)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut s = self.lock();
        s.step()?;
        if s.live.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        s.take_space(allocate_bytes)?;
        let inode = s.inodes.len();
        s.inodes.push(Inode {
            live: vec![0; allocate_bytes as usize],
            durable: Vec::new(),
            pending: vec![Change::SetLen(allocate_bytes)],
        });
        s.live.insert(path.into(), inode);
        s.name_changes.push(NameChange::Link(path.into(), inode));
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.lock().inode(path)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let s = self.lock();
        let mut names: Vec<String> = s
            .live
            .keys()
            .filter_map(|p| p.strip_prefix(dir).ok())
            .filter_map(|p| p.components().next())
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<bool> {
        // Directories exist as soon as they are named.
        self.lock().step().map(|()| false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.lock();
        s.step()?;
        s.inode(from)?;
        let change = NameChange::Rename(from.into(), to.into());
        change.clone().apply(&mut s.live);
        s.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut s = self.lock();
        s.step()?;
        s.inode(path)?;
        let change = NameChange::Unlink(path.into());
        change.clone().apply(&mut s.live);
        s.name_changes.push(change);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut s = self.lock();
        s.step()?;
        if s.fail_syncs {
            return Err(Error::other("simulated sync failure"));
        }
        s.sync_names(dir);
        Ok(())
    }

    fn sync_point(&self, dir: &Path) -> io::Result<Option<Box<dyn SyncPoint>>> {
        let s = self.lock();
        Ok(Some(Box::new(SimSyncPoint {
            disk: self.clone(),
            dir: dir.into(),
            first_inode: s.inodes.len(),
            failed_syncs: s.failed_syncs,
        })))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let s = self.lock();
        Ok(s.capacity_bytes
            .map_or(u64::MAX, |c| c.saturating_sub(s.used())))
    }
}

/// Covers the files that were created since: the least that the trait promises to its callers.
#[derive(Debug)]
struct SimSyncPoint {
    disk: SimDisk,
    dir: PathBuf,
    first_inode: usize,
    /// Those that had failed before. As on Linux every later one is told of, whoever asked for it: what
    /// it lost may be ours, and counts as clean now.
    failed_syncs: u64,
}

impl SyncPoint for SimSyncPoint {
    fn sync(&self) -> io::Result<()> {
        let mut s = self.disk.lock();
        s.step()?;
        let fails = s.fail_syncs;
        s.failed_syncs += u64::from(fails);
        let s = &mut *s;
        let mut dirs = BTreeSet::new();
        for (path, inode) in &s.live {
            if path.starts_with(&self.dir) && *inode >= self.first_inode {
                s.inodes[*inode].sync(!fails);
                dirs.extend(path.parent().map(Path::to_owned));
            }
        }
        if s.failed_syncs > self.failed_syncs {
            return Err(Error::other("simulated sync failure"));
        }
        dirs.iter().for_each(|dir| s.sync_names(dir));
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let s = self.disk.lock();
        let live = &s.inodes[self.inode].live;
        let at = usize::try_from(at).map_err(|_| ErrorKind::UnexpectedEof)?;
        let part = at.checked_add(out.len()).and_then(|end| live.get(at..end));
        out.copy_from_slice(part.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, mut at: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut s = self.disk.lock();
        s.step()?;
        let end = at + parts.iter().map(|p| p.len() as u64).sum::<u64>();
        let have = s.inodes[self.inode].live.len() as u64;
        s.take_space(end.saturating_sub(have))?;
        let inode = &mut s.inodes[self.inode];
        for part in parts {
            put(&mut inode.live, at, part);
            inode.pending.push(Change::Write {
                at,
                data: part.to_vec(),
            });
            at += part.len() as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut s = self.disk.lock();
        s.step()?;
        let have = s.inodes[self.inode].live.len() as u64;
        s.take_space(len.saturating_sub(have))?;
        let inode = &mut s.inodes[self.inode];
        inode.live.resize(len as usize, 0);
        inode.pending.push(Change::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut s = self.disk.lock();
        s.step()?;
        let fails = s.fail_syncs;
        s.failed_syncs += u64::from(fails);
        s.inodes[self.inode].sync(!fails);
        if fails {
            return Err(Error::other("simulated sync failure"));
        }
        Ok(())
    }

    fn drop_cached(&self) -> io::Result<()> {
        let mut s = self.disk.lock();
        let inode = &mut s.inodes[self.inode];
        let mut image = inode.durable.clone();
        for change in &inode.pending {
            survive(&mut image, change, Fate::Kept);
        }
        inode.live = image;
        Ok(())
    }

    fn map(&self) -> io::Result<Mapping> {
        Ok(Mapping::Copied(Arc::new(Self {
            disk: self.disk.clone(),
            inode: self.inode,
        })))
    }
}
