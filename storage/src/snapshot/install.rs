//! Putting a snapshot in the place of what a shard has.
//!
//! First of all it is noted, durably, that this is wanted. Every step behind that can be taken again, and the
//! note goes last: so a start that finds it takes them all again.

use super::incoming::clear;
use crate::disk::{Disk, create_dir_durably, list_or_nothing, remove_if_there};
use crate::error::Error;
use crate::layout;
use crate::mark::{Mark, MarkState};
use crate::state::StateStore;
use std::io::ErrorKind;
use std::path::Path;

/// Puts the snapshot, which is whole, in the place of the shard's log, state and settled segments; what the
/// mark says of the replica stays. Nothing of the shard is open.
///
/// # Errors
/// [`Error::Io`], [`Error::State`]: [`finish_install`] goes on with it.
pub fn install(disk: &dyn Disk, shard_dir: &Path) -> Result<(), Error> {
    let dir = layout::incoming_dir(shard_dir);
    note_wanted(disk, shard_dir)?;
    let settled = layout::settled_root(&dir);
    for name in list_or_nothing(disk, &settled)? {
        let Some(partition) = layout::parse_settled_dir(&name) else {
            continue;
        };
        let to = layout::settled_dir(shard_dir, partition);
        create_dir_durably(disk, &to).map_err(Error::io("create", &to))?;
        move_all(disk, &settled.join(&name), &to)?;
    }
    // Once the state is in its place, so is all before it: then only the log is to be moved.
    if !is_in_place(disk, shard_dir) {
        remember_reach(disk, shard_dir)?;
        remove_log(disk, shard_dir)?;
    }
    let (from, to) = (layout::state(&dir), layout::state(shard_dir));
    match disk.rename(&from, &to) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("rename", &from)(e)),
        _ => {}
    }
    for dir in [shard_dir, &dir] {
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    let (from, to) = (layout::log_dir(&dir), layout::log_dir(shard_dir));
    if !list_or_nothing(disk, &from)?.is_empty() {
        create_dir_durably(disk, &to).map_err(Error::io("create", &to))?;
        move_all(disk, &from, &to)?;
    }
    clear(disk, shard_dir)?;
    disk.sync_dir(&dir).map_err(Error::io("sync", &dir))
}

/// Goes on with an installation that a crash has cut short; to be called before a shard is opened. What came
/// in and was not ready goes.
///
/// # Errors
/// As [`install`].
pub fn finish_install(disk: &dyn Disk, shard_dir: &Path) -> Result<(), Error> {
    match disk.open(&layout::incoming_ready(shard_dir)) {
        Ok(_) => install(disk, shard_dir),
        Err(e) if e.kind() == ErrorKind::NotFound => clear(disk, shard_dir),
        Err(e) => Err(Error::io("open", &layout::incoming_ready(shard_dir))(e)),
    }
}

fn note_wanted(disk: &dyn Disk, shard_dir: &Path) -> Result<(), Error> {
    let ready = layout::incoming_ready(shard_dir);
    match disk.create(&ready, 0) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io("create", &ready)(e));
        }
        _ => {}
    }
    let dir = layout::incoming_dir(shard_dir);
    disk.sync_dir(&dir).map_err(Error::io("sync", &dir))
}

fn move_all(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Error> {
    for name in list_or_nothing(disk, from)? {
        let path = from.join(&name);
        disk.rename(&path, &to.join(&name))
            .map_err(Error::io("rename", &path))?;
    }
    disk.sync_dir(to).map_err(Error::io("sync", to))
}

/// Whether the state was moved to its place before.
fn is_in_place(disk: &dyn Disk, shard_dir: &Path) -> bool {
    let state = layout::state(&layout::incoming_dir(shard_dir));
    let opened = disk.open(&state);
    opened.is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

/// The mark says what the snapshot reaches, no more and no less.
fn remember_reach(disk: &dyn Disk, shard_dir: &Path) -> Result<(), Error> {
    let state = layout::state(&layout::incoming_dir(shard_dir));
    let applied = StateStore::open(disk, &state)?.applied()?;
    let (mut mark, _) = Mark::open(disk, &layout::mark(shard_dir))?;
    mark.store(MarkState {
        durable: applied,
        clean: false,
        ..mark.state()
    })
}

/// Removes the log, newest segment first: until the state is in its place, what is left begins like it did.
fn remove_log(disk: &dyn Disk, shard_dir: &Path) -> Result<(), Error> {
    let dir = layout::log_dir(shard_dir);
    for name in list_or_nothing(disk, &dir)?.iter().rev() {
        remove_if_there(disk, &dir.join(name))?;
    }
    match disk.sync_dir(&dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("sync", &dir)(e)),
        _ => Ok(()),
    }
}
