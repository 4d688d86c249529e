//! What a joiner asks, and what it is told: postcard, on one stream.

use super::token::{Proof, TokenId, TokenKey};
use crate::identity::authority::Issued;
use crate::identity::{CertificateRequest, ClusterId, Trust};
use crate::limits::{ADDRESSES_MAX, JOIN_NOTE_BYTES_MAX, NODES_MAX};
use flowstone_wire::NodeId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a joiner says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which token it has.
    pub token: TokenId,
    /// For which key it wants a certificate; signed over the channel.
    pub certificate: CertificateRequest,
    /// Where the others reach it.
    pub addresses: Vec<SocketAddr>,
    /// For the catalog: whether it is a witness, how much it can hold.
    pub note: Vec<u8>,
    /// That it has the token: over the channel and all of the above.
    pub proof: Proof,
}

impl JoinRequest {
    /// What the proof is over.
    fn proven(&self, channel: &[u8; 32]) -> Vec<u8> {
        let said = (self.token, self.certificate, &self.addresses, &self.note);
        let mut bytes = b"flowstone join request 1\0".to_vec();
        bytes.extend_from_slice(channel);
        bytes.extend(postcard::to_allocvec(&said).expect("a vector takes everything"));
        bytes
    }

    /// Puts the proof in.
    pub(super) fn prove(&mut self, key: &TokenKey, channel: &[u8; 32]) {
        self.proof = key.prove(&self.proven(channel));
    }

    /// Whether it was made on this channel, by one that has the token.
    pub(super) fn is_proven(&self, key: &TokenKey, channel: &[u8; 32]) -> bool {
        key.holds(&self.proof, &self.proven(channel))
    }

    /// Reads one from the wire.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let request: Self = postcard::from_bytes(bytes).map_err(|e| e.to_string())?;
        if request.addresses.len() > ADDRESSES_MAX || request.note.len() > JOIN_NOTE_BYTES_MAX {
            return Err("it has too many addresses, or too long a note".into());
        }
        Ok(request)
    }
}

/// Where a node of the cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAddress {
    /// The node.
    pub node: NodeId,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
}

/// What a joiner is told: it is a node now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Its number.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its certificate.
    pub issued: Issued,
    /// Whom it believes.
    pub trust: Trust,
    /// The others.
    pub members: Vec<MemberAddress>,
    /// From the catalog.
    pub note: Vec<u8>,
}

/// Why the cluster says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    /// The token is not known here, was not proven, was used, or is over: which one is for the log of the
    /// cluster only.
    #[error(
        "the token is not valid: it was used, or is over, or is of another cluster; make a new one with `flowstone cluster token`"
    )]
    Token,
    /// The request is not what this version understands.
    #[error("the request was not understood ({0}); upgrade the older one of both")]
    Request(String),
    /// The catalog cannot decide now.
    #[error("not now: {0}; try again with the same token")]
    NotNow(String),
    /// The catalog does not want this node.
    #[error("{0}")]
    Unwanted(String),
}

/// The answer to a joiner.
pub type Answer = Result<Admitted, JoinRefusal>;

/// Reads an answer from the wire.
///
/// # Errors
/// What is wrong with it.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, String> {
    let answer: Answer = postcard::from_bytes(bytes).map_err(|e| e.to_string())?;
    if let Ok(admitted) = &answer {
        let is_long = |m: &MemberAddress| m.addresses.len() > ADDRESSES_MAX;
        let members = &admitted.members;
        if members.len() > NODES_MAX || members.iter().any(is_long) || !admitted.trust.is_sound() {
            return Err("it has too many nodes, addresses or authorities".into());
        }
    }
    Ok(answer)
}
