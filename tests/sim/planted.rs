//! Bugs that the simulated driver can be told to have: the checkers must find every one of them.

use crate::run::{Options, run};
use flowstone_storage::{Disk, DiskFile, SimDisk};
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
}

/// The simulated disk as the shard sees it, which may hide a bug.
#[derive(Clone, Debug)]
pub(crate) struct PlantedDisk {
    pub(crate) disk: SimDisk,
    pub(crate) plant: Option<Plant>,
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
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
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
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

/// Seeds until the bug is found; it must not take more than `most`.
fn is_caught(plant: Plant, by: &[&str], most: u64) {
    let mut missed = Vec::new();
    for seed in 0..most {
        let options = Options { plant: Some(plant) };
        let Err(failure) = run(seed, options) else {
            continue;
        };
        if by.iter().any(|b| failure.what.starts_with(b)) {
            return;
        }
        missed.push(failure.what);
    }
    panic!("{plant:?} is not caught by {by:?} within {most} seeds, only by {missed:#?}");
}

#[test]
fn a_sync_that_is_not_done_is_caught() {
    is_caught(
        Plant::SyncWithoutSyncing,
        &["durability", "visibility", "recovery"],
        20,
    );
}

#[test]
fn a_sync_that_is_done_again_is_caught() {
    is_caught(
        Plant::SyncAgainAfterError,
        &["durability", "visibility", "recovery"],
        60,
    );
}

#[test]
fn names_that_are_not_durable_are_caught() {
    is_caught(
        Plant::NoDirectorySync,
        &["durability", "visibility", "recovery"],
        40,
    );
}

#[test]
fn state_that_is_not_stored_is_caught() {
    is_caught(
        Plant::MaterializeNothing,
        &["recovery", "idempotence", "groups", "offsets"],
        40,
    );
}

#[test]
fn a_manifest_without_what_was_settled_is_caught() {
    is_caught(
        Plant::SkipManifest,
        &["durability", "visibility", "offsets"],
        40,
    );
}

#[test]
fn files_that_go_too_early_are_caught() {
    is_caught(
        Plant::RemoveTooEarly,
        &["recovery", "groups", "idempotence"],
        40,
    );
}

#[test]
fn a_lost_read_for_a_task_is_caught() {
    is_caught(Plant::LoseTaskRead, &["exactly once", "liveness"], 60);
}

#[test]
fn readers_that_see_too_much_are_caught() {
    is_caught(Plant::WrongVisibility, &["visibility"], 60);
}

#[test]
fn forgotten_tasks_are_caught() {
    is_caught(Plant::ForgetTasks, &["exactly once"], 40);
}

#[test]
fn forgotten_producers_are_caught() {
    is_caught(Plant::ForgetProducers, &["idempotence", "order"], 40);
}

#[test]
fn a_lost_answer_is_caught() {
    is_caught(
        Plant::LoseAnswer,
        &["liveness", "idempotence", "offsets"],
        10,
    );
}
