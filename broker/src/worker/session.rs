//! The native protocol on a connection: from frames to requests.
//!
//! Reading and writing of a shard of this worker happens at once; other requests go to the control
//! threads, which may wait for a disk or for other workers.

use super::connection::Connection;
use super::host::{Asker, encode_answer, encode_reply};
use super::run::Worker;
use super::{EncodedAnswer, Incoming, Message};
use bytes::BytesMut;
use flowstone_core::{Input, Ticket};
use flowstone_wire::frame::{self, PREFIX_BYTES, Prefix};
use flowstone_wire::limits::{BATCH_BYTES_MAX, CONNECTION_REQUESTS_MAX};
use flowstone_wire::native::{self, Request};
use flowstone_wire::{CheckedBatch, ErrorCode, Failure, PartitionId, ShardId};
use std::collections::BTreeSet;
use std::rc::Rc;

/// What the connection does next.
pub(super) enum Flow {
    /// Read more bytes.
    More,
    /// Wait until there is room, then go on with what is buffered.
    Full,
    /// End: the peer does not speak the protocol.
    Close,
    /// Go on, on this worker.
    Move(u16),
}

/// A greeting has no reason to be larger; who has not greeted gets no more room than this.
const HELLO_BYTES_MAX: usize = 4 << 10;
/// Requests taken in one go before other connections get their turn.
const FRAMES_PER_ROUND: usize = CONNECTION_REQUESTS_MAX;

/// Takes whole frames from the front of the buffer.
pub(super) fn take_frames(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    buffer: &mut BytesMut,
) -> Flow {
    let mut touched = BTreeSet::new();
    let mut flow = Flow::More;
    for n in 0.. {
        let prefix = match Prefix::decode(buffer) {
            Ok(Some(prefix))
                if !connection.said_hello.get() && prefix.frame_bytes() > HELLO_BYTES_MAX =>
            {
                flow = Flow::Close;
                break;
            }
            Ok(Some(prefix)) if buffer.len() >= prefix.frame_bytes() => prefix,
            Ok(_) => break,
            Err(e) => {
                tracing::debug!(connection = connection.id, "closed: {e}");
                flow = Flow::Close;
                break;
            }
        };
        if n == FRAMES_PER_ROUND {
            flow = Flow::Full;
            break;
        }
        if !connection.said_hello.get() {
            match hello(worker, connection, &prefix, buffer) {
                Flow::More => continue,
                other => return other,
            }
        }
        let mut frame = buffer.split_to(prefix.frame_bytes());
        let payload = frame.split_off(PREFIX_BYTES + prefix.header_size as usize);
        if !connection.begin(prefix.correlation, prefix.api) {
            flow = Flow::Close;
            break;
        }
        let request = Incomplete {
            worker,
            connection,
            prefix,
        };
        if let Some(shard) = request.handle(&frame[PREFIX_BYTES..], payload) {
            touched.insert(shard);
        }
    }
    for shard in touched {
        worker.turn(shard);
    }
    flow
}

/// The first frame: checked in place, so that it can be read again by another worker.
fn hello(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    prefix: &Prefix,
    buffer: &mut BytesMut,
) -> Flow {
    let header = &buffer[PREFIX_BYTES..PREFIX_BYTES + prefix.header_size as usize];
    let hello = match native::decode::<native::Hello>(header) {
        Ok(hello) if prefix.api == native::Hello::API && prefix.version == frame::VERSION => hello,
        _ => return Flow::Close,
    };
    let workers = worker.service.workers();
    if let Some(wanted) = hello.worker.map(|w| w % workers.max(1))
        && wanted != worker.id
    {
        return Flow::Move(wanted);
    }
    drop(buffer.split_to(prefix.frame_bytes()));
    connection.said_hello.set(true);
    tracing::debug!(
        connection = connection.id,
        client = hello.client.escape_debug().to_string()
    );
    let answer = worker.service.hello();
    connection.begin(prefix.correlation, prefix.api);
    connection.answer(
        prefix.correlation,
        encode_answer::<native::Hello>(Ok(answer), Vec::new()),
    );
    Flow::More
}

/// Gives the socket to another worker, which reads the first frame again.
pub(super) fn hand_over(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    to: u16,
    buffered: BytesMut,
) -> bool {
    let Ok(socket) = connection.socket() else {
        return false;
    };
    let Some(permit) = worker.service.connection_permit() else {
        return false;
    };
    connection.retire();
    worker.service.tell_worker(
        to,
        Message::Connection(Incoming {
            socket,
            buffered,
            permit,
        }),
    )
}

