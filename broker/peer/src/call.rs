//! A question and its answer, each on a stream of its own.

mod client;
pub mod frame;
mod server;

pub(crate) use client::{call, connected};
pub(crate) use server::{Budget, serve};

use crate::BoxFuture;
use bytes::Bytes;
use flowstone_wire::NodeId;
use std::time::Duration;

/// Answers calls of a kind. It runs on the endpoint's threads: what computes or waits for a disk goes
/// elsewhere.
pub trait CallHandler: Send + Sync {
    /// Answers one call. Dropped when the caller is gone, or `within` is over.
    fn call(
        &self,
        from: NodeId,
        request: Bytes,
        within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>>;
}

/// Why a call is not answered, for the caller to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure(pub String);
