//! Asking a peer.

use super::frame::{AnswerHead, RequestHead, Status};
use crate::endpoint::PeerEndpoint;
use crate::endpoint::peer::Peer;
use crate::endpoint::shared::Shared;
use crate::error::PeerError;
use crate::limits::{CALL_BYTES_MAX, URGENT_KINDS};
use crate::stream::{CALL, Reader, StreamError};
use bytes::Bytes;
use flowstone_wire::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Asks a peer. The work is done on the endpoint's threads: the caller may run anywhere.
pub(crate) fn call(
    endpoint: &PeerEndpoint,
    to: NodeId,
    kind: u16,
    request: Bytes,
    timeout: Duration,
) -> impl Future<Output = Result<Bytes, PeerError>> + Send + use<> {
    let (tell, told) = oneshot::channel();
    if let Some(runtime) = endpoint.runtime() {
        let shared = endpoint.shared().clone();
        runtime.spawn(async move {
            let mut tell = tell;
            // A caller that has gone away does not want its answer any more.
            let answer = tokio::select! {
                answer = asked(&shared, to, kind, request, timeout) => answer,
                () = tell.closed() => return,
            };
            let _ = tell.send(answer);
        });
    }
    async move { told.await.unwrap_or(Err(PeerError::Closed)) }
}

async fn asked(
    shared: &Arc<Shared>,
    to: NodeId,
    kind: u16,
    request: Bytes,
    timeout: Duration,
) -> Result<Bytes, PeerError> {
    let peer = shared.peer(to).ok_or(PeerError::Unknown(to))?;
    let (size_bytes, max_bytes) = (request.len(), CALL_BYTES_MAX);
    if size_bytes > max_bytes {
        return Err(PeerError::TooLarge {
            size_bytes,
            max_bytes,
        });
    }
    let answer = async {
        let connection = connected(&peer).await?;
        exchange(&connection, &peer, kind, request, timeout).await
    };
    let answer = tokio::time::timeout(timeout, answer).await;
    answer.unwrap_or(Err(PeerError::Timeout(to)))
}

/// The connection; waits for the first try to reach a peer, not for any other one.
pub(crate) async fn connected(peer: &Peer) -> Result<quinn::Connection, PeerError> {
    let node = peer.node;
    let mut stamp = peer.watch();
    loop {
        stamp.mark_unchanged();
        if let Some(connection) = peer.connection() {
            return Ok(connection);
        }
        if let Some(why) = peer.last_error() {
            return Err(PeerError::Unreachable { node, why });
        }
        if stamp.changed().await.is_err() {
            return Err(PeerError::Closed);
        }
    }
}

async fn exchange(
    connection: &quinn::Connection,
    peer: &Peer,
    kind: u16,
    request: Bytes,
    timeout: Duration,
) -> Result<Bytes, PeerError> {
    let node = peer.node;
    let lost = |why: String| PeerError::Lost { node, why };
    let opened = connection.open_bi().await;
    let (mut send, receive) = opened.map_err(|e| lost(e.to_string()))?;
    let _ = send.set_priority(i32::from(kind < URGENT_KINDS) * 2);
    let head = RequestHead {
        kind,
        within_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        size: request.len() as u32,
    };
    let mut front = vec![CALL];
    front.extend_from_slice(&head.encode());
    let mut reader = Reader::new(receive);
    // A peer that is too busy stops the request and answers at once: so both are waited for.
    let asking = async {
        let mut chunks = [Bytes::from(front), request];
        let written = send.write_all_chunks(&mut chunks).await;
        let _ = send.finish();
        if !matches!(written, Ok(()) | Err(quinn::WriteError::Stopped(_))) {
            return;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer(&mut reader, node, kind) => answer.unwrap_or_else(|e| Err(lost(e.to_string()))),
        () = asking => Err(lost("it did not take the request".into())),
    }
}

async fn answer(
    reader: &mut Reader,
    node: NodeId,
    kind: u16,
) -> Result<Result<Bytes, PeerError>, StreamError> {
    let head = reader.head().await?.ok_or(StreamError::Cut)?;
    let head = AnswerHead::decode(&head).map_err(StreamError::Peer)?;
    let body = reader.take(head.size as usize).await?;
    Ok(match head.status {
        Status::Answered => Ok(body),
        Status::Refused => Err(PeerError::Refused(String::from_utf8_lossy(&body).into())),
        Status::Busy => Err(PeerError::Busy(node)),
        Status::NoHandler => Err(PeerError::NoHandler { node, kind }),
        Status::Late => Err(PeerError::Timeout(node)),
    })
}
