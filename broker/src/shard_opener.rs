//! Opening the shards of a data directory.

use crate::config::Config;
use crate::effects::ShardFiles;
use crate::reserve::Reserve;
use flowstone_core::shard::ReplicaOptions;
use flowstone_core::{Shard, ShardConfig};
use flowstone_storage::disk::create_dir_durably;
use flowstone_storage::settled::remove_orphans;
use flowstone_storage::snapshot::finish_install;
use flowstone_storage::{Disk, Error, LogConfig, StateStore, layout};
use flowstone_wire::{Incarnation, NodeId, ShardId};
use std::sync::Arc;

/// What it takes to open a shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardOpener {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) reserve: Arc<Reserve>,
    config: ShardConfig,
    /// This node, where shards are copies among others.
    node: Option<NodeId>,
}

impl ShardOpener {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        reserve: Arc<Reserve>,
        config: &Config,
        node: Option<NodeId>,
    ) -> Self {
        Self {
            disk,
            reserve,
            config: config.shard(),
            node,
        }
    }

    /// What the log of a shard is like.
    pub(crate) fn log_config(&self) -> LogConfig {
        self.config.log
    }

    /// Whether there are files of a shard.
    pub(crate) fn is_here(&self, id: ShardId) -> bool {
        let dir = layout::shard_dir(id);
        let names = flowstone_storage::disk::list_or_nothing(&*self.disk, &dir);
        names.is_ok_and(|names| !names.is_empty())
    }

    /// Opens a shard, making it where it is not there. As one of several copies it takes `fresh_life` if
    /// its data has lost something, or has no life yet: higher than every life that it had.
    ///
    /// # Errors
    /// What storage says.
    pub(crate) fn open(&self, id: ShardId, fresh_life: u64) -> Result<(Shard, ShardFiles), Error> {
        let (disk, dir) = (&self.disk, layout::shard_dir(id));
        create_dir_durably(&**disk, &dir).map_err(|source| Error::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
        finish_install(&**disk, &dir)?;
        let state = StateStore::open_of_shard(&**disk, &dir)?;
        for orphan in remove_orphans(&**disk, &dir, &state)? {
            tracing::info!(
                "removed '{}', which settling had not finished",
                orphan.display()
            );
        }
        let config = self.config;
        let (shard, start) = match self.node {
            None => Shard::open(disk.clone(), &dir, id, config, &state)?,
            Some(node) => {
                let options = ReplicaOptions {
                    node,
                    fresh_life: Incarnation(fresh_life.max(1)),
                    limits: flowstone_core::replica::Limits::default(),
                };
                Shard::open_replica(disk.clone(), &dir, id, config, &state, options)?
            }
        };
        for note in &start.recovered.notes {
            tracing::info!(shard = id.0, "recovery: {note:?}");
        }
        for hole in &start.recovered.holes {
            tracing::error!(
                shard = id.0,
                "{hole}; what else it held is in the state store"
            );
        }
        let files = ShardFiles {
            disk: disk.clone(),
            dir,
            state,
            mark: start.mark,
            reserve: self.reserve.clone(),
        };
        Ok((shard, files))
    }
}
