//! A connection of the native door: bytes in, frames to the session, answers out.
//!
//! One task reads, one writes. Requests under way and bytes to be written are bounded: beyond that
//! nothing more is read, and the peer's sends block.

use super::bell::Bell;
use super::large_frame::LargeFrame;
use super::run::Worker;
use super::session::{self, Flow};
use super::{ConnectionPermit, EncodedAnswer, Incoming, Socket};
use bytes::BytesMut;
use flowstone_core::Output;
use flowstone_wire::ShardId;
use flowstone_wire::frame::{self, Prefix};
use flowstone_wire::limits::{CONNECTION_REQUESTS_MAX, FETCH_BYTES_MAX};
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Split, Splitable};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A peer that has not said hello by then, whole, is not one of ours.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A frame that is read is whole by then, or never will be.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers out of settled segments are memory, and not pages of a mapped file: so many bytes of
/// them may be read or wait to be written, then further reads wait.
const SETTLED_BYTES_MAX: usize = 2 * FETCH_BYTES_MAX;
/// Answers waiting to be written, in bytes, beyond which nothing more is read.
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;
/// An idle connection reads into this much; a busy one into more.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Answers up to this size are copied together into one write.
const GATHER_BYTES: usize = 64 << 10;

/// A request whose answer is not queued yet.
struct UnderWay {
    api: u16,
    /// What the read of a settled segment that was asked for it may bring.
    settled_bytes: usize,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) id: u64,
    /// Answers that wait to be written.
    out: RefCell<VecDeque<(u64, EncodedAnswer)>>,
    out_bytes: Cell<usize>,
    /// Requests whose answer is not queued yet, with their numbers, to find the right one for a
    /// failure.
    under_way: RefCell<std::collections::HashMap<u64, UnderWay>>,
    /// Bytes that reads of settled segments under way may bring.
    settled_bytes: Cell<usize>,
    /// Reads of settled segments that wait until there is room for what they bring.
    deferred: RefCell<VecDeque<(ShardId, u64, Output)>>,
    written: Bell,
    pub(super) room: Bell,
    pub(super) closed: Cell<bool>,
    /// A second handle of the socket, to end a read from outside.
    socket: Socket,
    pub(super) said_hello: Cell<bool>,
    _permit: ConnectionPermit,
}

impl Connection {
    /// Notes a request. Returns `false` if one of this correlation is under way.
    pub(super) fn begin(&self, correlation: u64, api: u16) -> bool {
        self.under_way
            .borrow_mut()
            .insert(
                correlation,
                UnderWay {
                    api,
                    settled_bytes: 0,
                },
            )
            .is_none()
    }

    /// Queues an answer.
    pub(super) fn answer(&self, correlation: u64, mut answer: EncodedAnswer) {
        let Some(request) = self.under_way.borrow_mut().remove(&correlation) else {
            return;
        };
        answer.api = request.api;
        let settled = self.settled_bytes.get() - request.settled_bytes;
        self.settled_bytes.set(settled);
        let bytes = answer.header.len() + answer.payload.iter().map(|b| b.len()).sum::<usize>();
        self.out_bytes.set(self.out_bytes.get() + bytes);
        self.out.borrow_mut().push_back((correlation, answer));
        self.written.ring();
    }

    /// Whether it has ended: nobody waits for answers any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The reads that were never started, for those who still have their tickets.
    pub(super) fn take_deferred(&self) -> impl Iterator<Item = (ShardId, Output)> + use<> {
        let deferred = self.deferred.take();
        deferred.into_iter().map(|(shard, _, read)| (shard, read))
    }

    /// Takes the read of a settled segment that a request needs; what there is room for is given
    /// out by `next_settled`.
    pub(super) fn defer(&self, shard: ShardId, correlation: u64, read: Output) {
        if let Some(request) = self.under_way.borrow_mut().get_mut(&correlation) {
            // It was read before, and what it was to bring is elsewhere now.
            let before = std::mem::take(&mut request.settled_bytes);
            self.settled_bytes.set(self.settled_bytes.get() - before);
        }
        self.deferred
            .borrow_mut()
            .push_back((shard, correlation, read));
    }

