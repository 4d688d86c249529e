//! What waits for a link: bounded, without a lock, filled from any thread.

use super::frame::is_append;
use crate::limits::{BODY_BYTES_MAX, QUEUE_BYTES, QUEUE_SPANS, QUEUE_WORDS, SLICES_MAX};
use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use flowstone_core::replica::Envelope;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// What has become of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits for the network; it may still get lost with its connection.
    Queued,
    /// There is no connection: it is dropped. The protocol sends it again.
    Unreachable,
    /// Too much waits already: it is dropped.
    Full,
    /// No message is as large, or made of so many slices: it is dropped, and always will be.
    TooLarge,
}

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) envelope: Envelope,
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: usize,
}

/// What waits for one peer's link.
pub(crate) struct Queue {
    words: ArrayQueue<Envelope>,
    spans: ArrayQueue<Waiting>,
    /// Of the bodies in `spans`.
    bytes: AtomicUsize,
    /// Whether there is a connection.
    is_open: AtomicBool,
    pub(super) words_rung: Notify,
    pub(super) spans_rung: Notify,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, spans) = (self.words.len(), self.spans.len());
        write!(f, "Queue({words} words, {spans} spans)")
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            words: ArrayQueue::new(QUEUE_WORDS),
            spans: ArrayQueue::new(QUEUE_SPANS),
            bytes: AtomicUsize::new(0),
            is_open: AtomicBool::new(false),
            words_rung: Notify::new(),
            spans_rung: Notify::new(),
        }
    }

    /// There is a connection. What waited for the last one is old by now.
    pub(crate) fn open(&self) {
        self.clear();
        self.is_open.store(true, Ordering::Release);
    }

    /// There is none any more.
    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        self.clear();
    }

    fn clear(&self) {
        while self.words.pop().is_some() {}
        while self.pop_span().is_some() {}
    }

    /// Puts a message in.
    pub(crate) fn push(&self, envelope: Envelope, body: Vec<Bytes>) -> Sent {
        let body_bytes = body.iter().map(Bytes::len).sum::<usize>();
        if !self.is_open.load(Ordering::Acquire) {
            return Sent::Unreachable;
        }
        if !is_append(&envelope.message) && body.is_empty() {
            // The newest say the most: the oldest make room.
            let oldest = self.words.force_push(envelope);
            self.words_rung.notify_one();
            return if oldest.is_some() {
                Sent::Full
            } else {
                Sent::Queued
            };
        }
        if body_bytes > BODY_BYTES_MAX || body.len() > SLICES_MAX {
            return Sent::TooLarge;
        }
        let before = self.bytes.fetch_add(body_bytes, Ordering::Relaxed);
        let waiting = Waiting {
            envelope,
            body,
            body_bytes,
        };
        // One always goes, however large. Of spans the first ones go: what follows a gap is of no use.
        let is_full = before > 0 && body_bytes > 0 && before + body_bytes > QUEUE_BYTES;
        if is_full || self.spans.push(waiting).is_err() {
            self.bytes.fetch_sub(body_bytes, Ordering::Relaxed);
            return Sent::Full;
        }
        self.spans_rung.notify_one();
        Sent::Queued
    }

    pub(super) fn pop_word(&self) -> Option<Envelope> {
        self.words.pop()
    }

    pub(super) fn pop_span(&self) -> Option<Waiting> {
        let waiting = self.spans.pop()?;
        self.bytes.fetch_sub(waiting.body_bytes, Ordering::Relaxed);
        Some(waiting)
    }

    /// Bytes of bodies that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
