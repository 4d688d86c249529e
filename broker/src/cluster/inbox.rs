//! What arrives from other nodes, on its way to the worker of its shard.

use super::copies::Copies;
use super::incoming::ArrivingSnapshot;
use crate::service::Service;
use flowstone_core::Input;
use flowstone_core::input::ReplicaInput;
use flowstone_core::replica::Envelope;
use flowstone_peer::snapshot::{SnapshotHead, SnapshotSink};
use flowstone_peer::{Inbox, Incoming};
use flowstone_wire::NodeId;
use std::sync::{Arc, OnceLock, Weak};

/// See the module. What comes before the service is there is dropped: it comes again.
pub(super) struct NodeInbox {
    service: OnceLock<Weak<Service>>,
    copies: Arc<Copies>,
}

impl NodeInbox {
    pub(super) fn new(copies: Arc<Copies>) -> Self {
        let service = OnceLock::new();
        Self { service, copies }
    }

    pub(super) fn connect(&self, service: &Arc<Service>) {
        // Set once, when the node starts.
        let _ = self.service.set(Arc::downgrade(service));
    }

    fn service(&self) -> Option<Arc<Service>> {
        self.service.get()?.upgrade()
    }
}

/// Tells a shard what another copy says; `false` if its worker has too much to do.
pub(super) fn tell(service: &Service, envelope: Envelope, body: bytes::Bytes) -> bool {
    let shard = envelope.header.shard;
    let bodies = if body.is_empty() { vec![] } else { vec![body] };
    let input = Input::Replica(ReplicaInput::Peer { envelope, bodies });
    service.try_tell_shard(shard, input)
}

impl Inbox for NodeInbox {
    fn deliver(&self, message: Incoming) {
        if let Some(service) = self.service() {
            // What finds no room is sent again.
            let _ = tell(&service, message.envelope, message.body);
        }
    }

    fn peer_changed(&self, _node: NodeId, _is_up: bool) {
        // What has to be said then is said by its own time.
    }

    fn snapshot(&self, head: SnapshotHead) -> Result<Box<dyn SnapshotSink>, String> {
        let service = self.service().ok_or("this node is not ready")?;
        let shard = head.envelope.header.shard;
        if shard.0 >= service.catalog().shards() {
            return Err(format!("there is no shard {shard}"));
        }
        let sink = ArrivingSnapshot::begin(&self.copies, head.envelope, &service)?;
        Ok(Box::new(sink))
    }
}