    /// The next read of a settled segment, if there is room for what it brings.
    pub(super) fn next_settled(&self) -> Option<(ShardId, Output)> {
        if self.settled_bytes.get() + self.out_bytes.get() + FETCH_BYTES_MAX > SETTLED_BYTES_MAX
            && self.settled_bytes.get() + self.out_bytes.get() > 0
        {
            return None;
        }
        let (shard, correlation, read) = self.deferred.borrow_mut().pop_front()?;
        if let Some(request) = self.under_way.borrow_mut().get_mut(&correlation) {
            request.settled_bytes = FETCH_BYTES_MAX;
            self.settled_bytes
                .set(self.settled_bytes.get() + FETCH_BYTES_MAX);
        }
        Some((shard, read))
    }

    /// Whether answers wait to be written.
    pub(super) fn has_unwritten(&self) -> bool {
        self.out_bytes.get() > 0
    }

    fn has_room(&self) -> bool {
        self.under_way.borrow().len() + self.out.borrow().len() < CONNECTION_REQUESTS_MAX
            && self.out_bytes.get() < UNWRITTEN_BYTES_MAX
    }

    /// Lets the reader look again whether it may go on.
    pub(super) fn look_again(&self) {
        self.room.ring();
    }

    /// Ends the connection: both tasks see it and stop.
    pub(super) fn close(&self) {
        self.closed.set(true);
        let how = std::net::Shutdown::Both;
        // An error means that it is closed already.
        let _ = match &self.socket {
            Socket::Tcp(s) => s.shutdown(how),
            Socket::Unix(s) => s.shutdown(how),
        };
        self.written.ring();
        self.room.ring();
    }
}

/// Serves a connection until it ends.
pub(super) fn serve(worker: &Rc<Worker>, id: u64, incoming: Incoming) {
    let Incoming {
        socket,
        buffered,
        permit,
    } = incoming;
    match socket {
        Socket::Tcp(std) => {
            // Without it answers wait for the peer's acknowledgements.
            let _ = std.set_nodelay(true);
            let Ok(second) = std.try_clone() else { return };
            let stream = std
                .set_nonblocking(true)
                .and_then(|()| monoio::net::TcpStream::from_std(std));
            if let Ok(stream) = stream {
                start(worker, id, stream, Socket::Tcp(second), buffered, permit);
            }
        }
        Socket::Unix(std) => {
            let Ok(second) = std.try_clone() else { return };
            let stream = std
                .set_nonblocking(true)
                .and_then(|()| monoio::net::UnixStream::from_std(std));
            if let Ok(stream) = stream {
                start(worker, id, stream, Socket::Unix(second), buffered, permit);
            }
        }
    }
}

fn start<S>(
    worker: &Rc<Worker>,
    id: u64,
    stream: S,
    socket: Socket,
    buffered: BytesMut,
    permit: ConnectionPermit,
) where
    S: Split + AsyncReadRent + AsyncWriteRent + 'static,
{
    let connection = Rc::new(Connection {
        id,
        out: RefCell::default(),
        out_bytes: Cell::new(0),
        under_way: RefCell::default(),
        settled_bytes: Cell::new(0),
        deferred: RefCell::default(),
        written: Bell::default(),
        room: Bell::default(),
        closed: Cell::new(false),
        socket,
        said_hello: Cell::new(false),
        _permit: permit,
    });
    worker
        .connections
        .borrow_mut()
        .insert(id, connection.clone());
    worker.service.metrics.connections.inc();
    let (mut reader, writer) = stream.into_split();
    let worker = worker.clone();
    let writing = monoio::spawn(write_answers(worker.clone(), connection.clone(), writer));
    monoio::spawn(async move {
        let moved = read_frames(&worker, &connection, &mut reader, buffered).await;
        worker.connections.borrow_mut().remove(&id);
        worker.service.metrics.connections.dec();
        if moved {
            // Dropped by itself, the half that writes would shut the socket down, which the other worker has now.
            drop(reader.reunite(writing.await));
        } else {
            connection.close();
            worker.forget_settled(&connection);
        }
    });
}

