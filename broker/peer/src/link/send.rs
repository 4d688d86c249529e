//! The sending ends of a link: they take from the queue and give to QUIC, slices as they are.

use super::frame::put_front;
use crate::endpoint::connection::Wire;
use crate::stream::{SPANS, StreamError, WORDS};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Words go before everything large.
const WORDS_PRIORITY: i32 = 2;
/// Bytes and messages that are given to QUIC at once.
const WRITE_BYTES: usize = 1 << 20;
const WRITE_MESSAGES: usize = 64;

/// Sends what has no body, until the connection is lost.
pub(crate) async fn send_words(wire: Arc<Wire>) -> Result<(), StreamError> {
    let Some(mut stream) = open(&wire, WORDS, WORDS_PRIORITY).await else {
        return Ok(());
    };
    let queue = &wire.peer.queue;
    loop {
        let mut out = Vec::new();
        let mut count = 0;
        while let Some(envelope) = queue.pop_word() {
            put_front(&mut out, &envelope, 0).map_err(StreamError::Peer)?;
            count += 1;
            if out.len() >= WRITE_BYTES {
                break;
            }
        }
        if count == 0 {
            queue.words_rung.notified().await;
            continue;
        }
        wire.peer.counters.sent_messages.fetch_add(count, Relaxed);
        if stream.write_chunk(out.into()).await.is_err() {
            return Ok(());
        }
    }
}

/// Sends appends with their bodies, until the connection is lost.
pub(crate) async fn send_spans(wire: Arc<Wire>) -> Result<(), StreamError> {
    let Some(mut stream) = open(&wire, SPANS, 0).await else {
        return Ok(());
    };
    let queue = &wire.peer.queue;
    let mut chunks: Vec<Bytes> = Vec::new();
    loop {
        let (mut bytes, mut count) = (0, 0);
        while bytes < WRITE_BYTES && count < WRITE_MESSAGES {
            let Some(waiting) = queue.pop_span() else {
                break;
            };
            let mut front = Vec::with_capacity(128);
            put_front(&mut front, &waiting.envelope, waiting.body_bytes)
                .map_err(StreamError::Peer)?;
            chunks.push(front.into());
            chunks.extend(waiting.body);
            bytes += waiting.body_bytes;
            count += 1;
        }
        if count == 0 {
            queue.spans_rung.notified().await;
            continue;
        }
        let counters = &wire.peer.counters;
        counters.sent_messages.fetch_add(count as u64, Relaxed);
        counters.sent_bytes.fetch_add(bytes as u64, Relaxed);
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return Ok(());
        }
        chunks.clear();
    }
}

async fn open(wire: &Wire, kind: u8, priority: i32) -> Option<quinn::SendStream> {
    let mut stream = wire.connection.open_uni().await.ok()?;
    stream.set_priority(priority).ok()?;
    stream.write_all(&[kind]).await.ok()?;
    Some(stream)
}
