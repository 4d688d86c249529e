//! Room that is kept on the disk for what must go on when others have filled it: the catalog, the state
//! store, retention.
//!
//! It is a file of allocated zeros. Whoever finds no room gives it up and tries again; it is taken back
//! when there is room.

use flowstone_storage::disk::remove_if_there;
use flowstone_storage::{Disk, Error};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

const FILE: &str = "reserve";
const BYTES: u64 = 32 << 20;
/// What a change of the catalog may take, with what it makes redb set aside.
const LITTLE_BYTES: u64 = 1 << 20;

/// The reserve of a data directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    /// What must be free beside it before it is taken.
    min_free_bytes: u64,
    held: Mutex<bool>,
}

impl Reserve {
    /// The reserve of a data directory; given up at first, so that a start has room.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(disk: Arc<dyn Disk>, min_free_bytes: u64) -> Result<Self, Error> {
        remove_if_there(&*disk, Path::new(FILE))?;
        Ok(Self {
            disk,
            min_free_bytes,
            held: Mutex::new(false),
        })
    }

    /// Gives the room up. Returns whether there was any.
    pub(crate) fn release(&self) -> bool {
        let Ok(mut held) = self.held.lock() else {
            return false;
        };
        let had = std::mem::take(&mut *held);
        if had {
            tracing::warn!("the disk is full: the reserve is used");
            if let Err(e) = remove_if_there(&*self.disk, Path::new(FILE)) {
                tracing::warn!("{e}");
            }
        }
        had
    }

    /// Takes the room where it is not taken and there is enough.
    pub(crate) fn take(&self) {
        let Ok(mut held) = self.held.lock() else {
            return;
        };
        let free = self.disk.free_bytes().unwrap_or(0);
        if !*held && free > self.min_free_bytes + 2 * BYTES {
            *held = self.disk.create(Path::new(FILE), BYTES).is_ok();
        }
    }

    /// Whether there is room for a little: on the disk, or here.
    pub(crate) fn has_room(&self) -> bool {
        let is_held = self.held.lock().is_ok_and(|held| *held);
        let free = self.disk.free_bytes();
        is_held || free.is_ok_and(|free| free > LITTLE_BYTES)
    }

    /// Does something that needs a little room, and once more where there was none and the reserve
    /// could be given up.
    ///
    /// # Errors
    /// What it gives.
    pub(crate) fn help<T>(&self, mut run: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        match run() {
            Err(Error::NoSpace { .. }) if self.release() => run(),
            other => other,
        }
    }
}
