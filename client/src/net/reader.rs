//! Frames out of a stream: large reads, split without copying.

use super::socket::ReadHalf;
use bytes::{Buf, Bytes, BytesMut};
use flowstone_wire::frame::{FrameError, PREFIX_BYTES, Prefix};
use std::io;
use tokio::io::AsyncReadExt;

/// Room made for a read when nothing is known of what comes.
const READ_BYTES: usize = 256 << 10;
/// A read into less room than this is not worth its system call.
const READ_BYTES_MIN: usize = 16 << 10;

/// One frame; header and payload are views of the bytes read.
pub(crate) struct Frame {
    pub(crate) prefix: Prefix,
    pub(crate) header: Bytes,
    pub(crate) payload: Bytes,
}

/// Why there is no next frame. The connection cannot go on after it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The stream failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the stream.
    #[error("the broker closed it")]
    Closed,
    /// The bytes are not a frame.
    #[error("the broker sent what is not a frame: {0}")]
    Frame(#[from] FrameError),
}

/// Reads frames. Memory is bounded by the largest frame and one read.
pub(crate) struct FrameReader {
    half: ReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(half: ReadHalf) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<Frame, ReadError> {
        loop {
            // The size is held against its limit here, before room is made for it.
            let missing_bytes = match Prefix::decode(&self.buffer)? {
                Some(prefix) if self.buffer.len() >= prefix.frame_bytes() => {
                    return Ok(split_frame(&mut self.buffer, prefix));
                }
                Some(prefix) => prefix.frame_bytes() - self.buffer.len(),
                None => 0,
            };
            self.make_room(missing_bytes);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReadError::Closed);
            }
        }
    }

    fn make_room(&mut self, missing_bytes: usize) {
        let room_bytes = self.buffer.capacity() - self.buffer.len();
        if room_bytes < missing_bytes.max(READ_BYTES_MIN) {
            self.buffer.reserve(missing_bytes.max(READ_BYTES));
        }
    }
}

/// Takes a frame that is whole from the front of `buffer`.
fn split_frame(buffer: &mut BytesMut, prefix: Prefix) -> Frame {
    let mut payload = buffer.split_to(prefix.frame_bytes()).freeze();
    payload.advance(PREFIX_BYTES);
    let header = payload.split_to(prefix.header_size as usize);
    Frame {
        prefix,
        header,
        payload,
    }
}
