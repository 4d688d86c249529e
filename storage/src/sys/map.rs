//! Read-only mappings that hand out `Bytes` without a copy.

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A file in memory, read-only. Slices keep it alive.
#[derive(Clone, Debug)]
pub struct MappedFile {
    bytes: Bytes,
    /// `None` for an empty file.
    map: Option<Arc<Mmap>>,
}

/// Keeps the mapping alive as long as any `Bytes` points into it.
struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// The bytes from `start` to `end`; empty where they are not within the file.
    #[inline]
    pub(crate) fn slice(&self, start: u64, end: u64) -> Bytes {
        if end > self.bytes.len() as u64 {
            return Bytes::new();
        }
        self.bytes.slice(start as usize..end as usize)
    }

    /// Reads pages that are not in memory, so that touching them cannot raise SIGBUS.
    ///
    /// # Errors
    /// What the kernel answers: `EFAULT` where the disk cannot give a page. A kernel before 5.14 does
    /// not know this, and nothing is done.
    pub(crate) fn populate(&self, start: u64, len: u64) -> io::Result<()> {
        let Some(map) = &self.map else { return Ok(()) };
        let end = start.saturating_add(len).min(map.len() as u64);
        if start >= end {
            return Ok(());
        }
        let (start, len) = (start as usize, (end - start) as usize);
        match map.advise_range(Advice::PopulateRead, start, len) {
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => Err(e),
            _ => Ok(()),
        }
    }
}

/// Maps the first `len` bytes of `file`.
///
/// # Errors
/// What the kernel answers, and `UnexpectedEof` where the file is shorter than `len`: a mapping
/// behind the end of a file would raise SIGBUS.
pub(crate) fn map_read_only(file: &File, len: u64) -> io::Result<MappedFile> {
    if file.metadata()?.len() < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "file is shorter than its mapping",
        ));
    }
    if len == 0 {
        return Ok(MappedFile {
            bytes: Bytes::new(),
            map: None,
        });
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the data directory is locked against other processes; within this one a mapped file is
    // only written at positions that nobody was given yet (the log hands a range out after its write
    // returned, and never writes it again), and it is not truncated while it is mapped: recovery cuts
    // before it maps, deletion unlinks and leaves the inode to the mapping.
    let map = unsafe { MmapOptions::new().len(len).map(file)? };
    let map = Arc::new(map);
    Ok(MappedFile {
        bytes: Bytes::from_owner(Mapped(map.clone())),
        map: Some(map),
    })
}
