//! Why a peer could not be asked, or has not answered.

use flowstone_wire::NodeId;

/// Why a peer could not be asked, or has not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody has told where the node is.
    #[error("node {0} is not known here; it has left the cluster, or the catalog was not read yet")]
    Unknown(NodeId),
    /// There is no connection to the node now. Nothing was sent.
    #[error("node {node} is not reachable: {why}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// Why the last try to reach it has failed.
        why: String,
    },
    /// The connection was lost before the answer came: whether it was done is not known.
    #[error("the connection to node {node} was lost: {why}")]
    Lost {
        /// The node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// No answer in time: whether it was done is not known.
    #[error("node {0} did not answer in time")]
    Timeout(NodeId),
    /// Larger than may be sent.
    #[error("{size_bytes} bytes are too many for one call, at most {max_bytes} go")]
    TooLarge {
        /// How large it is.
        size_bytes: usize,
        /// How large it may be.
        max_bytes: usize,
    },
    /// The peer has too much to do. Nothing was done.
    #[error("node {0} is busy; try again later")]
    Busy(NodeId),
    /// The peer does not know this kind of call: it is of another version.
    #[error("node {node} does not answer calls of kind {kind}; upgrade it")]
    NoHandler {
        /// The node.
        node: NodeId,
        /// The kind.
        kind: u16,
    },
    /// The peer's handler says no.
    #[error("{0}")]
    Refused(String),
    /// This endpoint is closed.
    #[error("this node is stopping")]
    Closed,
}
