//! The catalog as the rest of a node uses it: read at once, changed by commands that are agreed on.

use crate::catalog_raft::{
    CatalogThread, NodeReport, PeerAnswer, PeerRequest, Peers, Role, Standing, Vitals,
};
use crate::data_dir;
use crate::reserve::Reserve;
use flowstone_core::Catalog;
use flowstone_core::catalog::{Command, Event};
use flowstone_core::replica::Asked;
use flowstone_wire::{ErrorCode, Failure, NodeId, ShardId};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) use crate::catalog_raft::make;

/// The catalog of a node.
pub(crate) struct CatalogStore {
    thread: CatalogThread,
    catalog: watch::Receiver<Arc<Catalog>>,
}

impl std::fmt::Debug for CatalogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let me = self.me();
        f.debug_struct("CatalogStore")
            .field("me", &me)
            .finish_non_exhaustive()
    }
}

impl CatalogStore {
    /// Opens the catalog of a data directory with this many shards. One that was never of a cluster is
    /// that of a cluster of one.
    ///
    /// # Errors
    /// What is wrong with it, as text for an operator.
    pub(crate) fn open(path: &Path, shards: u16, reserve: Arc<Reserve>) -> Result<Self, String> {
        Self::open_as(path, shards, reserve, Role::Founder)
    }

    /// The same, of a directory that is of a node in this role if it does not say so itself.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(crate) fn open_as(
        path: &Path,
        shards: u16,
        reserve: Arc<Reserve>,
        role: Role,
    ) -> Result<Self, String> {
        let broken = |e: &dyn std::fmt::Display| format!("catalog '{}': {e}", path.display());
        let dir = path.parent().unwrap_or(Path::new("."));
        if !path.exists() {
            if dir.join("shards").exists() {
                return Err(broken(&GONE));
            }
            make(path, &[]).map_err(|e| broken(&e))?;
        }
        let thread = CatalogThread::start(path, shards, reserve, role).map_err(|e| broken(&e))?;
        let catalog = thread.member.watch();
        Ok(Self { thread, catalog })
    }

    /// The catalog as it is now, as far as this node has heard. Waits for nothing.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    /// The same, and every later one.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Has a command agreed on by the cluster, stored and applied here. Waits for the disk and for other
    /// nodes, 10 seconds at most. It is applied once, however often it has to be proposed.
    ///
    /// # Errors
    /// What is wrong with the command; [`ErrorCode::CatalogUnavailable`], [`ErrorCode::Timeout`],
    /// [`ErrorCode::DiskFull`] or [`ErrorCode::Internal`] where it could not be agreed on or stored.
    pub(crate) fn apply(&self, command: Command) -> Result<Event, Failure> {
        let internal = |what: String| Failure::new(ErrorCode::Internal, what);
        let id = data_dir::random_id().map_err(|e| internal(e.to_string()))?;
        let id = u128::from_str_radix(&id, 16).map_err(|e| internal(e.to_string()))?;
        let member = self.thread.member.clone();
        let applied = self
            .thread
            .wait_for(async move { member.apply(id, command).await });
        applied.unwrap_or_else(|| {
            let what = "the catalog is not usable; restart the broker";
            Err(internal(what.into()))
        })
    }

    /// The number of this node.
    pub(crate) fn me(&self) -> NodeId {
        self.thread.member.me()
    }

    /// How nodes and shards stand: voters hear all, the others ask the leader of the catalog. `None` if
    /// it does not answer.
    pub(crate) async fn vitals_heard(&self) -> Option<Vitals> {
        let member = self.thread.member.clone();
        let asked = self
            .thread
            .spawn(async move { member.vitals_heard().await });
        asked.await.ok().flatten()
    }

    /// How voters stand to each other, as far as this node has heard.
    pub(crate) fn standing(&self) -> Standing {
        self.thread.member.standing()
    }
}

/// What nodes need of each other.
impl CatalogStore {
    /// Opens the way to other nodes.
    pub(crate) fn connect(&self, peers: Arc<dyn Peers>) {
        self.thread.member.connect(peers);
    }

    /// Answers a request of another node, which has proven to be `from`. May be polled anywhere.
    pub(crate) fn serve(
        &self,
        from: NodeId,
        request: PeerRequest,
    ) -> impl Future<Output = PeerAnswer> + Send + 'static {
        let member = self.thread.member.clone();
        let served = self
            .thread
            .spawn(async move { member.serve(from, request).await });
        async move {
            served.await.unwrap_or_else(|_| {
                let what = "the broker is shutting down";
                PeerAnswer::Refused(Failure::new(ErrorCode::ShuttingDown, what))
            })
        }
    }

    /// Tells every voter how replicas of this node stand. Waits for nothing; may get lost.
    pub(crate) fn report(&self, report: NodeReport) {
        self.thread.spawn(self.thread.member.clone().report(report));
    }

    /// Asks whoever decides, for a replica of this node. Waits for nothing; may get lost. What comes of it
    /// is seen in [`Self::watch`]: another configuration, or that the epoch is active.
    pub(crate) fn ask(&self, shard: ShardId, asked: Asked) {
        let member = self.thread.member.clone();
        self.thread
            .spawn(async move { member.ask(shard, asked).await });
    }
}

const GONE: &str = "it is gone, and without it all data would count as deleted; restore it from a copy, \
                    or see what `flowstone repair` can save";
