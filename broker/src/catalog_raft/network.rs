//! openraft's messages over [`Peers`].

use super::Types;
use super::peers::{PeerAnswer, PeerError, PeerRequest, Peers};
use flowstone_wire::NodeId;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, RPCTypes, RaftNetwork, RaftNetworkFactory};
use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};

/// The way to other nodes, once there is one: a cluster of one has none.
#[derive(Clone, Default)]
pub(super) struct Ways(Arc<RwLock<Option<Arc<dyn Peers>>>>);

impl Ways {
    pub(super) fn set(&self, peers: Arc<dyn Peers>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(peers);
    }

    /// Asks a node.
    ///
    /// # Errors
    /// [`PeerError`].
    pub(super) async fn call(
        &self,
        to: NodeId,
        request: PeerRequest,
    ) -> Result<PeerAnswer, PeerError> {
        let peers = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(peers) = peers else {
            let why = "the door for other nodes is not open".into();
            return Err(PeerError::Unreachable { to, why });
        };
        peers.call(to, request).await
    }
}

impl RaftNetworkFactory<Types> for Ways {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        Way {
            ways: self.clone(),
            target,
        }
    }
}

/// The way to one node.
pub(super) struct Way {
    ways: Ways,
    target: u64,
}

type Failed<E> = RPCError<u64, EmptyNode, E>;

impl Way {
    async fn call<T, E: Error>(
        &self,
        request: PeerRequest,
        (action, option): (RPCTypes, RPCOption),
        take: impl FnOnce(PeerAnswer) -> Option<Result<T, E>>,
    ) -> Result<T, Failed<E>> {
        let to = NodeId(u32::try_from(self.target).unwrap_or(u32::MAX));
        let timeout = option.hard_ttl();
        let asked = tokio::time::timeout(timeout, self.ways.call(to, request)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(e @ PeerError::Unreachable { .. })) => return Err(Unreachable::new(&e).into()),
            Ok(Err(e)) => return Err(NetworkError::new(&e).into()),
            Err(_) => {
                return Err(RPCError::Timeout(openraft::error::Timeout {
                    action,
                    id: 0,
                    target: self.target,
                    timeout,
                }));
            }
        };
        match take(answer) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(e)) => Err(RPCError::RemoteError(RemoteError::new(self.target, e))),
            None => {
                let why = "it answers with something else".into();
                Err(NetworkError::new(&PeerError::Lost { to, why }).into())
            }
        }
    }
}

impl RaftNetwork<Types> for Way {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed<RaftError<u64>>> {
        let how = (RPCTypes::AppendEntries, option);
        let answer = |a| match a {
            PeerAnswer::Append(answer) => Some(answer),
            _ => None,
        };
        self.call(PeerRequest::Append(rpc), how, answer).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<RaftError<u64, InstallSnapshotError>>> {
        let how = (RPCTypes::InstallSnapshot, option);
        let answer = |a| match a {
            PeerAnswer::Snapshot(answer) => Some(answer),
            _ => None,
        };
        self.call(PeerRequest::Snapshot(rpc), how, answer).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failed<RaftError<u64>>> {
        let how = (RPCTypes::Vote, option);
        let answer = |a| match a {
            PeerAnswer::Vote(answer) => Some(answer),
            _ => None,
        };
        self.call(PeerRequest::Vote(rpc), how, answer).await
    }
}
