//! What replicas of shards say to one another: ordered, never waited for, dropped rather than piled up.
//!
//! There are two streams in each direction. Appends, with or without a span, keep their order on one: a
//! heartbeat that overtook a span would tell the leader that the span was lost. Everything else (answers,
//! seals, refusals) has no body and goes on the other, before everything that is large.

pub mod frame;
mod held;
mod queue;
mod receive;
mod send;

pub(crate) use held::Held;
pub(crate) use queue::Queue;
pub use queue::Sent;
pub(crate) use receive::{check, receive};
pub(crate) use send::{send_spans, send_words};

use bytes::Bytes;
use flowstone_core::replica::Envelope;

/// A message that has come.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What it says. The sender's node is the one that its certificate names.
    pub envelope: Envelope,
    /// The bytes beside it. They count against what the shard may hold until the last copy is dropped.
    pub body: Bytes,
}
