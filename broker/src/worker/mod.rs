//! Workers: pinned threads, each with one monoio runtime, some shards, and the native door's
//! connections.
//!
//! A request of a connection for a shard of the same worker is read, appended, processed and answered
//! on this thread. Everything else comes and goes through the mailbox.

mod bell;
mod connection;
mod host;
mod large_frame;
mod replica;
mod run;
mod session;

pub(crate) use host::{Clock, unix_ms};
pub(crate) use run::{WorkerStart, spawn};
pub(crate) use session::check_batch;

use crate::effects::Done;
use bytes::BytesMut;
use flowstone_core::{Input, Reply, Shard, Ticket};
use flowstone_wire::{Failure, ShardId};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

/// Gives a reply to whoever asked.
pub(crate) type ReplyTo = Box<dyn FnOnce(Result<Reply, Failure>) + Send>;
/// Makes the input of a request, given the ticket for its reply.
pub(crate) type MakeInput = Box<dyn FnOnce(Ticket) -> Result<Input, Failure> + Send>;

/// What other threads tell a worker.
pub(crate) enum Message {
    /// A request for a shard.
    Call {
        shard: ShardId,
        make: MakeInput,
        reply: ReplyTo,
    },
    /// Something a shard must know; no reply.
    Tell { shard: ShardId, input: Input },
    /// Work that a shard had asked for is done.
    Done { shard: ShardId, done: Done },
    /// A shard that is one of several copies was opened, or could not be.
    Opened {
        shard: ShardId,
        result: Result<Box<Shard>, String>,
    },
    /// A new connection.
    Connection(Incoming),
    /// An answer from the control threads for a connection of this worker.
    Answer {
        connection: u64,
        correlation: u64,
        answer: EncodedAnswer,
    },
    /// Every shard is open and every partition known: unknown ones can go.
    CloseUnknown,
    /// Stop in order; tell when it is done.
    Drain(Box<dyn FnOnce() + Send>),
}

/// A connection that was accepted, and what was read from it already.
pub(crate) struct Incoming {
    pub(crate) socket: Socket,
    pub(crate) buffered: BytesMut,
    pub(crate) permit: ConnectionPermit,
}

/// A socket of the native door.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Counts a connection as long as it is open.
pub(crate) struct ConnectionPermit(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl ConnectionPermit {
    /// A permit, if there are fewer than `limit`.
    pub(crate) fn take(
        count: &std::sync::Arc<std::sync::atomic::AtomicUsize>,
        limit: usize,
    ) -> Option<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        if count.fetch_add(1, Relaxed) >= limit {
            count.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self(count.clone()))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The header and payload of an answer frame.
#[derive(Debug, Default)]
pub(crate) struct EncodedAnswer {
    /// The number of the request.
    pub(crate) api: u16,
    /// Postcard of `Result<Answer, Failure>`.
    pub(crate) header: Vec<u8>,
    /// Whole batches.
    pub(crate) payload: Vec<bytes::Bytes>,
}
