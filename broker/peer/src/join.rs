//! Becoming a node: a one-time token, and what passes between the joiner and a node of the cluster.
//!
//! ```text
//! joiner                                             node
//!   |-- TLS 1.3, "flowstone-join/1", no certificate -->|
//!   |<-- certificate, authority ----------------------|   the joiner compares the authority with
//!   |                                                  |   the fingerprint in its token, or leaves
//!   |-- token id, HMAC(token key, channel + request) ->|
//!   |   public key, signed; addresses; note            |   the catalog decides, and uses the token up
//!   |<-- node id, certificate, authorities, members ---|
//! ```
//!
//! The secret itself is never sent. What is sent holds for this one connection only (the channel is named
//! by keying material of TLS, RFC 5705), so that nobody can use it again elsewhere.

mod admission;
mod error;
mod joiner;
mod message;
mod token;

pub(crate) use admission::serve;
pub use admission::{Admission, JoinAsk};
pub use error::JoinError;
pub use joiner::{Joined, Joiner};
pub use message::{Admitted, Answer, JoinRefusal, JoinRequest, MemberAddress, decode_answer};
pub use token::{JoinToken, NotAToken, Proof, TokenId, TokenKey};
