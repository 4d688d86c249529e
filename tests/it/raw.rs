//! The native door spoken by hand, so that everything can be said wrong.

use crate::server::within;
use flowstone_wire::frame::{self, ANSWER, PREFIX_BYTES, Prefix};
use flowstone_wire::native::{self, Hello, Request};
use flowstone_wire::{ErrorCode, Failure};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a peer does with what it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// It answers the request of this correlation.
    Refused(u64, ErrorCode),
    /// It answers as if all were well.
    Done(u64),
    /// It closes the connection.
    Closed,
}

/// A connection.
pub(crate) struct Raw(TcpStream);

/// A frame with an encoded header of a request.
pub(crate) fn frame_of<R: Request>(request: &R, correlation: u64, payload: &[u8]) -> Vec<u8> {
    frame_with(
        R::API,
        correlation,
        &native::encode(request).unwrap(),
        payload,
    )
}

/// A frame with any header.
pub(crate) fn frame_with(api: u16, correlation: u64, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_front(&mut out, api, correlation, header, payload.len());
    out.extend_from_slice(payload);
    out
}

/// The greeting that every connection starts with.
pub(crate) fn hello() -> Vec<u8> {
    frame_of(
        &Hello {
            client: "by hand".into(),
            worker: None,
        },
        0,
        &[],
    )
}

impl Raw {
    /// A connection on which nothing was said.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// A connection that was greeted.
    pub(crate) async fn greeted(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address).await;
        raw.say(&hello()).await;
        assert_eq!(raw.reaction::<Hello>().await, Reaction::Done(0));
        raw
    }

    /// Sends bytes. The peer may have closed before it has taken them all.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let _ = within("room for bytes", self.0.write_all(bytes)).await;
    }

    /// The next answer, to a request `R`.
    pub(crate) async fn reaction<R: Request>(&mut self) -> Reaction {
        within("an answer or a close", self.next::<R>()).await
    }

    async fn next<R: Request>(&mut self) -> Reaction {
        let mut front = [0; PREFIX_BYTES];
        if self.0.read_exact(&mut front).await.is_err() {
            return Reaction::Closed;
        }
        let prefix = Prefix::decode(&front).unwrap().unwrap();
        assert_eq!(prefix.api & ANSWER, ANSWER, "{prefix:?}");
        let mut rest = vec![0; prefix.frame_bytes() - PREFIX_BYTES];
        self.0.read_exact(&mut rest).await.unwrap();
        let header = &rest[..prefix.header_size as usize];
        match native::decode::<Result<R::Answer, Failure>>(header).unwrap() {
            Ok(_) => Reaction::Done(prefix.correlation),
            Err(failure) => {
                assert!(!failure.message.is_empty());
                Reaction::Refused(prefix.correlation, failure.code)
            }
        }
    }
}
