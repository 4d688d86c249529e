//! The catalog's messages as calls between nodes.

use super::wire::Wire;
use crate::catalog_raft::{PeerAnswer, PeerError, PeerRequest, Peers};
use crate::service::Service;
use bytes::Bytes;
use flowstone_client::BoxFuture;
use flowstone_peer::{CallFailure, CallHandler};
use flowstone_wire::NodeId;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The kind of these calls: before those of producers and readers.
const KIND: u16 = 16;
/// Whoever calls gives up before.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks other nodes.
pub(super) struct Calls(pub(super) Arc<Wire>);

impl Peers for Calls {
    fn call(
        &self,
        to: NodeId,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<PeerAnswer, PeerError>> {
        let unreachable = move |why: String| PeerError::Unreachable { to, why };
        let request = match postcard::to_allocvec(&request) {
            Ok(request) => Bytes::from(request),
            Err(e) => return Box::pin(std::future::ready(Err(unreachable(e.to_string())))),
        };
        let call = self
            .0
            .with(|endpoint| endpoint.call(to, KIND, request, TIMEOUT));
        Box::pin(async move {
            let call = call.ok_or_else(|| unreachable("this node is stopping".into()))?;
            let answer = call.await.map_err(|e| lost(to, &e))?;
            postcard::from_bytes(&answer).map_err(|e| PeerError::Lost {
                to,
                why: e.to_string(),
            })
        })
    }
}

fn lost(to: NodeId, error: &flowstone_peer::PeerError) -> PeerError {
    use flowstone_peer::PeerError as Wire;
    let why = error.to_string();
    match error {
        Wire::Unknown(_) | Wire::Unreachable { .. } | Wire::TooLarge { .. } | Wire::Busy(_) => {
            PeerError::Unreachable { to, why }
        }
        _ => PeerError::Lost { to, why },
    }
}

/// Answers other nodes.
struct Answers(Weak<Service>);

impl CallHandler for Answers {
    fn call(
        &self,
        from: NodeId,
        request: Bytes,
        _within: Duration,
    ) -> flowstone_peer::BoxFuture<Result<Bytes, CallFailure>> {
        let service = self.0.upgrade();
        Box::pin(async move {
            let service = service.ok_or_else(|| CallFailure("the node is stopping".into()))?;
            let failed = |e: postcard::Error| CallFailure(e.to_string());
            let request: PeerRequest = postcard::from_bytes(&request).map_err(failed)?;
            let answer = service.serve_catalog(from, request).await;
            postcard::to_allocvec(&answer)
                .map(Bytes::from)
                .map_err(failed)
        })
    }
}

pub(super) fn connect(wire: &Wire, service: &Arc<Service>) {
    let answers = Arc::new(Answers(Arc::downgrade(service)));
    wire.with(|endpoint| endpoint.register(KIND, answers));
}
