//! Sending a snapshot.

use super::frame::Head;
use super::{SnapshotHead, SnapshotOutcome, SnapshotSource};
use crate::call;
use crate::endpoint::PeerEndpoint;
use crate::endpoint::shared::Shared;
use crate::error::PeerError;
use crate::limits::{CALL_ERROR_BYTES_MAX, MANIFEST_BYTES_MAX, SNAPSHOT_PIECE_BYTES};
use crate::stream::SNAPSHOT;
use bytes::Bytes;
use flowstone_wire::NodeId;
use std::sync::Arc;
use std::time::Instant;

/// Sends a snapshot on the endpoint's threads, and reads it on those that may wait.
pub(crate) fn send(
    endpoint: &PeerEndpoint,
    to: NodeId,
    head: SnapshotHead,
    source: Box<dyn SnapshotSource>,
    done: SnapshotOutcome,
) {
    let Some(runtime) = endpoint.runtime() else {
        return done(Err(PeerError::Closed));
    };
    let shared = endpoint.shared().clone();
    // Told even if the endpoint stops meanwhile, and the task with it.
    let mut done = Done(Some(done));
    runtime.spawn(async move {
        let sent = sent(&shared, to, head, source).await;
        done.tell(sent);
    });
}

struct Done(Option<SnapshotOutcome>);

impl Done {
    fn tell(&mut self, result: Result<(), PeerError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.tell(Err(PeerError::Closed));
    }
}

async fn sent(
    shared: &Arc<Shared>,
    node: NodeId,
    head: SnapshotHead,
    source: Box<dyn SnapshotSource>,
) -> Result<(), PeerError> {
    let peer = shared.peer(node).ok_or(PeerError::Unknown(node))?;
    if head.manifest.len() > MANIFEST_BYTES_MAX {
        return Err(PeerError::TooLarge {
            size_bytes: head.manifest.len(),
            max_bytes: MANIFEST_BYTES_MAX,
        });
    }
    let connection = call::connected(&peer).await?;
    let lost = |why: String| PeerError::Lost { node, why };
    let opened = connection.open_bi().await;
    let (mut stream, mut answer) = opened.map_err(|e| lost(e.to_string()))?;
    let content = content(shared, &mut stream, &head, source);
    let answered = answer.read_to_end(1 + CALL_ERROR_BYTES_MAX);
    tokio::pin!(answered);
    // A receiver that refuses answers early, and stops the stream.
    let (content, early) = tokio::select! {
        content = content => (content, None),
        early = &mut answered => (Ok(()), Some(early)),
    };
    if let Err(Ended::Source(why)) = content {
        let _ = stream.reset(quinn::VarInt::from_u32(0));
        return Err(PeerError::Refused(format!(
            "the snapshot cannot be read: {why}"
        )));
    }
    let answer = match early {
        Some(answer) => answer,
        None => answered.await,
    };
    match answer.map_err(|e| lost(e.to_string()))?.split_first() {
        Some((1, _)) => Ok(()),
        Some((_, text)) => Err(PeerError::Refused(String::from_utf8_lossy(text).into())),
        None => Err(lost("it did not say whether it has the snapshot".into())),
    }
}

/// Why the content was not sent.
enum Ended {
    /// It cannot be read here.
    Source(String),
    /// The receiver does not want it, or is gone: its answer says more.
    Receiver,
}

async fn content(
    shared: &Arc<Shared>,
    stream: &mut quinn::SendStream,
    head: &SnapshotHead,
    mut source: Box<dyn SnapshotSource>,
) -> Result<(), Ended> {
    let gone = |_| Ended::Receiver;
    let mut chunks = front(head).map_err(Ended::Source)?;
    stream.write_all_chunks(&mut chunks).await.map_err(gone)?;
    loop {
        let read = tokio::task::spawn_blocking(move || (source.next(), source)).await;
        let (piece, back) = read.map_err(|e| Ended::Source(e.to_string()))?;
        source = back;
        let Some(mut rest) = piece.map_err(|e| Ended::Source(e.to_string()))? else {
            break;
        };
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(SNAPSHOT_PIECE_BYTES));
            tokio::time::sleep(shared.rate.wait(piece.len(), Instant::now())).await;
            let size = Bytes::copy_from_slice(&(piece.len() as u32).to_le_bytes());
            let mut chunks = [size, piece];
            stream.write_all_chunks(&mut chunks).await.map_err(gone)?;
        }
    }
    let end = Bytes::from_static(&[0; 4]);
    stream.write_chunk(end).await.map_err(gone)?;
    let _ = stream.finish();
    Ok(())
}

fn front(head: &SnapshotHead) -> Result<[Bytes; 3], String> {
    let envelope = postcard::to_allocvec(&head.envelope).map_err(|e| e.to_string())?;
    let sizes = Head {
        envelope_size: u32::try_from(envelope.len()).map_err(|e| e.to_string())?,
        manifest_size: u32::try_from(head.manifest.len()).map_err(|e| e.to_string())?,
    };
    let mut front = vec![SNAPSHOT];
    front.extend_from_slice(&sizes.encode());
    Ok([front.into(), envelope.into(), head.manifest.clone()])
}
