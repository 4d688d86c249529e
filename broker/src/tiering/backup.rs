//! What a bucket has beside segments: the catalog and the positions of groups, so that an empty node
//! can be made from it.

use super::Tiering;
use super::rarely::Rarely;
use crate::catalog_copy::{self, Rows};
use crate::service::Service;
use flowstone_core::Catalog;
use flowstone_core::catalog::Row;
use flowstone_tier::{Scope, TierEpoch};
use flowstone_wire::native::GroupOffset;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Names of the documents.
pub(crate) const CATALOG: &str = "catalog";
pub(crate) const GROUPS: &str = "groups";
/// How often is looked for a change.
const LOOK: Duration = Duration::from_secs(2);
/// Positions change all the time: they are written at most once in so many looks.
const LOOKS_PER_GROUPS: u32 = 5;

/// The catalog as a bucket has it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogDocument {
    /// Number of the cluster.
    pub(crate) cluster_id: String,
    /// Number of shards.
    pub(crate) shards: u16,
    /// Its rows.
    pub(crate) rows: Rows,
}

/// The positions of all groups.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupsDocument {
    /// By group.
    pub(crate) groups: Vec<(String, Vec<GroupOffset>)>,
}

/// Writes documents whenever what they say has changed.
pub(crate) struct Backup {
    tiering: Arc<Tiering>,
    service: Weak<Service>,
    catalog: PathBuf,
    cluster_id: String,
    /// What was written last.
    written_catalog: Option<Arc<Catalog>>,
    written_groups: Vec<u8>,
}

impl Backup {
    /// Of the node with this data directory, until it is gone.
    pub(crate) fn start(
        tiering: Arc<Tiering>,
        service: &Arc<Service>,
        data: &Path,
        cluster_id: String,
    ) -> Arc<Mutex<Self>> {
        let backup = Arc::new(Mutex::new(Self {
            tiering,
            service: Arc::downgrade(service),
            catalog: data.join("catalog.redb"),
            cluster_id,
            written_catalog: None,
            written_groups: Vec::new(),
        }));
        service.runtime().spawn(run(Arc::downgrade(&backup)));
        backup
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// Why it could not; what was written before stays.
    pub(crate) async fn write(&mut self, with_groups: bool) -> Result<(), String> {
        let (Ok(ground), Some(service)) = (self.tiering.ours(), self.service.upgrade()) else {
            return Ok(());
        };
        let Some(term) = service.deciding_since() else {
            // Another node does it, and may write something else meanwhile.
            self.written_catalog = None;
            self.written_groups.clear();
            return Ok(());
        };
        let leads = (Scope::Catalog, term);
        let right = self.tiering.right(&ground, leads, TierEpoch::default());
        let right = right.await;
        let right = right.map_err(|e| self.tiering.noted(e))?;
        // Taken first: the copy that is read then says this, or more.
        let catalog = Some(service.catalog());
        if catalog != self.written_catalog {
            let document = self.catalog_document(&service)?;
            let put = ground.tier.put_document(CATALOG, right, &document);
            put.await.map_err(|e| self.tiering.noted(e))?;
            self.written_catalog = catalog;
        }
        if !with_groups {
            return Ok(());
        }
        let groups = groups_document(&service).await?;
        if groups != self.written_groups {
            let put = ground.tier.put_document(GROUPS, right, &groups);
            put.await.map_err(|e| self.tiering.noted(e))?;
            self.written_groups = groups;
        }
        Ok(())
    }

    fn catalog_document(&self, service: &Service) -> Result<Vec<u8>, String> {
        let mut rows = catalog_copy::read(&self.catalog).map_err(|e| e.to_string())?;
        // Nodes, and the key of their authority, are of no use to who restores, and not for a bucket.
        rows.retain(|(key, _)| !Row::is_of_nodes(key));
        let document = CatalogDocument {
            cluster_id: self.cluster_id.clone(),
            shards: service.catalog().shards(),
            rows,
        };
        postcard::to_stdvec(&document).map_err(|e| e.to_string())
    }
}

async fn run(backup: Weak<Mutex<Backup>>) {
    let (mut looks, mut told) = (0u32, Rarely::default());
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(backup) = backup.upgrade() else {
            return;
        };
        let with_groups = looks.is_multiple_of(LOOKS_PER_GROUPS);
        match backup.lock().await.write(with_groups).await {
            Ok(()) => told.is_over(),
            Err(e) if told.is_due(Instant::now()) => {
                tracing::warn!(
                    "the tier does not know the newest catalog and group positions: {e}"
                );
            }
            Err(_) => {}
        }
        looks = looks.wrapping_add(1);
    }
}

async fn groups_document(service: &Arc<Service>) -> Result<Vec<u8>, String> {
    let mut document = GroupsDocument::default();
    let names = service.groups().await.map_err(|e| e.to_string())?;
    for name in names {
        let offsets = service.read_offsets(&name, Vec::new()).await;
        document
            .groups
            .push((name, offsets.map_err(|e| e.to_string())?));
    }
    postcard::to_stdvec(&document).map_err(|e| e.to_string())
}
