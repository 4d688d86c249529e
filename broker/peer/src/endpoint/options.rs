//! What an endpoint is started with.

use super::Inbox;
use crate::clock::Clock;
use crate::identity::{Credentials, IdentityError};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What an endpoint is started with.
pub struct PeerOptions {
    /// Where it listens, UDP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Binding an address that is not loopback is refused without this.
    pub allow_remote: bool,
    /// Who the node is.
    pub credentials: Credentials,
    /// A number that no other start of this node has: peers tell its lives apart by it.
    pub life: u64,
    /// Spreads tries to reconnect.
    pub seed: u64,
    /// Threads that carry everything.
    pub threads: usize,
    /// How packets travel.
    pub wire: WireOptions,
    /// Bytes of snapshots that are sent in a second, all together.
    pub snapshot_bytes_per_s: u64,
    /// What certificates are held against.
    pub clock: Clock,
    /// What takes what arrives.
    pub inbox: Arc<dyn Inbox>,
}

impl fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerOptions({}, {})", self.credentials.name, self.listen)
    }
}

impl PeerOptions {
    /// The defaults, on a free port of loopback.
    pub fn new(credentials: Credentials, life: u64, inbox: Arc<dyn Inbox>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            allow_remote: false,
            seed: life ^ u64::from(credentials.name.node.0),
            credentials,
            life,
            threads: 1,
            wire: WireOptions::default(),
            snapshot_bytes_per_s: 64 << 20,
            clock: Clock::of_machine(),
            inbox,
        }
    }
}

/// How packets travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireOptions {
    /// Largest UDP payload that is tried: 1,472 fills an Ethernet frame, 8,972 a jumbo frame. What the path
    /// takes is found out from 1,200 on.
    pub datagram_bytes_max: u16,
    /// What the path is known to take, 1,200 everywhere: packets begin with it and never get smaller.
    pub datagram_bytes_min: u16,
    /// Bytes on the way, not acknowledged: 10 GbE times 10 ms and some more.
    pub window_bytes: u32,
    /// Bytes of a socket's buffers; the kernel may give less.
    pub socket_bytes: usize,
    /// A peer that is not heard for so long is gone.
    pub idle: Duration,
    /// Something is said at least this often.
    pub keep_alive: Duration,
    /// How the rate is found.
    pub congestion: Congestion,
}

/// How the rate is found (see docs/decisions/0005-peers.md for what each does here).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 9438.
    Cubic,
    /// RFC 9002, section 7.
    NewReno,
    /// Version 1 of BBR.
    Bbr,
}

impl Default for WireOptions {
    fn default() -> Self {
        Self {
            datagram_bytes_max: 1472,
            datagram_bytes_min: 1200,
            window_bytes: 16 << 20,
            socket_bytes: 4 << 20,
            idle: Duration::from_millis(1000),
            keep_alive: Duration::from_millis(200),
            congestion: Congestion::Cubic,
        }
    }
}

/// Why an endpoint does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is open to others.
    #[error("{0} can be reached from other machines; set `allow_remote = true` if that is wanted")]
    Remote(SocketAddr),
    /// The socket cannot be opened.
    #[error("cannot listen on UDP {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The credentials are not valid.
    #[error("this node's own credentials: {0}")]
    Identity(#[from] IdentityError),
    /// TLS or QUIC cannot be set up.
    #[error("cannot set up QUIC: {0}")]
    Setup(String),
}
