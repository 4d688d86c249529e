//! The cluster: how it stands, and what an operator changes.

use super::Service;
use crate::catalog_raft::Standing;
use flowstone_core::Catalog;
use flowstone_core::catalog::{
    ClusterCommand, Command, Node, NodeCommand, NodeState, Placed, Role, ShardCommand,
};
use flowstone_core::replica::{Member, Report};
use flowstone_wire::native::{
    ClusterChange, ClusterStatus, CopyLag, LeaderTold, NodeStatus, ShardPlace,
};
use flowstone_wire::{ErrorCode, Failure, NodeId, ShardId};
use std::sync::Arc;

impl Service {
    /// The term of the catalog since which this node decides, if it does.
    pub(crate) fn deciding_since(&self) -> Option<u64> {
        let standing = self.catalog.standing();
        (standing.leader == Some(self.catalog.me())).then_some(standing.term)
    }

    /// How the cluster stands, as far as this node has heard.
    pub async fn cluster_status(&self) -> ClusterStatus {
        let heard = self.catalog.vitals_heard().await;
        // One that does not vote remembers a leader that it does not hear any more.
        let is_heard = heard.is_some();
        let vitals = heard.unwrap_or_default();
        let (catalog, standing) = (self.catalog(), self.catalog.standing());
        let cluster = catalog.cluster();
        let shards = catalog.all_placed();
        ClusterStatus {
            cluster: cluster.map_or(String::new(), |c| c.id.clone()),
            node: self.catalog.me(),
            leader: standing.leader.filter(|_| is_heard),
            term: standing.term,
            applied: standing.applied,
            copies: cluster.map_or(1, |c| c.copies),
            nodes: catalog
                .nodes()
                .map(|n| NodeStatus {
                    silent_ms: vitals.silent_ms.get(&n.id).copied(),
                    ..node_status(n, &standing)
                })
                .collect(),
            shards: shards
                .map(|(id, p)| ShardPlace {
                    told: vitals.leaders.get(&id).map(told),
                    moved: vitals.moves.get(&id).cloned(),
                    ..place(&catalog, id, p)
                })
                .collect(),
        }
    }

    /// What shards lack of being led and having every copy; nothing where this node takes no others.
    ///
    /// # Errors
    /// That this node is cut off from those who decide.
    pub(crate) async fn lacking(&self) -> Result<Vec<(ShardId, String)>, String> {
        if self.cluster().is_none() {
            return Ok(Vec::new());
        }
        let status = self.cluster_status().await;
        if status.leader.is_none() {
            return Err("nobody leads the catalog, as far as this node has heard".into());
        }
        let lacking = status.shards.iter();
        let lacking = lacking.filter_map(|s| Some((s.shard, s.lacks()?)));
        Ok(lacking.collect())
    }

    /// Changes the cluster.
    ///
    /// # Errors
    /// What the catalog says.
    pub async fn change_cluster(self: Arc<Self>, change: ClusterChange) -> Result<(), Failure> {
        let set = |node, state| Command::Node(NodeCommand::SetState { node, state });
        let command = match change {
            ClusterChange::SetCopies { group, copies } => {
                Command::Cluster(ClusterCommand::SetCopies { group, copies })
            }
            ClusterChange::Drain { node } => set(node, NodeState::Draining),
            ClusterChange::Undrain { node } => set(node, NodeState::Active),
            ClusterChange::Remove { node } => {
                self.check_removal(node)?;
                set(node, NodeState::Removed)
            }
            ClusterChange::Transfer { shard, to } => transfer(&self.catalog(), shard, to)?,
        };
        self.command(command).await.map(drop)
    }

    /// Who is removed is not heard any more: the others must be able to agree without it.
    fn check_removal(&self, node: NodeId) -> Result<(), Failure> {
        let voters = self.catalog.standing().voters;
        if !voters.contains(&node) || voters.len() > 2 {
            return Ok(());
        }
        let what = format!(
            "without node {node} nobody could agree on anything: drain it, and wait until `cluster status` \
             shows that another node votes in its place"
        );
        Err(Failure::new(ErrorCode::InvalidRequest, what))
    }
}

fn transfer(catalog: &Catalog, shard: ShardId, to: NodeId) -> Result<Command, Failure> {
    let placed = catalog.placed(shard);
    let placed = placed.filter(|p| p.homes.contains(&to)).ok_or_else(|| {
        let what = format!(
            "shard {shard} is not wanted on node {to}; `flowstone cluster status` says where"
        );
        Failure::new(ErrorCode::InvalidRequest, what)
    })?;
    let others = placed.homes.iter().copied().filter(|n| *n != to);
    Ok(Command::Shard(ShardCommand::SetHomes {
        shard,
        was: placed.homes.clone(),
        homes: std::iter::once(to).chain(others).collect(),
    }))
}

fn node_status(node: &Node, standing: &Standing) -> NodeStatus {
    let role = match node.role {
        Role::Data => "data",
        Role::Witness => "witness",
    };
    let state = match node.state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
        NodeState::Removed => "removed",
    };
    NodeStatus {
        node: node.id,
        name: node.name.clone(),
        role: role.into(),
        state: state.into(),
        votes: standing.voters.contains(&node.id),
        peer: node.addresses.peer.clone(),
        native: node.addresses.native.clone(),
        http: node.addresses.http.clone(),
        silent_ms: None,
    }
}

fn place(catalog: &Catalog, shard: ShardId, placed: &Placed) -> ShardPlace {
    let nodes = |all: &[Member]| all.iter().map(|m| m.node).collect();
    let config = &placed.config;
    ShardPlace {
        shard,
        epoch: config.epoch,
        is_active: placed.is_active(),
        leader: config.leader.node,
        members: nodes(&config.members),
        learners: nodes(&config.learners),
        homes: placed.homes.clone(),
        copies: u8::try_from(catalog.copies_of(shard)).unwrap_or(u8::MAX),
        alone_since_ms: placed.alone_since_ms,
        told: None,
        moved: None,
    }
}

fn told(report: &Report) -> LeaderTold {
    let others = report.followers.iter().map(|f| CopyLag {
        node: f.member.node,
        lag_bytes: f.lag_bytes,
        heard_ms_ago: f.heard_us_ago / 1000,
    });
    LeaderTold {
        copies: u32::try_from(report.copies).unwrap_or(u32::MAX),
        committed: report.committed,
        others: others.collect(),
    }
}
