//! Manifests in the bucket.

use crate::error::TierError;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, ObjectId};
use crate::objects::Created;
use crate::owner::Right;
use crate::sequence::Newest;
use crate::tier::Tier;
use bytes::Bytes;
use flowstone_wire::PartitionId;

/// What came of storing a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutManifest {
    /// It is the newest; this is how it stands in the bucket.
    Stored(Manifest),
    /// This one was stored meanwhile, by an owner that is not newer: change it instead.
    Conflict(Manifest),
}

impl Tier {
    /// The newest manifest of a partition; an empty one of version 0 where there is none.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], [`TierError::Damaged`].
    pub async fn manifest(&self, partition: PartitionId) -> Result<Manifest, TierError> {
        self.manifest_from(partition, 0).await
    }

    /// As [`Self::manifest`], for a caller that has seen version `known` of it.
    ///
    /// # Errors
    /// As there.
    pub async fn manifest_from(
        &self,
        partition: PartitionId,
        known: u64,
    ) -> Result<Manifest, TierError> {
        let row = self.names().manifest_row(partition);
        let newest = self
            .objects()
            .newest(&row, known, MANIFEST_BYTES_MAX)
            .await?;
        let Some(Newest { version, bytes }) = newest else {
            return Ok(Manifest::empty(partition));
        };
        let bad = |what: String| TierError::damaged(row.name(version), what);
        let manifest = Manifest::decode(&bytes).map_err(bad)?;
        if manifest.partition() != partition || manifest.version() != version {
            let (p, v) = (manifest.partition(), manifest.version());
            return Err(bad(format!("it is version {v} of partition {p}")));
        }
        Ok(manifest)
    }

    /// Stores `next`, a changed copy of the manifest that had its version, as the one after it. The
    /// right is the caller's, from [`Tier::take_epoch`] or [`Tier::claim`].
    ///
    /// After an error the manifest may be there or not: the same call again finds it, and goes on.
    ///
    /// # Errors
    /// [`TierError::Fenced`], [`TierError::Superseded`] where a newer owner is there: then nobody may rely
    /// on what was stored.
    /// [`TierError::Unavailable`], [`TierError::Refused`] where it is too large.
    pub async fn put_manifest(
        &self,
        next: &Manifest,
        right: impl Into<Right>,
    ) -> Result<PutManifest, TierError> {
        let right = right.into();
        let epoch = right.epoch;
        // Whoever restores reads the newest one, whoever wrote it: one that was superseded long ago
        // writes none. One that is superseded just now is told below, and the next owner's manifest
        // gives up what it added.
        self.check_right(right).await?;
        if next.epoch() > epoch {
            return Err(right.overtaken(next.epoch()));
        }
        let (known, base) = (next.version(), next.epoch());
        if base != epoch {
            // Somebody else may have written since, and removed what came behind this one: then that name
            // could be created again, and would count for nothing.
            // It may also be what an earlier try of this has left.
            let newest = self.manifest_from(next.partition(), 0).await?;
            if newest.version() != known && newest != next.numbered(epoch) {
                return Ok(PutManifest::Conflict(newest));
            }
        }
        let next = next.numbered(epoch);
        let row = self.names().manifest_row(next.partition());
        let bytes = Bytes::from(next.encode().map_err(TierError::refused)?);
        if self.objects().append(&row, next.version(), &bytes).await? == Created::Taken {
            let newer = self.manifest_from(next.partition(), known).await?;
            self.check_right(right).await?;
            if newer.epoch() > epoch {
                return Err(right.overtaken(newer.epoch()));
            }
            // Somebody of our epoch built upon ours, or we are late: the caller looks at it again.
            return Ok(PutManifest::Conflict(newer));
        }
        // Only now: an owner that came before this look has seen what was created, or will collide
        // with it; and one that is superseded removes no versions, so that none can be created twice.
        self.check_right(right).await?;
        if let Err(e) = self.prune_manifests(&next).await {
            tracing::debug!(partition = %next.partition(), error = %e, "old manifests stay for now");
        }
        Ok(PutManifest::Stored(next))
    }

    async fn prune_manifests(&self, newest: &Manifest) -> Result<(), TierError> {
        let row = self.names().manifest_row(newest.partition());
        self.objects().prune(&row, newest.version()).await.map(drop)
    }

    /// Removes segments from the bucket; those that are gone already are fine. Nothing may name them
    /// but the garbage of the newest manifest.
    ///
    /// # Errors
    /// [`TierError::Unavailable`]; some may be gone then.
    pub async fn delete(
        &self,
        partition: PartitionId,
        objects: &[ObjectId],
    ) -> Result<(), TierError> {
        let paths = objects
            .iter()
            .map(|id| self.names().segment(partition, *id));
        self.objects().delete(paths.collect()).await?;
        for id in objects {
            self.cache().forget(partition, *id);
        }
        Ok(())
    }

    /// The partitions that have a manifest, as the bucket lists them.
    ///
    /// # Errors
    /// [`TierError::Unavailable`].
    pub async fn partitions(&self) -> Result<Vec<PartitionId>, TierError> {
        let dirs = self
            .objects()
            .list_directories(&self.names().manifests())
            .await?;
        let number = |dir: &object_store::path::Path| dir.filename()?.parse().ok();
        let mut all: Vec<_> = dirs.iter().filter_map(number).map(PartitionId).collect();
        all.sort_unstable();
        Ok(all)
    }
}
