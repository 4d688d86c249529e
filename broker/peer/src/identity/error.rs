//! Why a certificate, a key or a file of them is not taken.

use super::name::ClusterId;
use flowstone_wire::NodeId;

/// Why a certificate, a key or a file of them is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The peer has shown none.
    #[error("the peer has shown no certificate; only nodes of the cluster are let in")]
    NoCertificate,
    /// It is no certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It has no name of a node, or several.
    #[error("the certificate is not that of a node: {0}")]
    NoNodeName(String),
    /// It is of another cluster.
    #[error(
        "the certificate is of cluster {theirs}, this node belongs to {ours}; check the addresses of the cluster"
    )]
    WrongCluster {
        /// Of the certificate.
        theirs: ClusterId,
        /// Of this node.
        ours: ClusterId,
    },
    /// It is of another node than the one that was dialled.
    #[error(
        "the certificate is of node {found}, node {expected} was dialled; check the address of node {expected}"
    )]
    WrongNode {
        /// Who was dialled.
        expected: NodeId,
        /// Who answers.
        found: NodeId,
    },
    /// No authority that is believed has issued it.
    #[error(
        "the certificate was issued by an authority that this node does not trust; join the cluster again if the authority was changed meanwhile"
    )]
    UnknownAuthority,
    /// It is over.
    #[error(
        "the certificate expired {ago_s} s ago; renew it, and compare the clocks of both nodes"
    )]
    Expired {
        /// How long ago, in seconds.
        ago_s: u64,
    },
    /// It has not begun, by more than clocks may differ.
    #[error(
        "the certificate begins in {in_s} s; set the clock of this node or of the one that issued it"
    )]
    NotYetValid {
        /// How long until then, in seconds.
        in_s: u64,
    },
    /// It is wrong in another way.
    #[error("the certificate is not valid: {0}")]
    Invalid(String),
    /// Key and certificate do not belong together.
    #[error("the certificate is for another key than the one that is here")]
    WrongKey,
    /// What was asked for was not signed with the key that it names.
    #[error("the request for a certificate is not signed with its own key")]
    BadRequest,
    /// A key or certificate cannot be made.
    #[error("cannot make a {what}: {why}")]
    Make {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} '{path}': {why}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A file can be read by others.
    #[error(
        "'{path}' can be read by others (mode {mode:o}); `chmod 600` it, and have the node join again if it may have been read"
    )]
    OpenFile {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
}
