//! What all tasks of an endpoint share.

use super::Inbox;
use super::dial;
use super::peer::Peer;
use super::status::PeerStatus;
use crate::call::CallHandler;
use crate::clock::Clock;
use crate::error::PeerError;
use crate::identity::tls::{self, Verdict};
use crate::identity::{Credentials, IdentityError};
use crate::join::Admission;
use crate::limits::{ADDRESSES_MAX, NODES_MAX};
use crate::link::Sent;
use crate::snapshot::Rate;
use bytes::Bytes;
use flowstone_core::replica::Envelope;
use flowstone_wire::NodeId;
use quinn::crypto::rustls::QuicServerConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

/// Close codes, for the peer's log.
pub(crate) mod code {
    /// The node stops.
    pub(crate) const STOP: u32 = 1;
    /// The other of two connections stays.
    pub(crate) const REPLACED: u32 = 2;
    /// Whoever dialled is no node of the cluster.
    pub(crate) const STRANGER: u32 = 3;
    /// The node has left the cluster.
    pub(crate) const REMOVED: u32 = 4;
    /// The peer has said what cannot be.
    pub(crate) const BROKEN: u32 = 5;
}

/// What all tasks of an endpoint share.
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) life: u64,
    pub(crate) seed: u64,
    pub(crate) local_addr: SocketAddr,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) transport: Arc<quinn::TransportConfig>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) rate: Rate,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) table: RwLock<Table>,
    /// True once the endpoint stops.
    pub(crate) is_stopping: watch::Sender<bool>,
}

/// What may change while it runs.
pub(crate) struct Table {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) admission: Option<Arc<dyn Admission>>,
    pub(crate) handlers: BTreeMap<u16, Arc<dyn CallHandler>>,
    /// At most [`NODES_MAX`].
    pub(crate) peers: BTreeMap<NodeId, Arc<Peer>>,
    /// Nodes that have left; their numbers are not used again.
    pub(crate) removed: BTreeSet<NodeId>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared(node {} at {})", self.me, self.local_addr)
    }
}

impl Shared {
    /// Nothing in here panics half way, so what is behind a poisoned lock is whole.
    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.table().peers.get(&node).cloned()
    }

    pub(crate) fn statuses(&self) -> Vec<PeerStatus> {
        self.table().peers.values().map(|p| p.status()).collect()
    }

    pub(crate) fn set_peer(
        self: &Arc<Self>,
        node: NodeId,
        addresses: Vec<SocketAddr>,
    ) -> Result<(), PeerError> {
        if addresses.len() > ADDRESSES_MAX {
            let text = format!("a node has at most {ADDRESSES_MAX} addresses");
            return Err(PeerError::Refused(text));
        }
        let peer = self.peer_or_new(node)?;
        peer.set_addresses(addresses);
        Ok(())
    }

    /// The peer of this number. One that nobody has told of may come first: its certificate says enough.
    pub(crate) fn peer_or_new(self: &Arc<Self>, node: NodeId) -> Result<Arc<Peer>, PeerError> {
        let mut table = self.table_mut();
        if let Some(peer) = table.peers.get(&node) {
            return Ok(peer.clone());
        }
        let refused = if node == self.me {
            Some("a node has no connection with itself".to_owned())
        } else if table.removed.contains(&node) {
            Some(format!("node {node} has left the cluster"))
        } else if table.peers.len() >= NODES_MAX {
            Some(format!("a cluster has at most {NODES_MAX} nodes"))
        } else {
            None
        };
        if let Some(text) = refused {
            return Err(PeerError::Refused(text));
        }
        let peer = Arc::new(Peer::new(node));
        table.peers.insert(node, peer.clone());
        drop(table);
        self.runtime.spawn(dial::keep(self.clone(), peer.clone()));
        Ok(peer)
    }

    pub(crate) fn remove_peer(&self, node: NodeId) {
        let mut table = self.table_mut();
        table.removed.insert(node);
        let peer = table.peers.remove(&node);
        drop(table);
        if let Some(connection) = peer.and_then(|p| p.remove()) {
            close(&connection, code::REMOVED, "the node has left the cluster");
            self.inbox.peer_changed(node, false);
        }
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.table().credentials.clone()
    }

    pub(crate) fn set_credentials(&self, next: Credentials) -> Result<(), IdentityError> {
        let now = self.credentials();
        if next.name.cluster != now.name.cluster {
            let (theirs, ours) = (next.name.cluster, now.name.cluster);
            return Err(IdentityError::WrongCluster { theirs, ours });
        }
        if next.name.node != self.me {
            let (expected, found) = (self.me, next.name.node);
            return Err(IdentityError::WrongNode { expected, found });
        }
        next.check(self.clock.now_s())?;
        let config = server_config(&next, &self.clock, &self.transport)?;
        self.endpoint.set_server_config(Some(config));
        self.table_mut().credentials = Arc::new(next);
        Ok(())
    }

    pub(crate) fn set_admission(&self, admission: Option<Arc<dyn Admission>>) {
        self.table_mut().admission = admission;
    }

    pub(crate) fn register(&self, kind: u16, handler: Arc<dyn CallHandler>) {
        self.table_mut().handlers.insert(kind, handler);
    }

    pub(crate) fn send(&self, to: NodeId, envelope: Envelope, body: Vec<Bytes>) -> Sent {
        let Some(peer) = self.peer(to) else {
            return Sent::Unreachable;
        };
        let sent = peer.queue.push(envelope, body);
        match sent {
            Sent::Queued => {}
            Sent::Unreachable => {
                peer.counters.dropped_down.fetch_add(1, Relaxed);
            }
            Sent::Full | Sent::TooLarge => {
                peer.counters.dropped_full.fetch_add(1, Relaxed);
            }
        }
        sent
    }

    pub(crate) fn close(&self) {
        self.is_stopping.send_replace(true);
        let code = quinn::VarInt::from_u32(code::STOP);
        self.endpoint.close(code, b"the node stops");
    }
}

pub(crate) fn close(connection: &quinn::Connection, code: u32, why: &str) {
    connection.close(quinn::VarInt::from_u32(code), why.as_bytes());
}

/// How others are let in.
pub(super) fn server_config(
    own: &Credentials,
    clock: &Clock,
    transport: &Arc<quinn::TransportConfig>,
) -> Result<quinn::ServerConfig, IdentityError> {
    let failed = |e: &dyn fmt::Display| IdentityError::Invalid(e.to_string());
    let config = tls::server(own, clock, Verdict::default()).map_err(|e| failed(&e))?;
    let config = QuicServerConfig::try_from(config).map_err(|e| failed(&e))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(config));
    config
        .transport_config(transport.clone())
        .max_incoming(crate::limits::HANDSHAKES_MAX)
        .incoming_buffer_size(64 << 10)
        .incoming_buffer_size_total(4 << 20)
        // A node keeps its address while it lives; one that moves dials again.
        .migration(false);
    Ok(config)
}
