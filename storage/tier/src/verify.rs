//! Reading a whole bucket and checking everything.

use crate::error::TierError;
use crate::manifest::{Entry, Manifest};
use crate::nonce::nonce;
use crate::tier::Tier;
use crate::upload::compare;
use bytes::Bytes;
use crc32fast::Hasher;
use flowstone_storage::RealDisk;
use flowstone_storage::disk::Disk;
use flowstone_storage::settled::SettledReader;
use flowstone_wire::{Offset, PartitionId};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Partitions that were begun, of those below.
    pub partitions_begun: u64,
    /// Partitions in all.
    pub partitions: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Problems found so far.
    pub problems: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which partition.
    pub partition: PartitionId,
    /// At which offset; `None` where it is about the manifest.
    pub offset: Option<Offset>,
    /// What it is.
    pub what: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was read.
    pub read: Progress,
    /// All that is wrong; empty if all is well.
    pub problems: Vec<Problem>,
}

impl Tier {
    /// Reads every object that a manifest names: its length and checksum, the checksums of its blocks
    /// and batches, the order of its offsets, and whether the next one goes on where it ends. Each
    /// goes through a file below the cache's directory.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], [`TierError::Io`]: it did not come to an end. What is merely wrong
    /// in the bucket is in the report.
    pub async fn verify(
        &self,
        mut progress: impl FnMut(&Progress) + Send,
    ) -> Result<Report, TierError> {
        let partitions = self.partitions().await?;
        let mut report = Report::default();
        report.read.partitions = partitions.len() as u64;
        for partition in partitions {
            report.read.partitions_begun += 1;
            match self.manifest(partition).await {
                Ok(manifest) => {
                    self.verify_all(&manifest, &mut report, &mut progress)
                        .await?
                }
                Err(e) => report.add(partition, None, wrong(e)?),
            }
            progress(&report.read);
        }
        Ok(report)
    }

    async fn verify_all(
        &self,
        manifest: &Manifest,
        report: &mut Report,
        progress: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<(), TierError> {
        let partition = manifest.partition();
        let mut next = None;
        for entry in manifest.entries() {
            let first = entry.id.first_offset;
            // Where another owner went on they may overlap.
            if let Some(next) = next.filter(|n| *n < first) {
                let what = format!("offsets {next} to {} are in no object", first.0 - 1);
                report.add(partition, Some(next), what);
            }
            next = Some(entry.next_offset);
            if let Err(e) = self.verify_entry(partition, entry).await {
                report.add(partition, Some(first), wrong(e)?);
            }
            report.read.objects += 1;
            report.read.bytes = report.read.bytes.saturating_add(entry.bytes);
            progress(&report.read);
        }
        Ok(())
    }

    async fn verify_entry(&self, partition: PartitionId, entry: &Entry) -> Result<(), TierError> {
        let path = self.names().segment(partition, entry.id);
        let name = format!("{:016x}.seg", nonce());
        let scratch = Scratch(self.scratch().join(&name));
        let mut file = File::create(&scratch.0).map_err(TierError::io("create", &scratch.0))?;
        let mut crc32 = Hasher::new();
        let keep = |piece: &Bytes| {
            crc32.update(piece);
            let written = file.write_all(piece);
            written.map_err(TierError::io("write", &scratch.0))
        };
        self.objects().stream(&path, entry.bytes, keep).await?;
        compare(&path, crc32.finalize(), entry.crc32)?;
        let (dir, entry) = (self.scratch().to_path_buf(), entry.clone());
        let name_in_bucket = path.to_string();
        let read = tokio::task::spawn_blocking(move || {
            let _scratch = scratch;
            verify_file(&dir, &name, &name_in_bucket, partition, &entry)
        });
        match read.await {
            Ok(result) => result,
            Err(e) => Err(TierError::unavailable(format!("verify '{path}': {e}"))),
        }
    }
}

fn verify_file(
    dir: &Path,
    name: &str,
    name_in_bucket: &str,
    partition: PartitionId,
    entry: &Entry,
) -> Result<(), TierError> {
    let disk = RealDisk::new(dir).map_err(TierError::io("open", dir))?;
    let file = disk
        .open(Path::new(name))
        .map_err(TierError::io("open", dir))?;
    let bad = |e: flowstone_storage::Error| TierError::damaged(name_in_bucket, e.to_string());
    let segment = entry.segment(partition);
    let reader = SettledReader::over(file, Path::new(name_in_bucket), segment).map_err(bad)?;
    reader.verify().map_err(bad)?;
    let mut meta = reader.meta().clone();
    // Not in the file.
    meta.clean_at_ms = entry.clean_at_ms;
    if meta != entry.meta(partition) {
        let what = "its footer does not say what the manifest says";
        return Err(TierError::damaged(name_in_bucket, what));
    }
    Ok(())
}

/// A file that goes with its user.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed when the tier is opened again.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Report {
    fn add(&mut self, partition: PartitionId, offset: Option<Offset>, what: String) {
        self.read.problems += 1;
        self.problems.push(Problem {
            partition,
            offset,
            what,
        });
    }
}

/// What an error says about the bucket's content; other errors go on.
fn wrong(e: TierError) -> Result<String, TierError> {
    match e {
        TierError::NotFound { .. } | TierError::Damaged { .. } => Ok(e.to_string()),
        e => Err(e),
    }
}
