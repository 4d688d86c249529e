//! Sending a segment, and proving that it arrived.

use crate::error::TierError;
use crate::manifest::{Entry, TierEpoch};
use crate::tier::Tier;
use bytes::Bytes;
use crc32fast::Hasher;
use flowstone_storage::disk::DiskFile;
use flowstone_storage::settled::SettledMeta;
use flowstone_wire::PartitionId;
use object_store::path::Path;
use std::sync::Arc;

/// S3 takes no more parts of one object.
const PARTS_MAX: u64 = 10_000;

impl Tier {
    /// Sends a settled segment, reads all of it back and compares: what is returned is in the bucket
    /// byte for byte, and may be added to a manifest.
    ///
    /// The same segment may be sent again after an error. At most one part of it is in memory.
    ///
    /// # Errors
    /// [`TierError::Unavailable`]; [`TierError::Damaged`] where the file is not as long as `meta` says
    /// or the bucket gives back other bytes; [`TierError::Refused`], [`TierError::Io`].
    pub async fn upload(
        &self,
        partition: PartitionId,
        meta: &SettledMeta,
        file: Arc<dyn DiskFile>,
        epoch: TierEpoch,
    ) -> Result<Entry, TierError> {
        let turn = self.uploads.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        let mut entry = Entry::of(meta, epoch, 0);
        let path = self.names().segment(partition, entry.id);
        if meta.partition != partition || meta.first_offset >= meta.next_offset {
            let what = format!("it has no offsets of partition {partition}");
            return Err(TierError::damaged(&path, what));
        }
        let have = file.len().map_err(local(&path))?;
        if have != meta.bytes {
            let what = format!("the local file has {have} bytes rather than {}", meta.bytes);
            return Err(TierError::damaged(&path, what));
        }
        entry.crc32 = self.send(&path, file, have).await?;
        self.prove(&path, have, entry.crc32).await?;
        Ok(entry)
    }

    /// Sends a file and gives its checksum.
    ///
    /// The name is this owner's alone and always means the same bytes, so it may be written again.
    async fn send(
        &self,
        path: &Path,
        file: Arc<dyn DiskFile>,
        bytes: u64,
    ) -> Result<u32, TierError> {
        let part_bytes = self.settings().part_bytes.max(1);
        if bytes > part_bytes.saturating_mul(PARTS_MAX) {
            return Err(TierError::refused(format!(
                "'{path}' has {bytes} bytes, more than {PARTS_MAX} parts: raise `part_bytes`"
            )));
        }
        if bytes <= part_bytes {
            let whole = read(path, file, 0, bytes).await?;
            let crc32 = crc32fast::hash(&whole);
            self.keep_to_limit(bytes).await;
            self.objects().put(path, whole).await?;
            return Ok(crc32);
        }
        let mut parts = self.objects().begin_parts(path).await?;
        match self.send_parts(path, &mut *parts, file, bytes).await {
            Ok(crc32) => Ok(crc32),
            Err(e) => {
                // Parts that stay cost money. Where this fails, too, a rule of the bucket removes them.
                if let Err(e) = parts.abort().await {
                    tracing::debug!(%path, error = %e, "parts of a failed upload stay");
                }
                Err(e)
            }
        }
    }

    async fn send_parts(
        &self,
        path: &Path,
        parts: &mut dyn object_store::MultipartUpload,
        file: Arc<dyn DiskFile>,
        bytes: u64,
    ) -> Result<u32, TierError> {
        let part_bytes = self.settings().part_bytes.max(1);
        let (mut crc32, mut at) = (Hasher::new(), 0);
        while at < bytes {
            let n = part_bytes.min(bytes - at);
            let part = read(path, Arc::clone(&file), at, n).await?;
            crc32.update(&part);
            self.keep_to_limit(n).await;
            self.objects().put_part(path, parts, part).await?;
            at += n;
        }
        if let Err(e) = self.objects().complete_parts(path, parts).await {
            // Where the answer got lost it may be done, and servers refuse to do it again. What is there
            // is read back and compared in any case.
            let there = match e {
                TierError::Io { .. } => return Err(e),
                _ => self.objects().head(path).await,
            };
            if !matches!(there, Ok(Some(have)) if have == bytes) {
                return Err(e);
            }
            self.objects().make_durable(path).await?;
            // It may be of an earlier try, and these parts would stay.
            let _ = parts.abort().await;
        }
        Ok(crc32.finalize())
    }

    /// Reads an object and holds it against what it should be.
    pub(crate) async fn prove(&self, path: &Path, bytes: u64, crc32: u32) -> Result<(), TierError> {
        let mut hasher = Hasher::new();
        let update = |piece: &Bytes| {
            hasher.update(piece);
            Ok(())
        };
        self.objects().stream(path, bytes, update).await?;
        compare(path, hasher.finalize(), crc32)
    }
}

/// The checksum as it is, and as it should be.
pub(crate) fn compare(path: &Path, is: u32, should: u32) -> Result<(), TierError> {
    if is == should {
        return Ok(());
    }
    let what = format!("its checksum is {is:08x} rather than {should:08x}");
    Err(TierError::damaged(path, what))
}

async fn read(
    path: &Path,
    file: Arc<dyn DiskFile>,
    at: u64,
    bytes: u64,
) -> Result<Bytes, TierError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut part = vec![0; bytes as usize];
        file.read_at(at, &mut part).map(|()| Bytes::from(part))
    });
    match read.await {
        Ok(read) => read.map_err(local(path)),
        Err(e) => Err(TierError::unavailable(format!("read for '{path}': {e}"))),
    }
}

fn local(path: &Path) -> impl FnOnce(std::io::Error) -> TierError {
    let path = path.to_string();
    |source| TierError::Io {
        action: "read the local file of",
        path,
        source,
    }
}
