//! Receiving a snapshot.

use super::frame::{Head, piece_size};
use super::{SnapshotHead, SnapshotSink};
use crate::endpoint::connection::Wire;
use crate::limits::CALL_ERROR_BYTES_MAX;
use crate::link;
use crate::stream::{Reader, StreamError};
use bytes::Bytes;
use std::io;

/// Receives one snapshot and answers when it is durable, or why it is not.
pub(crate) async fn receive(
    wire: &Wire,
    mut send: quinn::SendStream,
    mut reader: Reader,
) -> Result<(), StreamError> {
    let taken = match wire.snapshots.try_acquire() {
        Ok(_permit) => taken(wire, &mut reader).await?,
        Err(_) => Err("there are as many snapshots under way as may be; try again".into()),
    };
    reader.stop();
    let mut answer = vec![u8::from(taken.is_ok())];
    if let Err(why) = taken {
        tracing::warn!(node = %wire.peer.node, why, "a snapshot was not taken");
        answer.extend(why.bytes().take(CALL_ERROR_BYTES_MAX));
    }
    // A sender that has gone away needs no answer.
    if send.write_all(&answer).await.is_ok() {
        let _ = send.finish();
        let _ = send.stopped().await;
    }
    Ok(())
}

async fn taken(wire: &Wire, reader: &mut Reader) -> Result<Result<(), String>, StreamError> {
    let head = reader.head().await?.ok_or(StreamError::Cut)?;
    let head = Head::decode(&head).map_err(StreamError::Peer)?;
    let envelope = reader.take(head.envelope_size as usize).await?;
    let envelope = link::frame::decode_envelope(&envelope).map_err(StreamError::Peer)?;
    link::check(wire, &envelope).map_err(StreamError::Peer)?;
    let manifest = reader.take(head.manifest_size as usize).await?;
    let offered = wire
        .shared
        .inbox
        .snapshot(SnapshotHead { envelope, manifest });
    let mut sink = match offered {
        Ok(sink) => sink,
        Err(why) => return Ok(Err(why)),
    };
    loop {
        let size = reader.head().await?.ok_or(StreamError::Cut)?;
        let size = piece_size(size).map_err(StreamError::Peer)?;
        if size == 0 {
            break;
        }
        let piece = reader.take(size).await?;
        sink = match write(sink, piece).await {
            Ok(sink) => sink,
            Err(why) => return Ok(Err(why.to_string())),
        };
    }
    let finished = tokio::task::spawn_blocking(move || sink.finish()).await;
    Ok(match finished {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    })
}

async fn write(mut sink: Box<dyn SnapshotSink>, piece: Bytes) -> io::Result<Box<dyn SnapshotSink>> {
    let written = tokio::task::spawn_blocking(move || {
        sink.write(piece)?;
        Ok(sink)
    });
    written.await.map_err(io::Error::other)?
}
