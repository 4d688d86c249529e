//! One UDP socket per node, and one connection with each other node.

mod accept;
pub(crate) mod connection;
mod dial;
mod hello;
mod options;
pub(crate) mod peer;
pub(crate) mod shared;
mod start;
mod status;
mod transport;

pub use hello::Hello;
pub use options::{Congestion, PeerOptions, StartError, WireOptions};
pub use status::{PeerCounts, PeerStatus};
pub use transport::transport;

use crate::call::{self, CallHandler};
use crate::error::PeerError;
use crate::identity::{Credentials, IdentityError};
use crate::join::Admission;
use crate::link::{Incoming, Sent};
use crate::snapshot::{self, SnapshotOutcome, SnapshotSink, SnapshotSource};
use bytes::Bytes;
use flowstone_core::replica::Envelope;
use flowstone_wire::NodeId;
use shared::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What takes what arrives. It is called on the threads of the endpoint and must not wait: what it has no
/// room for it drops, and the protocol sends it again.
pub trait Inbox: Send + Sync {
    /// A message of a replica. Who sent it is who the envelope says.
    fn deliver(&self, message: Incoming);

    /// A connection with a node has come up, or the last one was lost.
    fn peer_changed(&self, node: NodeId, is_up: bool);

    /// A snapshot comes: where to put it.
    ///
    /// # Errors
    /// Why it is not wanted; the sender is told.
    fn snapshot(&self, head: snapshot::SnapshotHead) -> Result<Box<dyn SnapshotSink>, String>;
}

/// The wire of one node. Cheap to call from any thread; stopped when it is dropped.
#[derive(Debug)]
pub struct PeerEndpoint {
    shared: Arc<Shared>,
    /// `None` once it was stopped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl PeerEndpoint {
    /// Opens the socket and starts the threads.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: PeerOptions) -> Result<Self, StartError> {
        start::start(options)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Says where a node is, or that it has moved. From then on there is a connection with it, whenever
    /// that is possible.
    ///
    /// # Errors
    /// [`PeerError::Refused`] where there are too many nodes or addresses, or it is this node itself.
    pub fn set_peer(&self, node: NodeId, addresses: Vec<SocketAddr>) -> Result<(), PeerError> {
        self.shared.set_peer(node, addresses)
    }

    /// A node has left the cluster: its connection is closed, and it is not let in any more.
    pub fn remove_peer(&self, node: NodeId) {
        self.shared.remove_peer(node);
    }

    /// New credentials of this node, or new authorities to believe: for connections that begin from now on.
    ///
    /// # Errors
    /// [`IdentityError`], where they are not of this node; the old ones stay.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<(), IdentityError> {
        self.shared.set_credentials(credentials)
    }

    /// The present ones.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.shared.credentials()
    }

    /// Who decides on joiners; `None`, as at the start, lets nobody join here.
    pub fn set_admission(&self, admission: Option<Arc<dyn Admission>>) {
        self.shared.set_admission(admission);
    }

    /// Answers calls of this kind from now on. Kinds below [`crate::limits::URGENT_KINDS`] go before others.
    pub fn register(&self, kind: u16, handler: Arc<dyn CallHandler>) {
        self.shared.register(kind, handler);
    }

    /// Asks a node, and waits for its answer no longer than `timeout`. The future needs no runtime of its
    /// caller's.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn call(
        &self,
        to: NodeId,
        kind: u16,
        request: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, PeerError>> + Send + use<> {
        call::call(self, to, kind, request, timeout)
    }

    /// Sends a message of a replica, with the bytes of its span as slices of wherever they lie. Never waits.
    pub fn send(&self, to: NodeId, envelope: Envelope, body: Vec<Bytes>) -> Sent {
        self.shared.send(to, envelope, body)
    }

    /// Sends a snapshot, beside everything else and no faster than the rate for all of them. `done` is
    /// called once, on another thread: with success after the receiver has it all.
    pub fn send_snapshot(
        &self,
        to: NodeId,
        head: snapshot::SnapshotHead,
        source: Box<dyn SnapshotSource>,
        done: SnapshotOutcome,
    ) {
        snapshot::send(self, to, head, source, done);
    }

    /// How it stands with a node.
    pub fn status(&self, node: NodeId) -> Option<PeerStatus> {
        self.shared.peer(node).map(|peer| peer.status())
    }

    /// How it stands with all of them, ordered by node.
    pub fn statuses(&self) -> Vec<PeerStatus> {
        self.shared.statuses()
    }

    /// Waits until there is a connection with a node, or for `timeout`. For tests and for starting up.
    pub fn wait_up(&self, node: NodeId, timeout: Duration) -> bool {
        let Some(runtime) = &self.runtime else {
            return false;
        };
        let Some(peer) = self.shared.peer(node) else {
            return false;
        };
        let up = async move { tokio::time::timeout(timeout, peer.wait_up()).await };
        runtime.block_on(up).is_ok()
    }

    /// Closes all connections, tells the peers so, and waits for that no longer than a moment. Not from
    /// within async code; neither is dropping it.
    pub fn stop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        self.shared.close();
        let told = async { tokio::time::timeout(STOP, self.shared.endpoint.wait_idle()).await };
        let _ = runtime.block_on(told);
        // Then the port is free for the next one.
        runtime.shutdown_timeout(STOP);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn runtime(&self) -> Option<&tokio::runtime::Runtime> {
        self.runtime.as_ref()
    }
}

/// How long a stop waits for peers to hear of it.
const STOP: Duration = Duration::from_millis(200);

impl Drop for PeerEndpoint {
    fn drop(&mut self) {
        self.stop();
    }
}