/// A request whose header and payload are still to be read.
struct Incomplete<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Rc<Connection>,
    prefix: Prefix,
}

impl Incomplete<'_> {
    /// Handles the request. Returns the shard whose turn it is then.
    fn handle(self, header: &[u8], payload: BytesMut) -> Option<ShardId> {
        if self.prefix.version != frame::VERSION {
            let what = format!(
                "version {} of request {} is not known here",
                self.prefix.version, self.prefix.api
            );
            self.fail(Failure::new(ErrorCode::UnsupportedVersion, what));
            return None;
        }
        self.worker.service.metrics.request(self.prefix.api);
        match self.prefix.api {
            native::Produce::API => self.produce(header, payload),
            native::Fetch::API => self.fetch(header),
            _ => {
                self.forward(header, payload);
                None
            }
        }
    }

    fn fail(&self, failure: Failure) {
        self.connection
            .answer(self.prefix.correlation, encode_reply(Err(failure)));
    }

    /// The shard of a partition, if it lives on this worker, and is led by this node.
    fn local_shard(&self, partition: PartitionId) -> Option<ShardId> {
        let shard = self.worker.service.shard_of(partition)?;
        let here = self.worker.hosts.contains_key(&shard) && self.worker.service.leads(shard);
        here.then_some(shard)
    }

    fn produce(self, header: &[u8], payload: BytesMut) -> Option<ShardId> {
        let request: native::Produce = match native::decode(header) {
            Ok(request) => request,
            Err(failure) => {
                self.fail(failure);
                return None;
            }
        };
        let Some(shard) = self.local_shard(request.partition) else {
            self.forward(header, payload);
            return None;
        };
        match check_batch(payload) {
            Ok(batch) => {
                self.worker.service.metrics.produced(batch.header());
                let native::Produce { partition, acks } = request;
                self.ask(shard, |ticket| Input::Produce {
                    ticket: Some(ticket),
                    partition,
                    batch,
                    acks,
                });
                Some(shard)
            }
            Err(failure) => {
                self.fail(failure);
                None
            }
        }
    }

    fn fetch(self, header: &[u8]) -> Option<ShardId> {
        let request: native::Fetch = match native::decode(header) {
            Ok(request) => request,
            Err(failure) => {
                self.fail(failure);
                return None;
            }
        };
        let Some(shard) = self.local_shard(request.partition) else {
            self.forward(header, BytesMut::new());
            return None;
        };
        let native::Fetch {
            partition,
            offset,
            max_bytes,
            wait_ms,
        } = request;
        self.ask(shard, |ticket| Input::Fetch {
            ticket,
            partition,
            offset,
            max_bytes,
            wait_ms,
        });
        // Reading changes nothing; a sync that a waiting reader needs is asked for by itself.
        None
    }

    fn ask(&self, shard: ShardId, make: impl FnOnce(Ticket) -> Input) {
        let asker = Asker::Connection {
            connection: self.connection.clone(),
            correlation: self.prefix.correlation,
        };
        self.worker.ask(shard, asker, |ticket| Ok(make(ticket)));
    }

    /// Gives the request to the control threads.
    fn forward(&self, header: &[u8], payload: BytesMut) {
        let service = self.worker.service.clone();
        let (worker, connection) = (self.worker.id, self.connection.id);
        let (api, correlation) = (self.prefix.api, self.prefix.correlation);
        let header = header.to_vec();
        let payload = payload.freeze();
        let task = service.clone();
        // Called here, not in the task, so that appends of a connection keep their order.
        let answer = service.clone().handle(api, header, payload);
        service.runtime().spawn(async move {
            let answer = match answer.await {
                Ok((header, payload)) => EncodedAnswer {
                    api,
                    header,
                    payload,
                },
                Err(failure) => encode_reply(Err(failure)),
            };
            task.tell_worker(
                worker,
                Message::Answer {
                    connection,
                    correlation,
                    answer,
                },
            );
        });
    }
}

/// Proves a producer's batch.
pub(crate) fn check_batch(payload: BytesMut) -> Result<CheckedBatch, Failure> {
    if payload.len() > BATCH_BYTES_MAX {
        let what = format!(
            "a batch of {} bytes is over {BATCH_BYTES_MAX}",
            payload.len()
        );
        return Err(Failure::new(ErrorCode::TooLarge, what));
    }
    CheckedBatch::check(payload).map_err(|e| Failure::new(ErrorCode::CorruptBatch, e.to_string()))
}
