//! The seam between the client and a broker: one call with a header and a payload.

use bytes::Bytes;
use flowstone_wire::native::{self, Request};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::future::Future;
use std::pin::Pin;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who should serve a request. Any worker can serve any; the shard's own does it fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// It does not matter.
    Any,
    /// The worker of this shard.
    Shard(ShardId),
}

/// An answer as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawAnswer {
    /// The encoded `Result<Answer, Failure>`.
    pub header: Bytes,
    /// Whole batches, back to back: each piece holds some, none is cut in two. Of a query: lines.
    pub payload: Vec<Bytes>,
}

/// A way to a broker: sockets, or a broker in the same process.
///
/// `call` is not async on purpose: requests with the same route that are handed in one after the
/// other reach the broker in that order, however their futures are polled. A call must be answered
/// or fail in bounded time. A failure to deliver has the code [`ErrorCode::Disconnected`] or
/// [`ErrorCode::Timeout`].
pub trait Transport: Send + Sync + 'static {
    /// Hands a request over; the future waits for its answer. Dropping it drops the answer only.
    fn call(
        &self,
        route: Route,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<RawAnswer, Failure>>;
}

/// Decodes the answer to an `R`.
pub(crate) fn open_answer<R: Request>(raw: &RawAnswer) -> Result<R::Answer, Failure> {
    // Not knowing what the broker said is not knowing what it did: that is `Internal`, not `Never`.
    native::decode::<Result<R::Answer, Failure>>(&raw.header).unwrap_or_else(|undecodable| {
        Err(Failure::new(
            ErrorCode::Internal,
            format!(
                "the broker's answer is not understood: {}",
                undecodable.message
            ),
        ))
    })
}
