//! Read-only mappings that hand out `Bytes` without a copy.

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;

/// Keeps the mapping alive as long as any `Bytes` points into it.
struct Mapped(Mmap);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps the first `len` bytes of `file`.
///
/// # Errors
/// What the kernel answers, and `UnexpectedEof` where the file is shorter than `len`: a mapping
/// behind the end of a file would raise SIGBUS.
pub(crate) fn map_read_only(file: &File, len: u64) -> io::Result<Bytes> {
    if file.metadata()?.len() < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "file is shorter than its mapping",
        ));
    }
    if len == 0 {
        return Ok(Bytes::new());
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the data directory is locked against other processes; within this one a mapped file is
    // only written at positions that nobody was given yet (the log hands a range out after its write
    // returned, and never writes it again), and it is not truncated while it is mapped: recovery cuts
    // before it maps, deletion unlinks and leaves the inode to the mapping.
    let map = unsafe { MmapOptions::new().len(len).map(file)? };
    Ok(Bytes::from_owner(Mapped(map)))
}