/// Reads until the connection ends. Returns whether it goes on, on another worker.
async fn read_frames(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    mut reader: impl AsyncReadRent,
    mut buffer: BytesMut,
) -> bool {
    let mut chunk = READ_BYTES_MIN;
    let greet_by = Instant::now() + HELLO_TIMEOUT;
    // Of the frame at the front, while it is not whole.
    let mut large: Option<LargeFrame> = None;
    let mut whole_by: Option<Instant> = None;
    loop {
        while (!connection.has_room() || worker.holds_back()) && !connection.closed.get() {
            connection.room.wait().await;
            // That a frame is not read on is not the peer's doing.
            whole_by = None;
        }
        let buffered = buffer.len();
        match session::take_frames(worker, connection, &mut buffer) {
            Flow::More => {}
            Flow::Full => continue,
            Flow::Close => return false,
            Flow::Move(to) => return session::hand_over(worker, connection, to, buffer),
        }
        if buffer.len() < buffered {
            (large, whole_by) = (None, None);
        }
        let missing = missing_bytes(&buffer);
        if missing > 0 {
            let by = *whole_by.get_or_insert_with(|| Instant::now() + FRAME_TIMEOUT);
            if missing > READ_BYTES_MAX && large.is_none() {
                let turn = LargeFrame::wait(worker, connection, buffer.len() + missing);
                large = match monoio::time::timeout_at(by.into(), turn).await {
                    Ok(Some(large)) => Some(large),
                    _ => return false,
                };
            }
        }
        buffer.reserve(missing.max(chunk));
        let (start, end) = (
            buffer.len(),
            buffer.capacity().min(buffer.len() + missing.max(chunk)),
        );
        let read = reader.read(buffer.slice_mut(start..end));
        let deadline = match connection.said_hello.get() {
            true => whole_by,
            false => Some(greet_by),
        };
        let (result, slice) = match deadline {
            None => read.await,
            Some(by) => match monoio::time::timeout_at(by.into(), read).await {
                Ok(done) => done,
                Err(_) => return false,
            },
        };
        buffer = slice.into_inner();
        match result {
            Ok(n) if n > 0 => {
                let full = n == end - start;
                chunk = if full {
                    (chunk * 2).min(READ_BYTES_MAX)
                } else {
                    chunk.max(READ_BYTES_MIN)
                };
            }
            _ => return false,
        }
        worker.active.set(true);
    }
}

/// Bytes that are missing for the frame at the front.
fn missing_bytes(buffer: &BytesMut) -> usize {
    match Prefix::decode(buffer) {
        Ok(Some(prefix)) => prefix.frame_bytes().saturating_sub(buffer.len()),
        _ => 0,
    }
}

async fn write_answers<W: AsyncWriteRent>(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    mut writer: W,
) -> W {
    let mut gathered: Vec<u8> = Vec::new();
    loop {
        worker.read_settled(&connection);
        let next = connection.out.borrow_mut().pop_front();
        let Some((correlation, answer)) = next else {
            if !gathered.is_empty() {
                let (result, buffer) = writer.write_all(gathered).await;
                gathered = buffer;
                gathered.clear();
                if result.is_err() {
                    connection.close();
                    return writer;
                }
                continue;
            }
            if connection.closed.get() {
                return writer;
            }
            connection.written.wait().await;
            continue;
        };
        let payload: usize = answer.payload.iter().map(|b| b.len()).sum();
        let bytes = answer.header.len() + payload;
        frame::put_front(
            &mut gathered,
            answer.api | frame::ANSWER,
            correlation,
            &answer.header,
            payload,
        );
        let mut result = Ok(0);
        if gathered.len() + payload <= GATHER_BYTES {
            answer
                .payload
                .iter()
                .for_each(|b| gathered.extend_from_slice(b));
        } else {
            (result, gathered) = writer.write_all(gathered).await;
            gathered.clear();
            for slice in answer.payload {
                if result.is_ok() {
                    // Straight out of the mapping.
                    (result, _) = writer.write_all(slice).await;
                }
            }
        }
        connection.out_bytes.set(connection.out_bytes.get() - bytes);
        connection.room.ring();
        if result.is_err() {
            connection.close();
            return writer;
        }
    }
}

impl Connection {
    /// A handle of the socket for another worker.
    pub(super) fn socket(&self) -> std::io::Result<Socket> {
        Ok(match &self.socket {
            Socket::Tcp(s) => Socket::Tcp(s.try_clone()?),
            Socket::Unix(s) => Socket::Unix(s.try_clone()?),
        })
    }

    /// Stops the writer without closing the socket.
    pub(super) fn retire(&self) {
        self.closed.set(true);
        self.written.ring();
    }
}
