//! How it stands with a peer: what status pages and metrics show.

use flowstone_wire::NodeId;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How it stands with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Whether there is a connection.
    pub is_up: bool,
    /// Where it is.
    pub address: Option<SocketAddr>,
    /// Round trip of the connection, in microseconds; 0 without one.
    pub round_trip_us: u64,
    /// UDP payload that the path takes, in bytes; 0 without a connection.
    pub datagram_bytes: u64,
    /// Why there is no connection, or why the last one ended.
    pub last_error: Option<String>,
    /// Bytes of messages that wait.
    pub queued_bytes: u64,
    /// What was counted since the start.
    pub counts: PeerCounts,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted of a peer since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PeerCounts { $($(#[$doc])* pub $name: u64,)* }

        /// The same while it is counted.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> PeerCounts {
                PeerCounts { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that came up.
    connections,
    /// Messages handed to QUIC.
    sent_messages,
    /// Bytes of their bodies.
    sent_bytes,
    /// Messages dropped because there was no connection.
    dropped_down,
    /// Messages dropped because too much was waiting.
    dropped_full,
    /// Messages that came.
    received_messages,
    /// Bytes of their bodies.
    received_bytes,
    /// Messages dropped because a shard held too much already.
    dropped_held,
    /// Calls that came.
    calls,
    /// Calls refused because too much was waiting.
    busy_calls,
}

impl Counters {
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }
}
