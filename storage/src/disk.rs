//! The seam to the disk: everything that storage asks of it.
//!
//! Rules that every implementation keeps and [`crate::disk_tests`] checks:
//! - what was written is not safe before [`DiskFile::sync`] returned `Ok`; after an `Err` it never
//!   will be, and nobody may try again; until [`DiskFile::drop_cached`] a reader, of a later process
//!   too, may still see it;
//! - a created, renamed or removed name is not safe before [`Disk::sync_dir`];
//! - a [`SyncPoint`] makes everything safe at once that was done behind it;
//! - bytes of a file that were allocated and never written read as zero;
//! - a mapping shows what is written to the file later, too.

use crate::error::Error;
pub use crate::sys::MappedFile;
use bytes::Bytes;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// A directory tree on some disk. Paths are relative to its root.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Creates a file of `allocate_bytes` zeros, all of them backed by the disk, so that writing
    /// them cannot run out of space.
    ///
    /// # Errors
    /// `AlreadyExists`, `StorageFull`, and what the disk says. Nothing is left behind.
    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, and what the disk says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound`, and what the disk says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its parents, and says whether it was not there. Its name is not safe
    /// yet, see [`create_dir_durably`].
    ///
    /// # Errors
    /// What the disk says.
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;

    /// Renames a file, replacing the target.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, and what the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a directory durable.
    ///
    /// # Errors
    /// What the disk says; names may then be lost.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// A point behind which everything below `dir` can be made durable together; `None` where the
    /// system cannot tell afterwards whether all of it was.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_point(&self, dir: &Path) -> io::Result<Option<Box<dyn SyncPoint>>>;

    /// Bytes that can still be allocated.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// What was done below a directory since a moment. Cheaper than a sync for each of many small files.
pub trait SyncPoint: Send + Debug {
    /// Makes all that was written, created and renamed since then durable.
    ///
    /// # Errors
    /// What the disk says, about any of it or of another file; what was not durable must be taken as lost.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from position `at`.
    ///
    /// # Errors
    /// `UnexpectedEof`, and what the disk says.
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all `parts` one behind the other from position `at`.
    ///
    /// # Errors
    /// What the disk says; any part may then have been written.
    fn write_at(&self, at: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Cuts, or extends with allocated zeros.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What the disk says. What was not durable must be taken as lost: never call again.
    fn sync(&self) -> io::Result<()>;

    /// Has the next reads come from the device where the system believes that it has the same bytes.
    /// After a sync that failed it believes so wrongly, and a process that was killed leaves that to
    /// the next one: to be called before anything is read that decides what is durable, while nothing
    /// is mapped.
    ///
    /// # Errors
    /// What the disk says.
    fn drop_cached(&self) -> io::Result<()>;

    /// Maps the whole file read-only, at its length of now.
    ///
    /// # Errors
    /// What the disk says.
    fn map(&self) -> io::Result<Mapping>;

    /// The operating system's file, where there is one, for drivers that sync through io_uring.
    fn os_file(&self) -> Option<&File> {
        None
    }
}

/// A read-only view of a file.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// A mapping of the operating system: slices point into it.
    Mapped(MappedFile),
    /// A file that cannot be mapped: slices are copies.
    Copied(Arc<dyn DiskFile>),
}

impl Mapping {
    /// `len` bytes from `start`; empty where they are not within the file or cannot be read. For bytes
    /// that are in memory: others raise SIGBUS where the disk cannot give them, see [`Self::fetch`].
    #[inline]
    pub fn slice(&self, start: u64, len: u64) -> Bytes {
        let Some(end) = start.checked_add(len) else {
            return Bytes::new();
        };
        match self {
            Self::Mapped(file) => file.slice(start, end),
            Self::Copied(file) => {
                let within = file.len().is_ok_and(|have| end <= have);
                let mut out = vec![0; if within { len as usize } else { 0 }];
                match file.read_at(start, &mut out) {
                    Ok(()) => out.into(),
                    Err(_) => Bytes::new(),
                }
            }
        }
    }

    /// As [`Self::slice`], and reads what is not in memory first, where that can fail.
    ///
    /// # Errors
    /// What the disk says.
    pub fn fetch(&self, start: u64, len: u64) -> io::Result<Bytes> {
        if let Self::Mapped(file) = self {
            file.populate(start, len)?;
        }
        Ok(self.slice(start, len))
    }
}

/// Creates a directory and its parents, all durable on return; an existing one is fine.
///
/// # Errors
/// What the disk says.
pub fn create_dir_durably(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if !disk.create_dir(dir)? {
        return Ok(());
    }
    // Every level may be new: each is an entry of the one above.
    dir.ancestors()
        .skip(1)
        .try_for_each(|level| disk.sync_dir(level))
}

/// Removes a file. One that is gone already is fine.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// The names in a directory; none where it is not there.
///
/// # Errors
/// [`Error::Io`].
pub fn list_or_nothing(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, Error> {
    match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::io("list", dir)),
    }
}
