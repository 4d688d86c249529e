//! What a data directory holds, opened.

use super::{StartError, found, system};
use crate::catalog_raft::Role;
use crate::catalog_store::CatalogStore;
use crate::cluster::{self, Copies};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::effects::ShardFiles;
use crate::reserve::Reserve;
use crate::shard_opener::ShardOpener;
use flowstone_core::Shard;
use flowstone_peer::Credentials;
use flowstone_storage::{Disk, Error, RealDisk};
use flowstone_wire::{NodeId, ShardId};
use std::sync::Arc;

/// The node that founds a cluster.
const FOUNDER: NodeId = NodeId(1);

/// What a data directory holds, opened.
pub(crate) struct Opened {
    pub(crate) catalog: CatalogStore,
    /// Those that a worker has: with what of them is here.
    pub(crate) shards: Vec<(ShardId, Option<(Shard, ShardFiles)>)>,
    /// Shards that cannot be opened, and why.
    pub(crate) broken: Vec<(ShardId, Error)>,
    /// Where shards are copies among others.
    pub(crate) copies: Option<(Arc<Copies>, Credentials)>,
}

/// Opens the catalog and every shard. A shard whose files are damaged does not keep the others from
/// being served.
///
/// # Errors
/// [`StartError::Catalog`]; [`StartError::Cluster`]; [`StartError::Shard`] where not one can be opened, or
/// the disk refuses.
pub(crate) fn open(data: &DataDir, config: &Config) -> Result<Opened, StartError> {
    let disk: Arc<dyn Disk> =
        Arc::new(RealDisk::new(&data.path).map_err(system("open the data directory"))?);
    let reserve = Reserve::open(disk.clone(), config.log.min_free_bytes);
    let reserve = Arc::new(reserve.map_err(|e| StartError::Catalog(e.to_string()))?);
    let (catalog, credentials) = open_catalog(data, config, &reserve)?;
    let node = credentials.as_ref().map(|c| c.name.node);
    let opener = ShardOpener::new(disk, reserve.clone(), config, node);
    let copies = credentials.map(|credentials| {
        let me = credentials.name.node;
        let copies = Arc::new(Copies::new(me, opener.clone(), &catalog));
        (copies, credentials)
    });
    let (mut shards, mut broken) = (Vec::new(), Vec::new());
    let count = data.identity.shards;
    for id in (0..count).map(ShardId) {
        let opened = match &copies {
            None => opener.open(id, 0).map(Some),
            Some((copies, _)) if is_wanted(copies, &catalog, id) => copies.open(id).map(Some),
            Some(_) => Ok(None),
        };
        match opened {
            Ok(shard) => shards.push((id, shard)),
            Err(e @ (Error::Damaged { .. } | Error::State { .. } | Error::Format { .. }))
                if count > 1 =>
            {
                tracing::error!(shard = id.0, "the shard cannot be opened: {e}");
                broken.push((id, e));
            }
            Err(source) => return Err(StartError::Shard { shard: id, source }),
        }
    }
    if shards.is_empty()
        && let Some((shard, source)) = broken.pop()
    {
        return Err(StartError::Shard { shard, source });
    }
    reserve.take();
    Ok(Opened {
        catalog,
        shards,
        broken,
        copies,
    })
}

/// A copy that is here is opened; of a shard that never was anywhere the first node makes one.
fn is_wanted(copies: &Copies, catalog: &CatalogStore, id: ShardId) -> bool {
    let is_new = catalog.me() == FOUNDER && catalog.current().placed(id).is_none();
    is_new || copies.is_here(id)
}

fn open_catalog(
    data: &DataDir,
    config: &Config,
    reserve: &Arc<Reserve>,
) -> Result<(CatalogStore, Option<Credentials>), StartError> {
    let found = cluster::credentials_of(data).map_err(StartError::Cluster)?;
    let takes_others = !config.cluster.peer.is_empty();
    if found.is_some() && !takes_others {
        let what = "this data directory is of a node of a cluster: say where the others reach it, \
                    with `--peer HOST:PORT` or `cluster.peer` in the settings";
        return Err(StartError::Cluster(what.into()));
    }
    let role = match &found {
        Some(c) if c.name.node != FOUNDER => Role::Joiner(c.name.node.0),
        _ => Role::Founder,
    };
    let (path, count) = (data.path.join("catalog.redb"), data.identity.shards);
    let catalog = CatalogStore::open_as(&path, count, reserve.clone(), role);
    let catalog = catalog.map_err(StartError::Catalog)?;
    if role == Role::Founder {
        found::found(&catalog, data, config);
    }
    let credentials = match found {
        None if takes_others => {
            Some(cluster::found(data, &catalog, &config.cluster).map_err(StartError::Cluster)?)
        }
        found => found,
    };
    Ok((catalog, credentials))
}
