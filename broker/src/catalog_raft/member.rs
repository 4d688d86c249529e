//! A node's part in agreeing on the catalog: the raft that runs, and how it is begun again.

use super::file::CatalogFile;
use super::keeper::Keeper;
use super::log::Log;
use super::machine::{Machine, Shown};
use super::network::Ways;
use super::peers::Peers;
use super::{Raft, Vote, pace};
use flowstone_core::Catalog;
use flowstone_wire::NodeId;
use openraft::{RaftMetrics, ServerState};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// An only voter leads at once; this is for a disk that takes its time.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A leader that no majority has answered for so long says that nobody is known to lead.
const UNHEARD_MS: u64 = 1000;

/// How the voters of a cluster stand, as far as a node has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Who leads; `None` if nobody is known to.
    pub(crate) leader: Option<NodeId>,
    /// Who votes.
    pub(crate) voters: BTreeSet<NodeId>,
    /// Rises with every leader.
    pub(crate) term: u64,
    /// Index of the last entry that this node has applied.
    pub(crate) applied: u64,
}

/// What a node knows of the voters.
pub(super) type Metrics = RaftMetrics<u64, openraft::EmptyNode>;

/// See the module.
pub(crate) struct Member {
    pub(super) me: NodeId,
    pub(super) file: Arc<CatalogFile>,
    pub(super) shown: Arc<Shown>,
    pub(super) ways: Ways,
    pub(super) keeper: Keeper,
    /// Another one after an error of the disk: openraft ends with it.
    raft: RwLock<Raft>,
    /// Held while another one is begun.
    beginning: tokio::sync::Mutex<()>,
    /// Whether the raft that runs was told that it is alone.
    paced_alone: AtomicBool,
}

impl Member {
    /// Begins, on the runtime that all of it will run on. An only voter leads on return.
    ///
    /// # Errors
    /// What is wrong with the file, as text for an operator.
    pub(super) async fn begin(file: Arc<CatalogFile>, shown: Arc<Shown>) -> Result<Self, String> {
        let me = file.me().map_err(|e| e.to_string())?;
        let ways = Ways::default();
        let (raft, is_alone) = run(me, &file, &shown, &ways, true).await?;
        Ok(Self {
            me: NodeId(u32::try_from(me).map_err(|e| e.to_string())?),
            file,
            shown,
            ways,
            keeper: Keeper::new(),
            raft: RwLock::new(raft),
            beginning: tokio::sync::Mutex::default(),
            paced_alone: AtomicBool::new(is_alone),
        })
    }

    /// The number of this node.
    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// The catalog, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.shown.catalog.subscribe()
    }

    /// Opens the way to other nodes.
    pub(crate) fn connect(&self, peers: Arc<dyn Peers>) {
        self.ways.set(peers);
    }

    /// How the voters stand.
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            leader: self.leader().filter(|l| *l != self.me || self.is_heard()),
            voters: self.voters(),
            term: self.metrics().current_term,
            applied: *self.shown.applied.borrow(),
        }
    }

    /// Whether this node, which leads, can have anything agreed on: another one may lead by now.
    fn is_heard(&self) -> bool {
        let metrics = self.metrics();
        let quorum = metrics.millis_since_quorum_ack;
        self.voters().len() < 2 || quorum.is_some_and(|ms| ms < UNHEARD_MS)
    }

    /// The raft that runs.
    pub(super) fn raft(&self) -> Raft {
        self.raft
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.raft().metrics().borrow().clone()
    }

    /// Whether this node decides now.
    pub(super) fn leads(&self) -> bool {
        let metrics = self.metrics();
        metrics.state == ServerState::Leader && metrics.running_state.is_ok()
    }

    /// The voters, as this node knows them.
    pub(super) fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.metrics();
        let voters = metrics.membership_config.membership().voter_ids();
        voters
            .filter_map(|id| u32::try_from(id).ok().map(NodeId))
            .collect()
    }

    /// Who leads, as far as this node knows.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leader = self.metrics().current_leader?;
        u32::try_from(leader).ok().map(NodeId)
    }

    /// Begins again, from what is stored, if the raft that runs has ended.
    ///
    /// # Errors
    /// What is wrong with the file, as text for an operator.
    pub(super) async fn begin_again(&self) -> Result<(), String> {
        let may_be_alone = self.paced_alone.load(Ordering::Relaxed);
        self.replace(may_be_alone, |raft| {
            raft.metrics().borrow().running_state.is_err()
        })
        .await
    }

    /// Begins again at the pace of several, if it was begun at that of one.
    ///
    /// # Errors
    /// As for [`Self::begin_again`].
    pub(super) async fn keep_pace(&self) -> Result<(), String> {
        self.replace(false, |_| self.paced_alone.load(Ordering::Relaxed))
            .await
    }

    async fn replace(
        &self,
        may_be_alone: bool,
        is_due: impl Fn(&Raft) -> bool,
    ) -> Result<(), String> {
        let _beginning = self.beginning.lock().await;
        let old = self.raft();
        if !is_due(&old) {
            return Ok(());
        }
        // It may have ended by itself, with an error that was told.
        let _ = old.shutdown().await;
        let me = u64::from(self.me.0);
        let (raft, is_alone) = run(me, &self.file, &self.shown, &self.ways, may_be_alone).await?;
        *self.raft.write().unwrap_or_else(PoisonError::into_inner) = raft;
        self.paced_alone.store(is_alone, Ordering::Relaxed);
        Ok(())
    }

    /// Ends; the file is closed.
    pub(super) async fn end(&self) {
        let _beginning = self.beginning.lock().await;
        // What it has stored is stored; there is nothing else to lose.
        let _ = self.raft().shutdown().await;
        self.file.close();
    }
}

/// Runs a raft on what is stored. Returns whether it was told that the node is the only one.
async fn run(
    me: u64,
    file: &Arc<CatalogFile>,
    shown: &Arc<Shown>,
    ways: &Ways,
    may_be_alone: bool,
) -> Result<(Raft, bool), String> {
    let machine = Machine::load(file.clone(), shown.clone())?;
    let (is_alone, is_only_voter) = machine.is_alone(me);
    // Others may be about to come.
    let is_alone = is_alone && may_be_alone;
    let config = pace::config(is_alone)?;
    let raft = Raft::new(me, config, ways.clone(), Log(file.clone()), machine).await;
    let raft = raft.map_err(|e| e.to_string())?;
    if is_only_voter {
        lead_at_once(me, &raft).await?;
    }
    Ok((raft, is_alone))
}

/// An only voter that led goes on leading; one that did not needs nobody else to begin.
async fn lead_at_once(me: u64, raft: &Raft) -> Result<(), String> {
    let vote: Vote = raft.metrics().borrow().vote;
    if vote != Vote::new_committed(vote.leader_id.term, me) {
        raft.trigger().elect().await.map_err(|e| e.to_string())?;
    }
    let has_begun = |m: &Metrics| {
        let applied = m.last_applied.map(|id| id.index);
        m.running_state.is_err() || m.current_leader == Some(me) && applied == m.last_log_index
    };
    let wait = raft.wait(Some(BEGIN_TIMEOUT));
    let metrics = wait.metrics(has_begun, "an only voter leads").await;
    let metrics = metrics.map_err(|e| e.to_string())?;
    metrics.running_state.map_err(|e| e.to_string())
}
