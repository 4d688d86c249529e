//! Objects that nobody names: left by uploads that died before their manifest.

use crate::error::TierError;
use crate::manifest::{Manifest, ObjectId, TierEpoch};
use crate::manifests::PutManifest;
use crate::owner::Right;
use crate::tier::Tier;
use flowstone_wire::PartitionId;
use object_store::ObjectMeta;
use std::collections::BTreeSet;

/// What may go.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Only tell.
    pub dry_run: bool,
    /// The time now, milliseconds since 1970.
    pub now_ms: i64,
    /// Objects that are younger stay: they may be about to be named. Longer than any upload takes.
    pub min_age_ms: u64,
    /// The caller's own epoch. In partitions whose newest manifest is of it, objects of earlier owners
    /// go whatever their age: those cannot be named any more.
    pub epoch: Option<TierEpoch>,
}

/// A segment that no manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its partition.
    pub partition: PartitionId,
    /// Which one.
    pub id: ObjectId,
    /// Its bytes.
    pub bytes: u64,
    /// When it was stored, milliseconds since 1970.
    pub modified_ms: i64,
}

impl Tier {
    /// Finds objects that no newest manifest names, not even as garbage, and removes them unless it is
    /// only to tell. Also removes manifests that are too old to be needed.
    ///
    /// # Errors
    /// [`TierError::Unavailable`]; [`TierError::Damaged`] where a manifest cannot be read: then nothing
    /// of its partition was removed. [`TierError::Fenced`] where the epoch is not the newest.
    pub async fn gc(&self, options: &GcOptions) -> Result<Vec<Orphan>, TierError> {
        if let Some(epoch) = options.epoch {
            self.check_right(epoch).await?;
        }
        let dirs = self
            .objects()
            .list_directories(&self.names().partitions())
            .await?;
        let mut orphans = Vec::new();
        for dir in dirs {
            // Listed before the manifest is read: what is named in between is seen as named.
            let objects = self.objects().list(&dir, None).await?;
            let Some(partition) = objects.iter().find_map(|o| {
                let (partition, _) = self.names().parse_segment(&o.location)?;
                Some(partition)
            }) else {
                continue;
            };
            let found = self.orphans_of(partition, &objects, options).await?;
            if !options.dry_run {
                let ids: Vec<_> = found.iter().map(|o| o.id).collect();
                self.delete(partition, &ids).await?;
            }
            orphans.extend(found);
        }
        if !options.dry_run {
            self.prune_all_manifests().await?;
        }
        Ok(orphans)
    }

    async fn orphans_of(
        &self,
        partition: PartitionId,
        objects: &[ObjectMeta],
        options: &GcOptions,
    ) -> Result<Vec<Orphan>, TierError> {
        let manifest = self.manifest(partition).await?;
        let entries = manifest.entries().iter().map(|e| e.id);
        let named: BTreeSet<_> = entries.chain(manifest.garbage().iter().copied()).collect();
        let orphan = |object: &ObjectMeta| {
            let (partition, id) = self.names().parse_segment(&object.location)?;
            (!named.contains(&id)).then(|| Orphan {
                partition,
                id,
                bytes: object.size,
                modified_ms: object.last_modified.timestamp_millis(),
            })
        };
        let unnamed = objects.iter().filter_map(orphan);
        Ok(unnamed.filter(|o| may_go(o, &manifest, options)).collect())
    }

    async fn prune_all_manifests(&self) -> Result<(), TierError> {
        for partition in self.partitions().await? {
            let newest = self.manifest(partition).await?;
            let row = self.names().manifest_row(partition);
            self.objects().prune_listed(&row, newest.version()).await?;
        }
        Ok(())
    }

    /// Removes the garbage of a manifest from the bucket, and then from the manifest. It must be the
    /// newest one; what [`Tier::put_manifest`] gave is.
    ///
    /// # Errors
    /// As of [`Tier::put_manifest`]; the call may be made again.
    pub async fn clear_garbage(
        &self,
        manifest: &Manifest,
        right: impl Into<Right>,
    ) -> Result<PutManifest, TierError> {
        if manifest.garbage().is_empty() {
            return Ok(PutManifest::Stored(manifest.clone()));
        }
        let right = right.into();
        self.check_right(right).await?;
        self.delete(manifest.partition(), manifest.garbage())
            .await?;
        let mut next = manifest.clone();
        next.cleared(manifest.garbage());
        self.put_manifest(&next, right).await
    }
}

/// Whether nobody can name this one any more.
///
/// An earlier owner may name it until its next manifest is refused; that is sure only once the newest
/// manifest is ours.
fn may_go(orphan: &Orphan, manifest: &Manifest, options: &GcOptions) -> bool {
    let ours = options.epoch;
    let superseded = ours.is_some_and(|e| manifest.epoch() == e && orphan.id.epoch < e);
    let age_ms = options.now_ms.saturating_sub(orphan.modified_ms);
    superseded || u64::try_from(age_ms).is_ok_and(|age| age >= options.min_age_ms)
}
