//! The wire between the nodes of a cluster: identities, joining, calls, links and snapshots, over QUIC.
//!
//! | module | what it is |
//! | - | - |
//! | [`identity`] | names, keys, certificates, and what is believed of them |
//! | [`join`] | becoming a node, with a one-time token |
//! | [`endpoint`] | one UDP socket; one connection with each other node |
//! | [`call`] | a question and its answer, each on a stream of its own |
//! | [`link`] | what replicas of shards say, in order, with bytes out of the sender's log |
//! | [`snapshot`] | what replaces a log, beside the link and more slowly |
//! | [`limits`] | every bound |
//!
//! QUIC (quinn), TLS (rustls) and certificates (rcgen) are named in this crate only. It runs on threads of
//! its own, so that nothing else delays a heartbeat; what arrives is handed to an [`Inbox`], which must not
//! wait.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

pub mod call;
mod clock;
pub mod endpoint;
mod error;
pub mod identity;
mod jitter;
pub mod join;
pub mod limits;
pub mod link;
mod renewal;
pub mod snapshot;
mod stream;

pub use call::{CallFailure, CallHandler};
pub use clock::Clock;
pub use endpoint::{Inbox, PeerEndpoint, PeerOptions, StartError, WireOptions};
pub use error::PeerError;
pub use identity::Credentials;
pub use link::{Incoming, Sent};
pub use renewal::{Issue, RENEW_KIND, RenewalHandler, renew, renew_here};

/// A future that may go to another thread.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'static>>;
