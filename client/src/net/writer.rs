//! Frames into a stream: small ones together, large payloads straight from where they are.

use super::requests::Outgoing;
use super::socket::WriteHalf;
use flowstone_wire::frame;
use std::io::{self, IoSlice};
use tokio::io::AsyncWriteExt;

/// Bytes gathered before they are written although more would follow.
const GATHER_BYTES: usize = 64 << 10;
/// A payload from this size on is written from its own memory; below, copying is cheaper.
const STRAIGHT_BYTES: usize = 8 << 10;

/// Writes requests as frames.
pub(crate) struct FrameWriter {
    half: WriteHalf,
    gathered: Vec<u8>,
}

impl FrameWriter {
    pub(crate) fn new(half: WriteHalf) -> Self {
        Self {
            half,
            gathered: Vec::new(),
        }
    }

    /// Writes all of `requests`, in order, and leaves the vector empty.
    pub(crate) async fn write(&mut self, requests: &mut Vec<Outgoing>) -> io::Result<()> {
        for request in requests.drain(..) {
            frame::put_front(
                &mut self.gathered,
                request.api,
                request.correlation,
                &request.header,
                request.payload.len(),
            );
            if request.payload.len() >= STRAIGHT_BYTES {
                self.write_with(&request.payload).await?;
            } else {
                self.gathered.extend_from_slice(&request.payload);
                if self.gathered.len() >= GATHER_BYTES {
                    self.write_with(&[]).await?;
                }
            }
        }
        if !self.gathered.is_empty() {
            self.write_with(&[]).await?;
        }
        self.half.flush().await
    }

    /// Writes what is gathered and then `payload`, in one system call where the socket has room.
    async fn write_with(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut slices = [IoSlice::new(&self.gathered), IoSlice::new(payload)];
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = self.half.write_vectored(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        self.gathered.clear();
        Ok(())
    }
}
