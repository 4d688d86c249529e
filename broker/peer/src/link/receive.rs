//! The receiving end of a link: it never waits for a shard, so that none of them holds up the others.

use super::Incoming;
use super::frame::{Head, decode_envelope};
use crate::endpoint::connection::Wire;
use crate::stream::{Reader, StreamError};
use flowstone_core::replica::Envelope;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Hands on what comes, until the connection is lost.
pub(crate) async fn receive(wire: Arc<Wire>, mut reader: Reader) -> Result<(), StreamError> {
    let counters = &wire.peer.counters;
    while let Some(head) = reader.head().await? {
        let head = Head::decode(&head).map_err(StreamError::Peer)?;
        let envelope = reader.take(head.envelope_size as usize).await?;
        let envelope = decode_envelope(&envelope).map_err(StreamError::Peer)?;
        check(&wire, &envelope).map_err(StreamError::Peer)?;
        let size = head.body_size as usize;
        counters.received_messages.fetch_add(1, Relaxed);
        counters.received_bytes.fetch_add(size as u64, Relaxed);
        let body = match size {
            0 => bytes::Bytes::new(),
            size => match wire.held.room(envelope.header.shard, size) {
                Some(room) => room.around(reader.take(size).await?),
                None => {
                    counters.dropped_held.fetch_add(1, Relaxed);
                    reader.skip(size).await?;
                    continue;
                }
            },
        };
        wire.shared.inbox.deliver(Incoming { envelope, body });
    }
    Ok(())
}

/// Nobody speaks for another node, and nobody is spoken to by another's name.
pub(crate) fn check(wire: &Wire, envelope: &Envelope) -> Result<(), String> {
    let (from, to) = (envelope.header.from.node, envelope.header.to.node);
    if from != wire.peer.node {
        return Err(format!("it speaks as node {from}"));
    }
    if to != wire.shared.me {
        return Err(format!("it speaks to node {to}"));
    }
    Ok(())
}
