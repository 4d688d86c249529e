//! Chunks as files of the local disk, each checked whenever it is read.

use crate::error::TierError;
use crate::lru::Kept;
use crate::manifest::ObjectId;
use bytes::Bytes;
use flowstone_wire::PartitionId;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Which chunk of which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) partition: PartitionId,
    pub(crate) id: ObjectId,
    pub(crate) chunk: u64,
}

/// A directory of chunks. It belongs to this process alone and is emptied at its start.
#[derive(Debug)]
pub(crate) struct ChunkStore {
    dir: PathBuf,
}

impl ChunkStore {
    /// An empty directory. Chunks of an earlier process are not looked at: they are cheap to fetch
    /// again, and the bound holds from the first moment on.
    pub(crate) fn create(cache_dir: &Path) -> Result<Self, TierError> {
        let dir = cache_dir.join("chunks");
        make_empty(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, key: &ChunkKey) -> PathBuf {
        let ChunkKey {
            partition,
            id,
            chunk,
        } = key;
        self.dir.join(format!(
            "{partition}-{}-{}-{}-{chunk}",
            id.first_offset, id.generation, id.epoch
        ))
    }

    /// Stores a chunk. It is not synced: after a power cut the directory is emptied anyway.
    pub(crate) fn write(&self, key: &ChunkKey, bytes: &Bytes) -> io::Result<Kept> {
        let path = self.path(key);
        if let Err(e) = fs::write(&path, bytes) {
            // A part of it may have used the last of the disk; what cannot be removed is overwritten.
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        Ok(Kept {
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
        })
    }

    /// Reads a chunk; `None` where it is not as it was written.
    pub(crate) fn read(&self, key: &ChunkKey, kept: Kept) -> Option<Bytes> {
        let file = fs::File::open(self.path(key)).ok()?;
        let mut bytes = Vec::with_capacity(kept.bytes as usize + 1);
        file.take(kept.bytes + 1).read_to_end(&mut bytes).ok()?;
        let whole = bytes.len() as u64 == kept.bytes && crc32fast::hash(&bytes) == kept.crc32;
        whole.then(|| bytes.into())
    }

    /// Removes a chunk. One that cannot be removed is overwritten when it comes back.
    pub(crate) fn remove(&self, key: &ChunkKey) {
        let path = self.path(key);
        if let Err(e) = fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), error = %e, "a cached chunk cannot be removed");
        }
    }
}

/// Makes a directory, or removes all that is in it.
pub(crate) fn make_empty(dir: &Path) -> Result<(), TierError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(TierError::io("empty", dir)(e));
        }
        _ => {}
    }
    fs::create_dir_all(dir).map_err(TierError::io("create", dir))
}
