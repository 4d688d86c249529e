//! Jobs: uploads, then the manifest that names them, then the removal of what it gave up.

use super::{Ground, TierResult, Tiering};
use flowstone_core::output::TierJob;
use flowstone_storage::settled::{SegmentId, SettledMeta, SettledReader, Tiered};
use flowstone_storage::{Disk, layout};
use flowstone_tier::{Entry, Manifest, PutManifest, Right, Scope, TierEpoch, TierError};
use flowstone_wire::PartitionId;
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex, Semaphore, mpsc};

/// Writers of our own epoch that may be faster before a job gives up: there should be none.
const RACES_MAX: usize = 8;
/// Partitions whose manifests are kept in memory.
const MANIFESTS_MAX: usize = 4096;

/// A job and the files that it is about.
pub(super) struct Task {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) shard_dir: PathBuf,
    /// What its leader leads, and its term there.
    pub(super) leads: (Scope, u64),
    pub(super) job: TierJob,
}

/// A task and who is told what came of it.
pub(super) struct Work {
    pub(super) task: Task,
    pub(super) tell: Box<dyn FnOnce(TierJob, TierResult) + Send>,
}

/// The manifest of a partition as it stands in the bucket, while nobody has it; `None` if that is not
/// known.
type Slot = Arc<Mutex<Option<Manifest>>>;

/// Starts jobs in their order; those of one partition one after the other.
pub(super) async fn dispatch(tiering: Weak<Tiering>, mut work: mpsc::UnboundedReceiver<Work>) {
    let mut slots: HashMap<PartitionId, Slot> = HashMap::new();
    let mut places: Option<Arc<Semaphore>> = None;
    while let Some(work) = work.recv().await {
        let Some(tiering) = tiering.upgrade() else {
            return (work.tell)(work.task.job, Err("the node is stopping".into()));
        };
        let count = tiering.config.store.upload_concurrency;
        let places = places.get_or_insert_with(|| Arc::new(Semaphore::new(count)));
        if slots.len() >= MANIFESTS_MAX {
            // Those that are being worked on have another owner.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = slots.entry(work.task.job.partition).or_default().clone();
        // Taken here and not in the task: a later job must not overtake.
        let mut known = slot.lock_owned().await;
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Work { task, tell } = work;
        tokio::spawn(async move {
            let result = match tiering.ours() {
                Ok(ground) => {
                    let right = tiering
                        .right(&ground, task.leads, TierEpoch::default())
                        .await;
                    let done = match right {
                        Ok(right) => task.run(&ground, right, &mut known).await,
                        Err(e) => Err(e),
                    };
                    done.map_err(|e| tiering.noted(e))
                }
                Err(why) => Err(why),
            };
            if result.is_err() {
                *known = None;
            }
            tell(task.job, result);
            drop((known, place));
        });
    }
}

impl Task {
    async fn run(
        &self,
        ground: &Ground,
        right: Right,
        known: &mut Option<Manifest>,
    ) -> Result<Vec<(SegmentId, Tiered)>, TierError> {
        let (tier, job) = (&ground.tier, &self.job);
        // Before anything is sent.
        tier.check_right(right).await?;
        // One partition may be all there is: its segments go side by side. All are let come to an end,
        // so that parts of one that goes well are not left because another one fails.
        let mut uploads = Vec::new();
        for meta in &job.upload {
            uploads.push(self.upload(ground, right, meta));
        }
        let at_once = tier.settings().upload_concurrency;
        let uploads: Vec<_> = stream::iter(uploads).buffered(at_once).collect().await;
        let entries = uploads.into_iter().collect::<Result<Vec<Entry>, _>>()?;
        let manifest = match known.take() {
            Some(manifest) => manifest,
            None => tier.manifest(job.partition).await?,
        };
        let manifest = self.store(ground, right, manifest, &entries).await?;
        let cleared = tier.clear_garbage(&manifest, right).await?;
        let (PutManifest::Stored(manifest) | PutManifest::Conflict(manifest)) = cleared;
        // Only what the manifest names counts.
        let named = entries.iter().filter(|e| manifest.entries().contains(e));
        let noted = named.map(|e| (e.segment(job.partition), e.tiered(true)));
        let noted = noted.collect();
        *known = Some(manifest);
        Ok(noted)
    }

    /// Uploads a segment, unless it is damaged: a copy of damage would let the local file go, and with it
    /// what `flowstone repair` could still save.
    async fn upload(
        &self,
        ground: &Ground,
        right: Right,
        meta: &SettledMeta,
    ) -> Result<Entry, TierError> {
        let path = layout::settled_path(&self.shard_dir, meta.id());
        let file = self.disk.open(&path).map_err(|source| TierError::Io {
            action: "open",
            path: path.display().to_string(),
            source,
        })?;
        let (to_prove, name, id) = (file.clone(), path.clone(), meta.id());
        let proven =
            tokio::task::spawn_blocking(move || SettledReader::over(to_prove, &name, id)?.verify());
        let bad = |e: &dyn std::fmt::Display| TierError::Damaged {
            name: path.display().to_string(),
            what: e.to_string(),
        };
        let proven = proven.await.map_err(|e| bad(&e))?;
        proven.map_err(|e| bad(&e))?;
        let (tier, partition) = (&ground.tier, self.job.partition);
        tier.upload(partition, meta, file, right.epoch).await
    }

    /// Stores the manifest with what was uploaded and without what has expired.
    async fn store(
        &self,
        ground: &Ground,
        right: Right,
        mut manifest: Manifest,
        entries: &[Entry],
    ) -> Result<Manifest, TierError> {
        for _ in 0..RACES_MAX {
            let mut next = manifest.clone();
            if manifest.epoch() < ground.since {
                // Where another owner's records began says nothing of ours.
                next.begin_at(self.job.start);
            }
            if let Some(first) = entries.first() {
                // What other leaders of the cluster have uploaded is as good as what was here.
                let of_us = |e: &Entry| e.id.epoch >= ground.since;
                // Other nodes may have let go of files for what this one does not know: what goes on
                // behind the upload stays.
                let last = entries.last().unwrap_or(first);
                let behind = |e: &Entry| {
                    right.scope.is_some()
                        && e.id.first_offset > last.id.first_offset
                        && e.next_offset > last.next_offset
                };
                let is_kept = |e: &Entry| {
                    let named = self.job.keep.contains(&e.segment(self.job.partition));
                    named || !self.job.replaces && (of_us(e) || behind(e))
                };
                next.give_up(first.id.first_offset, right.epoch, is_kept);
            }
            for entry in entries {
                next.add(entry.clone()).map_err(|e| TierError::Refused {
                    what: format!("partition {}: {e}", self.job.partition),
                })?;
            }
            next.move_start(self.job.start);
            if next == manifest {
                return Ok(manifest);
            }
            match ground.tier.put_manifest(&next, right).await? {
                PutManifest::Stored(stored) => return Ok(stored),
                PutManifest::Conflict(newer) => manifest = newer,
            }
        }
        Err(TierError::Unavailable {
            what: format!(
                "the manifest of partition {} is being written by others all the time",
                self.job.partition
            ),
        })
    }
}
