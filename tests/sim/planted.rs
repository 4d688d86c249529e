//! Bugs that the simulated driver can be told to have: the checkers must find every one of them.

mod caught;

use flowstone_storage::disk::SyncPoint;
use flowstone_storage::state::Change;
use flowstone_storage::{Disk, DiskFile, Error, SimDisk, StateStore};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A bug of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A sync is answered and was not done.
    SyncWithoutSyncing,
    /// A sync that failed is done again and then answered as a success.
    SyncAgainAfterError,
    /// Names of the log are never made durable.
    NoDirectorySync,
    /// Settled segments are never made durable.
    NoSyncPoint,
    /// What was to be copied to the tier is answered as copied and was not.
    CopyNothing,
    /// Local files go, and that they went is not noted.
    ForgetUnnoted,
    /// A picture of the state is answered as stored and was not stored.
    MaterializeNothing,
    /// The manifest does not get what was settled.
    SkipManifest,
    /// The log's files go as soon as they are settled, although the state store is behind.
    RemoveTooEarly,
    /// A read for a task is never answered.
    LoseTaskRead,
    /// Committed topics are opened as if their readers wanted what is written.
    WrongVisibility,
    /// The rows of the tasks are gone after a restart.
    ForgetTasks,
    /// The rows of the producers are gone after a restart.
    ForgetProducers,
    /// An answer gets lost.
    LoseAnswer,
    /// A parcel is thrown away, and its shard is told that it arrived.
    DropParcel,
    /// A shard is told that its parcel arrived before it is durable where it went.
    AnswerTooEarly,
    /// A full mailbox is taken for a partition that is gone.
    FullIsUnknown,
    /// Answers to parcels get lost.
    LoseCarried,
    /// Parcels are appended like what a producer without a number sends.
    DeliverUnnumbered,
    /// What came from other shards is not remembered by a restart.
    ForgetArrivals,
    /// What goes to other shards is not remembered by a restart: the batches and their numbers, or one
    /// of them.
    ForgetOutbound,
    ForgetParcels,
    ForgetLanes,
}

/// Planted: rows of the state store that a start does not find.
pub(crate) fn forget_rows(state: &StateStore, plant: Option<Plant>) -> Result<(), Error> {
    let is_outbound = |key: &[u8]| key.get(1).is_some_and(|byte| byte & 0x80 != 0);
    let forgets = |key: &[u8]| match (plant, key.first()) {
        (Some(Plant::ForgetTasks), Some(b't' | b'd')) => true,
        (Some(Plant::ForgetProducers), Some(b'i')) => !is_outbound(key),
        (Some(Plant::ForgetArrivals), Some(b'i')) => is_outbound(key),
        (Some(Plant::ForgetOutbound), Some(b'o' | b'x')) => true,
        (Some(Plant::ForgetLanes), Some(b'o')) => true,
        (Some(Plant::ForgetParcels), Some(b'x')) => true,
        _ => false,
    };
    let mut gone: Vec<Change> = Vec::new();
    state.load(&mut |key, _| {
        if forgets(key) {
            gone.push((key.to_vec(), None));
        }
    })?;
    if gone.is_empty() {
        return Ok(());
    }
    state.apply(state.applied()?, &gone)
}

/// The simulated disk as the shard sees it, which may hide a bug.
#[derive(Clone, Debug)]
pub(crate) struct PlantedDisk {
    pub(crate) disk: SimDisk,
    pub(crate) plant: Option<Plant>,
}

/// Planted: a point that syncs nothing.
#[derive(Debug)]
struct NoSyncPoint;

impl SyncPoint for NoSyncPoint {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for PlantedDisk {
    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path, allocate_bytes)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        self.disk.create_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.plant == Some(Plant::NoDirectorySync) && dir.ends_with("log") {
            return Ok(());
        }
        self.disk.sync_dir(dir)
    }
    fn sync_point(&self, dir: &Path) -> io::Result<Option<Box<dyn SyncPoint>>> {
        if self.plant == Some(Plant::NoSyncPoint) {
            return Ok(Some(Box::new(NoSyncPoint)));
        }
        self.disk.sync_point(dir)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}
