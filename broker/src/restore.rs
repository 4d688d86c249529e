//! A data directory made from a bucket alone.
//!
//! What was in the tier comes back as it was: topics, settings, records, positions of groups. What was
//! not uploaded when the node was lost is lost: a partition ends with its last uploaded segment, and
//! positions behind that are moved there. State of pipelines is not in the tier.

use crate::catalog_store::{self, CatalogStore};
use crate::config::Config;
use crate::data_dir::{self, Unfinished};
use crate::reserve::Reserve;
use crate::tiering::{CATALOG, CatalogDocument, GROUPS, GroupsDocument};
use flowstone_core::Catalog;
use flowstone_core::catalog::{Command, Row};
use flowstone_core::shard::{group_row, partition_row};
use flowstone_storage::disk::create_dir_durably;
use flowstone_storage::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_storage::state::Change;
use flowstone_storage::{Disk, RealDisk, StateStore, layout};
use flowstone_tier::{Manifest, Tier, TierError};
use flowstone_wire::native::GroupOffset;
use flowstone_wire::{Lsn, Offset, PartitionId, ShardId, limits, name};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Producers may have been numbered after the catalog was copied; these numbers are left out.
const PRODUCERS_SKIPPED: u64 = 1 << 20;

/// Why a bucket cannot be made a data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// The directory.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] flowstone_storage::Error),
    /// What the bucket has is not what it should be.
    #[error("{0}")]
    Content(String),
}

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Topics.
    pub topics: usize,
    /// Partitions that have records.
    pub partitions: usize,
    /// Their segments.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Positions of groups.
    pub positions: usize,
    /// Positions that were behind the end of what is there, and are at the end now.
    pub moved: usize,
    /// Partitions in the bucket that the catalog does not have: their topics were deleted, or made after
    /// the last copy of the catalog.
    pub unknown: Vec<u32>,
}

/// What goes into the state store of a shard.
#[derive(Default)]
struct Content {
    metas: Vec<SettledMeta>,
    copies: Vec<(SegmentId, Tiered)>,
    rows: Vec<Change>,
    last: Lsn,
}

/// Fills an empty directory from a bucket, and takes the bucket over: a node that still uses it writes
/// nothing there any more. `told` is called with each partition that was read.
///
/// # Errors
/// [`Error`]; what was written before stays and is no data directory.
pub async fn restore(
    tier: &Tier,
    dir: &Path,
    config: &Config,
    mut told: impl FnMut(usize, usize),
) -> Result<Restored, Error> {
    let Some(document) = read_document::<CatalogDocument>(tier, CATALOG).await? else {
        let what = "there is no catalog in it: no node has used it as its tier";
        return Err(Error::Content(what.into()));
    };
    let groups: GroupsDocument = read_document(tier, GROUPS).await?.unwrap_or_default();
    let catalog = catalog_of(&document)?;
    check_groups(&groups)?;
    let unfinished = Unfinished::begin(dir, &[])?;
    // A node that still uses the bucket must remove nothing that the new one will name.
    tier.take_epoch("restore").await?;
    let places = places(&catalog);
    let mut done = Restored {
        topics: catalog.topics().count(),
        ..Restored::default()
    };
    let mut contents: BTreeMap<ShardId, Content> = BTreeMap::new();
    let mut ends: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    let partitions = tier.partitions().await?;
    for (number, partition) in partitions.iter().enumerate() {
        let manifest = tier.manifest(*partition).await?;
        let Some(shard) = places.get(partition) else {
            if !manifest.entries().is_empty() {
                done.unknown.push(partition.0);
            }
            continue;
        };
        done.take(&manifest);
        ends.insert(*partition, manifest.next_offset());
        contents.entry(*shard).or_default().take(&manifest);
        told(number + 1, partitions.len());
    }
    for (group, positions) in groups.groups {
        for at in positions {
            let Some(shard) = places.get(&at.partition) else {
                continue;
            };
            let end = ends.get(&at.partition).copied().unwrap_or_default();
            let row = done.position(&group, at, end);
            contents.entry(*shard).or_default().rows.push(row);
        }
    }
    let disk: Arc<dyn Disk> =
        Arc::new(
            RealDisk::new(dir).map_err(|source| flowstone_storage::Error::Io {
                action: "open",
                path: dir.into(),
                source,
            })?,
        );
    for shard in (0..document.shards).map(ShardId) {
        let content = contents.remove(&shard).unwrap_or_default();
        content.store(&*disk, shard)?;
    }
    let highest = partitions.last().map_or(0, |p| p.0);
    make_catalog(dir, &disk, &document, config, highest)?;
    // Another cluster from here on: nodes of the old one may still be there.
    let cluster_id = data_dir::random_id().map_err(|source| data_dir::Error::Io {
        path: dir.into(),
        source,
    })?;
    unfinished.finish(cluster_id, document.shards)?;
    Ok(done)
}

async fn read_document<T: DeserializeOwned>(tier: &Tier, name: &str) -> Result<Option<T>, Error> {
    let Some(found) = tier.latest_document(name).await? else {
        return Ok(None);
    };
    decode(name, &found.bytes).map(Some)
}

fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    let bad = |e| Error::Content(format!("document '{name}' is not of this version: {e}"));
    postcard::from_bytes(bytes).map_err(bad)
}

/// The catalog in a document of a bucket: each partition has a place of its own on a shard that there is.
///
/// # Errors
/// [`Error::Content`].
pub fn read_catalog(bytes: &[u8]) -> Result<Catalog, Error> {
    catalog_of(&decode(CATALOG, bytes)?)
}

/// The positions of groups in a document of a bucket.
///
/// # Errors
/// [`Error::Content`].
pub fn read_groups(bytes: &[u8]) -> Result<Vec<(String, Vec<GroupOffset>)>, Error> {
    let document: GroupsDocument = decode(GROUPS, bytes)?;
    check_groups(&document)?;
    Ok(document.groups)
}

fn catalog_of(document: &CatalogDocument) -> Result<Catalog, Error> {
    let shards = usize::from(document.shards);
    if !(1..=limits::SHARDS_MAX).contains(&shards) {
        let most = limits::SHARDS_MAX;
        let what = format!("its catalog is of {shards} shards, there can be 1 to {most}");
        return Err(Error::Content(what));
    }
    let rows = document.rows.iter().map(|(k, v)| (&k[..], &v[..]));
    let catalog = Catalog::from_rows(document.shards, rows).map_err(Error::Content)?;
    let mut seen = BTreeSet::new();
    for p in catalog.topics().flat_map(|t| &t.partitions) {
        let is_there = p.shard.0 < document.shards && p.id.0 >= PartitionId::FIRST_USER;
        if !is_there || !seen.insert(p.id) {
            let (id, shard) = (p.id, p.shard.0);
            let what = format!("partition {id} of its catalog has no place on shard {shard}");
            return Err(Error::Content(what));
        }
    }
    Ok(catalog)
}

fn check_groups(document: &GroupsDocument) -> Result<(), Error> {
    let mut names = document.groups.iter().map(|(name, _)| name);
    let bad = |e: flowstone_wire::Failure| Error::Content(e.message);
    names.try_for_each(|group| name::check("group", group).map_err(bad))
}

fn places(catalog: &Catalog) -> BTreeMap<PartitionId, ShardId> {
    let all = catalog.topics().flat_map(|t| &t.partitions);
    all.map(|p| (p.id, p.shard)).collect()
}

impl Restored {
    fn take(&mut self, manifest: &Manifest) {
        let entries = manifest.entries();
        self.partitions += usize::from(!entries.is_empty());
        self.segments += entries.len();
        self.records = self.records.saturating_add(manifest.records());
        self.bytes = self.bytes.saturating_add(manifest.bytes());
    }

    /// The row of a position, which is not behind the end.
    fn position(&mut self, group: &str, mut at: GroupOffset, end: Offset) -> Change {
        self.positions += 1;
        self.moved += usize::from(at.offset > end);
        at.offset = at.offset.min(end);
        group_row(group, at)
    }
}

impl Content {
    fn take(&mut self, manifest: &Manifest) {
        let partition = manifest.partition();
        for entry in manifest.entries() {
            let copy = (entry.segment(partition), entry.tiered(false));
            self.copies.push(copy);
            self.metas.push(entry.meta(partition));
            self.last = self.last.max(entry.last_lsn);
        }
        let (start, next) = (manifest.start(), manifest.next_offset());
        self.rows.push(partition_row(partition, start, next));
    }

    fn store(&self, disk: &dyn Disk, shard: ShardId) -> Result<(), flowstone_storage::Error> {
        let dir = layout::shard_dir(shard);
        create_dir_durably(disk, &dir).map_err(|source| flowstone_storage::Error::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
        let state = StateStore::open(disk, &layout::state(&dir))?;
        state.commit_settled(Some(self.last), &self.metas, &[])?;
        state.commit_tiered(&self.copies)?;
        // The log goes on behind what was lost with the old one.
        state.apply(self.last, &self.rows)
    }
}

fn make_catalog(
    dir: &Path,
    disk: &Arc<dyn Disk>,
    document: &CatalogDocument,
    config: &Config,
    highest: u32,
) -> Result<(), Error> {
    let path = dir.join("catalog.redb");
    let mut rows = document.rows.clone();
    // It is the first node of a cluster of its own.
    rows.retain(|(key, _)| !Row::is_of_nodes(key));
    catalog_store::make(&path, &rows).map_err(|e| Error::Content(e.to_string()))?;
    let reserve = Arc::new(Reserve::open(disk.clone(), config.log.min_free_bytes)?);
    let store = CatalogStore::open(&path, document.shards, reserve).map_err(Error::Content)?;
    let skip = Command::Skip {
        partition: PartitionId(highest.saturating_add(1)),
        producers: PRODUCERS_SKIPPED,
    };
    let skipped = store.apply(skip);
    skipped.map_err(|e| Error::Content(e.message)).map(drop)
}
