//! Answers to other nodes.

use super::member::Member;
use super::peers::{PeerAnswer, PeerRequest};
use flowstone_core::catalog::NodeState;
use flowstone_wire::{ErrorCode, Failure, NodeId};

/// Largest snapshot that is taken, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Most replicas of a report.
const REPORTS_MAX: usize = flowstone_wire::limits::SHARDS_MAX;

impl Member {
    /// Answers a node, whose certificate says that it is this one.
    pub(crate) async fn serve(&self, from: NodeId, request: PeerRequest) -> PeerAnswer {
        if let Err(failure) = self.admit(from) {
            return PeerAnswer::Refused(failure);
        }
        match request {
            PeerRequest::Append(rpc) => PeerAnswer::Append(self.raft().append_entries(rpc).await),
            PeerRequest::Vote(rpc) => PeerAnswer::Vote(self.raft().vote(rpc).await),
            PeerRequest::Snapshot(rpc) => {
                if rpc.offset.saturating_add(rpc.data.len() as u64) > SNAPSHOT_BYTES_MAX {
                    let what = format!("a snapshot is over {SNAPSHOT_BYTES_MAX} bytes");
                    return PeerAnswer::Refused(Failure::new(ErrorCode::TooLarge, what));
                }
                PeerAnswer::Snapshot(self.raft().install_snapshot(rpc).await)
            }
            PeerRequest::Propose(proposal) => {
                PeerAnswer::Proposed(self.take_proposal(proposal).await)
            }
            PeerRequest::Report(mut report) => {
                report.shards.truncate(REPORTS_MAX);
                report.shards.retain(|(_, r)| r.me.node == from);
                self.take_report(from, report);
                PeerAnswer::Heard
            }
            PeerRequest::Ask(shard, asked) => {
                if asked.from.node == from {
                    self.take_ask(shard, &asked).await;
                }
                PeerAnswer::Heard
            }
            PeerRequest::Vitals => PeerAnswer::Vitals(self.vitals()),
        }
    }

    /// A node that was removed has no say any more. One that knows no nodes is new, and hears the first.
    fn admit(&self, from: NodeId) -> Result<(), Failure> {
        let catalog = self.shown.catalog.borrow();
        let node = catalog.node(from);
        if catalog.cluster().is_none() || node.is_some_and(|n| n.state != NodeState::Removed) {
            return Ok(());
        }
        let what =
            format!("node {from} is not of this cluster any more; join it again as a new node");
        Err(Failure::new(ErrorCode::NotFound, what))
    }
}
