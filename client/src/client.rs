//! The handle on a broker, and the one way a request goes out and its answer comes back.

use crate::backoff::Backoff;
use crate::consume::ConsumerBuilder;
use crate::error::Error;
use crate::net;
use crate::produce::ProducerBuilder;
use crate::transport::{self, Route, Transport};
use bytes::{Bytes, BytesMut};
use flowstone_wire::Failure;
use flowstone_wire::error::Retry;
use flowstone_wire::native::{self, Request};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long reads and commits are tried again before the error is given out.
pub(crate) const RETRY_FOR: Duration = Duration::from_secs(30);

/// A handle on a broker. Clones share the connections; the last one to go closes them.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Connects to the broker at `tcp://host:port` or `unix:///path`; of several, separated by commas, to
    /// the first that answers. Of a cluster one node is enough: it tells of the others, and requests go to
    /// the node that leads.
    ///
    /// A connection that breaks later is opened again by the next request.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`]; [`Error::Disconnected`] if nobody answers there within 5 seconds;
    /// [`Error::Refused`] if the broker does not speak this protocol's version.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let nodes = net::Nodes::connect(url).await?;
        Ok(Self::over(Arc::new(nodes)))
    }

    /// A client over a transport of the caller's own, such as a broker in the same process.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Starts a producer for `topic`; nothing happens before
    /// [`open`](crate::ProducerBuilder::open).
    pub fn producer(&self, topic: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic)
    }

    /// Starts a consumer for `topic`; nothing happens before
    /// [`open`](crate::ConsumerBuilder::open).
    pub fn consumer(&self, topic: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), topic)
    }

    /// Sends one request and waits for its answer and payload. Nothing is tried again.
    ///
    /// A payload in several pieces, as an embedded broker may give it, is copied into one.
    ///
    /// # Errors
    /// [`Error::Refused`] with the broker's reason, [`Error::Disconnected`], [`Error::Timeout`].
    pub async fn call<R: Request>(
        &self,
        route: Route,
        request: &R,
        payload: Bytes,
    ) -> Result<(R::Answer, Bytes), Error> {
        let (answer, mut pieces) = self.call_pieces(route, request, payload).await?;
        let payload = match pieces.len() {
            0 => Bytes::new(),
            1 => pieces.swap_remove(0),
            _ => {
                let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces
                    .iter()
                    .for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        Ok((answer, payload))
    }

    /// As [`Client::call`], with the payload as it came. Handed over at once, awaited later: the
    /// order of calls is the order on the way.
    pub(crate) fn call_pieces<R: Request>(
        &self,
        route: Route,
        request: &R,
        payload: Bytes,
    ) -> impl Future<Output = Result<(R::Answer, Vec<Bytes>), Failure>> + Send + use<R> {
        let under_way = native::encode(request)
            .map(|header| self.transport.call(route, R::API, header, payload));
        async move {
            let raw = under_way?.await?;
            Ok((transport::open_answer::<R>(&raw)?, raw.payload))
        }
    }

    /// Sends a request that may be done twice, again and again for up to 30 seconds.
    pub(crate) async fn call_retrying<R: Request>(
        &self,
        route: Route,
        request: &R,
    ) -> Result<(R::Answer, Vec<Bytes>), Failure> {
        let started = Instant::now();
        let mut backoff = Backoff::new(u64::from(R::API));
        loop {
            let failure = match self.call_pieces(route, request, Bytes::new()).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if failure.code.retry() == Retry::Never || started.elapsed() >= RETRY_FOR {
                return Err(failure);
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }
}
