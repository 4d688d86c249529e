//! The cluster, for operators: how it stands, and what can be changed.

use super::Request;
use crate::{Epoch, Lsn, NodeId, ShardId};
use serde::{Deserialize, Serialize};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// `data` or `witness`.
    pub role: String,
    /// `joining`, `active`, `draining` or `removed`.
    pub state: String,
    /// Whether it votes on the catalog.
    pub votes: bool,
    /// Where other nodes reach it.
    pub peer: String,
    /// Where clients of this protocol reach it.
    pub native: String,
    /// Where it is reached over HTTP.
    pub http: String,
    /// For how long it was not heard, in milliseconds, where the node that says this hears such things.
    pub silent_ms: Option<u64>,
}

/// Who holds a shard, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlace {
    /// The shard.
    pub shard: ShardId,
    /// Its newest epoch.
    pub epoch: Epoch,
    /// Whether that one has begun to commit.
    pub is_active: bool,
    /// Who leads it.
    pub leader: NodeId,
    /// Nodes whose disks count.
    pub members: Vec<NodeId>,
    /// Nodes that are brought up.
    pub learners: Vec<NodeId>,
    /// Where it is wanted, the preferred leader first.
    pub homes: Vec<NodeId>,
    /// How many copies are wanted.
    pub copies: u8,
    /// Since when it has one copy although it had more, in milliseconds since 1970.
    pub alone_since_ms: Option<u64>,
    /// What its leader has told lately; `None` where it has not, or is not heard here.
    pub told: Option<LeaderTold>,
    /// The last time that another node came to lead it; `None` if nobody has seen one who runs now.
    pub moved: Option<LeaderMove>,
}

impl ShardPlace {
    /// What it lacks; `None` of a shard that is led and has every copy that is wanted.
    pub fn lacks(&self) -> Option<String> {
        let wanted = usize::from(self.copies);
        let copies = self.told.as_ref().map(|told| told.copies as usize);
        let fewest = copies.unwrap_or(wanted).min(self.members.len());
        let what = match copies {
            _ if !self.is_active => "nobody leads it yet".into(),
            None => "its leader is not heard".into(),
            Some(_) if self.alone_since_ms.is_some() && wanted > 1 => "on one copy".into(),
            Some(_) if fewest < wanted => format!("{fewest} of {wanted} copies"),
            Some(_) => return None,
        };
        Some(what)
    }
}

/// Another node came to lead a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderMove {
    /// Who led it before.
    pub from: NodeId,
    /// Who leads it now.
    pub to: NodeId,
    /// The epoch that began to commit; 0 while none has.
    pub epoch: Epoch,
    /// Why.
    pub cause: MoveCause,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// For how long nobody led, in milliseconds: since the last one was heard, or since it was asked to
    /// give it up. `None` while nobody leads.
    pub took_ms: Option<u64>,
}

/// Why another node leads a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveCause {
    /// The one before was not heard any more.
    Silent,
    /// The one before has lost some of its data.
    LostData,
    /// The disk of the one before has failed.
    DiskFailed,
    /// The one before was to stop, to be drained, or another one is preferred.
    HandedOver,
}

impl std::fmt::Display for MoveCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Silent => "silent",
            Self::LostData => "lost data",
            Self::DiskFailed => "disk failed",
            Self::HandedOver => "handed over",
        })
    }
}

/// What the leader of a shard tells of its copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderTold {
    /// Copies of members, its own included, that have everything durable that is committed.
    pub copies: u32,
    /// Everything up to here is committed.
    pub committed: Lsn,
    /// The other copies.
    pub others: Vec<CopyLag>,
}

/// How far a copy is behind its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyLag {
    /// The node that has it.
    pub node: NodeId,
    /// Bytes that it has not told to be durable.
    pub lag_bytes: u64,
    /// How long ago something was sent that it has answered, in milliseconds.
    pub heard_ms_ago: u64,
}

/// How the cluster stands, as far as a node has heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's number.
    pub cluster: String,
    /// The node that says this.
    pub node: NodeId,
    /// Who leads the catalog; `None` if nobody is known to.
    pub leader: Option<NodeId>,
    /// Rises with every leader of the catalog.
    pub term: u64,
    /// Changes of the catalog that this node has applied.
    pub applied: u64,
    /// How many copies a shard has, if nothing on it wants another number.
    pub copies: u8,
    /// All nodes.
    pub nodes: Vec<NodeStatus>,
    /// All shards that have had a leader.
    pub shards: Vec<ShardPlace>,
}

/// Asks how the cluster stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetCluster {}
request!(GetCluster = 16 -> ClusterStatus);

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterChange {
    /// Have this many copies of what is in a placement group, or of everything else.
    SetCopies {
        /// The placement group; `None`: everything else.
        group: Option<String>,
        /// How many; `None`: as many as everything else.
        copies: Option<u8>,
    },
    /// Move everything off a node.
    Drain {
        /// The node.
        node: NodeId,
    },
    /// Place shards on a node again.
    Undrain {
        /// The node.
        node: NodeId,
    },
    /// Remove a node that holds nothing any more; it never comes back under its number.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// Prefer a node as the leader of a shard that is wanted there.
    Transfer {
        /// The shard.
        shard: ShardId,
        /// The node.
        to: NodeId,
    },
}

/// Changes the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCluster {
    /// How.
    pub change: ClusterChange,
}
request!(ChangeCluster = 17 -> ());

/// Makes a token, with which one node joins the cluster, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeToken {
    /// The node votes on the catalog, and holds nothing else.
    pub witness: bool,
    /// For how long it is valid, in seconds.
    pub valid_s: u64,
}
request!(MakeToken = 21 -> TokenAnswer);

/// A token, and where to go with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// `TOKEN@HOST:PORT`, a secret until it is used.
    pub token: String,
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenAnswer(hidden)")
    }
}
