//! What the streams of a connection are for, and reading them piece by piece.
//!
//! The first byte of a stream says what it is for:
//!
//! | byte | stream | opened by | then |
//! | - | - | - | - |
//! | 1 | greeting | who dialled, first of all | see `endpoint/hello.rs` |
//! | 2 | words | both, one direction | messages without a body, see `link/frame.rs` |
//! | 3 | spans | both, one direction | appends, see `link/frame.rs` |
//! | 4 | call | both | see `call/frame.rs` |
//! | 5 | snapshot | both | see `snapshot/frame.rs` |

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

pub(crate) const HELLO: u8 = 1;
pub(crate) const WORDS: u8 = 2;
pub(crate) const SPANS: u8 = 3;
pub(crate) const CALL: u8 = 4;
pub(crate) const SNAPSHOT: u8 = 5;

/// Pieces that are taken from quinn at once.
const PIECES: usize = 32;

/// A stream has ended where it must not, or the connection has.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// Its end came in the middle of something.
    #[error("the stream ended in the middle of a message")]
    Cut,
    /// The connection was lost, or the peer has given the stream up.
    #[error("{0}")]
    Read(#[from] quinn::ReadError),
    /// The peer says what cannot be.
    #[error("{0}")]
    Peer(String),
}

/// Reads a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: quinn::RecvStream,
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    held: usize,
}

impl Reader {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            pieces: VecDeque::with_capacity(PIECES),
            held: 0,
        }
    }

    /// Takes what has come; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, quinn::ReadError> {
        let mut pieces = [const { Bytes::new() }; PIECES];
        let Some(count) = self.stream.read_chunks(&mut pieces).await? else {
            return Ok(false);
        };
        for piece in pieces.into_iter().take(count) {
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
        Ok(true)
    }

    /// The next `N` bytes; `None` where the stream ends before them.
    pub(crate) async fn head<const N: usize>(&mut self) -> Result<Option<[u8; N]>, StreamError> {
        while self.held < N {
            if !self.fill().await? {
                return if self.held == 0 {
                    Ok(None)
                } else {
                    Err(StreamError::Cut)
                };
            }
        }
        let mut head = [0; N];
        self.copy(&mut head);
        Ok(Some(head))
    }

    fn copy(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let piece = self.piece_of(to.len());
            to[..piece.len()].copy_from_slice(&piece);
            to = &mut to[piece.len()..];
        }
    }

    /// Up to `size` bytes of what is held.
    fn piece_of(&mut self, size: usize) -> Bytes {
        let front = self.pieces.front_mut().expect("so many bytes are held");
        let piece = front.split_to(front.len().min(size));
        if !front.has_remaining() {
            self.pieces.pop_front();
        }
        self.held -= piece.len();
        piece
    }

    /// The next bytes, together. `size` was held against a limit. They are copied at most once, and not at
    /// all where one packet has them.
    pub(crate) async fn take(&mut self, size: usize) -> Result<Bytes, StreamError> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        if self.pieces.front().is_some_and(|front| front.len() >= size) {
            return Ok(self.piece_of(size));
        }
        let mut whole = BytesMut::with_capacity(size);
        while whole.len() < size {
            let piece = self.piece(size - whole.len()).await?;
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// At least one byte and at most `size`, which is not 0.
    pub(crate) async fn piece(&mut self, size: usize) -> Result<Bytes, StreamError> {
        while self.held == 0 {
            if !self.fill().await? {
                return Err(StreamError::Cut);
            }
        }
        Ok(self.piece_of(size))
    }

    /// Passes over the next bytes.
    pub(crate) async fn skip(&mut self, mut size: usize) -> Result<(), StreamError> {
        while size > 0 {
            size -= self.piece(size).await?.len();
        }
        Ok(())
    }

    /// Tells the peer that nothing more is wanted of this stream.
    pub(crate) fn stop(&mut self) {
        let _ = self.stream.stop(quinn::VarInt::from_u32(0));
    }
}
