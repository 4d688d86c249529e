//! Why joining does not work.

use super::message::JoinRefusal;
use crate::identity::IdentityError;
use std::net::SocketAddr;

/// Why joining does not work. Where the token may have been used up, it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No address was given.
    #[error("no address of a node of the cluster was given; name one, host:port")]
    NoAddress,
    /// A socket or TLS cannot be set up.
    #[error("cannot open a socket to join from: {0}")]
    Local(String),
    /// Nobody answers there.
    #[error("no answer from {address}: {why}; check the address, and that UDP gets through")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// The node there is not of the cluster that the token is of.
    #[error(
        "the node at {address} is not of the cluster that made the token; nothing was told to it. Check the address, or make a new token there"
    )]
    WrongAuthority {
        /// Where.
        address: SocketAddr,
    },
    /// Its certificate is not valid.
    #[error("the node at {address} was not believed: {why}")]
    NotBelieved {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: IdentityError,
    },
    /// The cluster says no.
    #[error("the cluster does not let this node in: {0}")]
    Refused(JoinRefusal),
    /// The connection was lost after the token was shown.
    #[error(
        "the connection to {address} was lost while the cluster decided: {why}; try again with the same token and data directory"
    )]
    Lost {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// The answer makes no sense.
    #[error("the cluster's answer is not valid: {0}; upgrade the older one of both")]
    BadAnswer(String),
}

impl JoinError {
    /// Whether the same request, with the same key, may get another answer a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Refused(JoinRefusal::NotNow(_))
        )
    }
}
