//! What nodes say to each other about the catalog, and the seam to whatever carries it.

use super::{Outcome, Proposal, Types, Vitals};
use flowstone_client::BoxFuture;
use flowstone_core::replica::{Asked, Report};
use flowstone_wire::{Failure, NodeId, ShardId};
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

/// Largest request or answer, encoded, in bytes: a piece of a snapshot, or entries, and some.
pub(crate) const PEER_BYTES_MAX: usize = 8 << 20;

/// Carries requests to other nodes. Implemented by the endpoint that nodes share; in tests by memory.
///
/// The future is polled on the catalog's own runtime: what needs another one is spawned there and waited
/// for. It may be dropped at any time. Requests to one node may be answered in any order.
pub(crate) trait Peers: Send + Sync + 'static {
    /// Asks a node, which answers with what its `CatalogStore::serve` gives.
    fn call(
        &self,
        to: NodeId,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<PeerAnswer, PeerError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// The request has not left: the node has no address, or does not answer there.
    #[error("node {to} cannot be reached: {why}")]
    Unreachable {
        /// The node.
        to: NodeId,
        /// Why.
        why: String,
    },
    /// The request may have arrived, and the answer is lost.
    #[error("the answer of node {to} is lost: {why}")]
    Lost {
        /// The node.
        to: NodeId,
        /// Why.
        why: String,
    },
}

/// What a node asks another one. Postcard, at most [`PEER_BYTES_MAX`] long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum PeerRequest {
    /// Entries of the log, or a heartbeat.
    Append(AppendEntriesRequest<Types>),
    /// A voter wants to lead.
    Vote(VoteRequest<u64>),
    /// A piece of a snapshot.
    Snapshot(InstallSnapshotRequest<Types>),
    /// To the leader: a command.
    Propose(Proposal),
    /// To every voter: how a node and its replicas stand.
    Report(NodeReport),
    /// To the leader: what a replica asks of the catalog. There is no other answer than what changes.
    Ask(ShardId, Asked),
    /// To the leader, from a node that does not vote: how nodes and shards stand.
    Vitals,
}

/// How a node stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// How its replicas stand, those that have something to say.
    pub(crate) shards: Vec<(ShardId, Report)>,
}

/// What is answered, in the order of [`PeerRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum PeerAnswer {
    /// To [`PeerRequest::Append`].
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    /// To [`PeerRequest::Vote`].
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    /// To [`PeerRequest::Snapshot`].
    Snapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    /// To [`PeerRequest::Propose`].
    Proposed(Proposed),
    /// To [`PeerRequest::Report`] and [`PeerRequest::Ask`].
    Heard,
    /// The request is refused.
    Refused(Failure),
    /// To [`PeerRequest::Vitals`].
    Vitals(Vitals),
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Proposed {
    /// It was applied.
    Applied {
        /// Index of its entry: who has applied that sees what it did.
        index: u64,
        /// What it did.
        outcome: Outcome,
    },
    /// The node does not lead; it is not known whether the proposal will be applied.
    NotLeader {
        /// Who leads, as far as the node knows.
        leader: Option<NodeId>,
    },
    /// The leader could not store it.
    Failed(Failure),
}
