//! The disk of the operating system, below one root directory.

use crate::disk::{Disk, DiskFile, Mapping, SyncPoint};
use crate::sys;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most parts of one `pwritev` on Linux (IOV_MAX).
const PARTS_PER_WRITE: usize = 1024;

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The tree below `root`, which is created if it is not there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }
}

/// Takes space for `from..to`; a file system that cannot is given zeros instead.
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    if to <= from {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(file, from, to),
        Err(e) => Err(e.into()),
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    // Small writes on purpose: large ones make large folios, and then a small write later is
    // written back as a whole folio.
    let zeros = [0u8; 4096];
    let mut at = from;
    while at < to {
        let n = (to - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

impl Disk for RealDisk {
    fn create(&self, path: &Path, allocate_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let full = self.root.join(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&full)?;
        if let Err(e) = allocate(&file, 0, allocate_bytes) {
            fs::remove_file(&full)?;
            return Err(e);
        }
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.root.join(path))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let full = self.root.join(dir);
        let is_new = !full.is_dir();
        if is_new {
            fs::create_dir_all(&full)?;
        }
        Ok(is_new)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(self.root.join(dir))?.sync_all()
    }

    fn sync_point(&self, _dir: &Path) -> io::Result<Option<Box<dyn SyncPoint>>> {
        if !syncfs_tells_errors() {
            return Ok(None);
        }
        let root = File::open(&self.root)?;
        Ok(Some(Box::new(RealSyncPoint { root })))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file system, opened before the writes that are to be synced: errors since then are told.
#[derive(Debug)]
struct RealSyncPoint {
    root: File,
}

impl SyncPoint for RealSyncPoint {
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}

/// Whether the kernel is at least 5.8: before, syncfs returned no error of writing back (syncfs(2)).
fn syncfs_tells_errors() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, at)
    }

    fn write_at(&self, mut at: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        for parts in parts.chunks(PARTS_PER_WRITE) {
            let wanted: usize = parts.iter().map(|p| p.len()).sum();
            let written = match rustix::io::pwritev(&self.file, parts, at) {
                Ok(n) => n,
                Err(rustix::io::Errno::INTR) => 0,
                Err(e) => return Err(e.into()),
            };
            if written < wanted {
                self.finish_write(at, parts, written)?;
            }
            at += wanted as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let have = self.len()?;
        if len < have {
            return self.file.set_len(len);
        }
        allocate(&self.file, have, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cached(&self) -> io::Result<()> {
        // Pages that were not written back yet stay; the next sync tells about them.
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    fn map(&self) -> io::Result<Mapping> {
        Ok(Mapping::Mapped(sys::map_read_only(
            &self.file,
            self.len()?,
        )?))
    }

    fn os_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

impl RealFile {
    /// Writes what a short write left: `skip` bytes of `parts` are there already.
    fn finish_write(&self, mut at: u64, parts: &[IoSlice<'_>], mut skip: usize) -> io::Result<()> {
        at += skip as u64;
        for part in parts {
            let rest = &part[skip.min(part.len())..];
            skip -= part.len() - rest.len();
            self.file.write_all_at(rest, at)?;
            at += rest.len() as u64;
        }
        Ok(())
    }
}
