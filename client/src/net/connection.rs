//! One connection and its life: wait for a request, connect, say hello, run, break, again.
//!
//! ```text
//!            a request waits            hello answered
//!   idle ------------------> connecting --------------> running (this task writes, another reads)
//!    ^                         | failed: what waits          |
//!    |                         | fails too, then a pause     | broke: what was sent fails
//!    +-------------------------+-----------------------------+
//! ```

use super::address::Address;
use super::reader::{FrameReader, ReadError};
use super::requests::{Outgoing, Requests};
use super::socket;
use super::writer::FrameWriter;
use crate::backoff::Backoff;
use crate::transport::{RawAnswer, open_answer};
use bytes::Bytes;
use flowstone_wire::frame::{ANSWER, VERSION};
use flowstone_wire::native::{self, Hello, HelloAnswer, Request};
use flowstone_wire::{ErrorCode, Failure};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// Connecting and the answer to Hello may take so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A task that ends when its owner goes.
pub(crate) struct OwnedTask<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for OwnedTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that was greeted.
pub(crate) struct Established {
    reader: FrameReader,
    writer: FrameWriter,
    hello: HelloAnswer,
}

impl Established {
    pub(crate) fn workers(&self) -> u16 {
        self.hello.workers.max(1)
    }
}

/// Opens a connection and says hello.
///
/// # Errors
/// [`ErrorCode::Disconnected`] if nobody answers; the broker's refusal.
pub(crate) async fn establish(
    address: &Address,
    worker: Option<u16>,
) -> Result<Established, Failure> {
    match timeout(CONNECT_TIMEOUT, greet(address, worker)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => Err(broken(address, &error)),
        Err(_) => {
            let waited_s = CONNECT_TIMEOUT.as_secs();
            Err(broken(address, &format!("no answer within {waited_s} s")))
        }
    }
}

async fn greet(
    address: &Address,
    worker: Option<u16>,
) -> Result<Result<Established, Failure>, ReadError> {
    let (read, write) = socket::open(address).await?;
    let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
    let hello = Hello {
        client: concat!("flowstone-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        worker,
    };
    let header = match native::encode(&hello) {
        Ok(header) => header,
        Err(failure) => return Ok(Err(failure)),
    };
    let mut requests = vec![Outgoing {
        api: Hello::API,
        correlation: 0,
        header,
        payload: Bytes::new(),
    }];
    writer.write(&mut requests).await?;
    let frame = reader.next().await?;
    if frame.prefix.api != Hello::API | ANSWER || frame.prefix.correlation != 0 {
        return Err(io::Error::other("its first answer is not the one to hello").into());
    }
    let answer = RawAnswer {
        header: frame.header,
        payload: Vec::new(),
    };
    Ok(open_answer::<Hello>(&answer).map(|hello| Established {
        reader,
        writer,
        hello,
    }))
}

/// The task of one connection. Ends only by being aborted.
pub(crate) struct Connection {
    pub(crate) address: Address,
    pub(crate) worker: Option<u16>,
    pub(crate) requests: Arc<Requests>,
    /// Number of workers, as the broker said last.
    pub(crate) workers: Arc<AtomicU16>,
}

impl Connection {
    /// Runs for ever; `first` is a connection that is open already.
    pub(crate) async fn run(self, first: Option<Established>) {
        let mut established = first;
        let mut backoff = Backoff::new(self.worker.map_or(0, |w| u64::from(w) + 1));
        let mut not_before = Instant::now();
        loop {
            let open = match established.take() {
                Some(open) => open,
                None => {
                    self.wait_for_request().await;
                    sleep_until(not_before).await;
                    match self.establish().await {
                        Ok(open) => open,
                        Err(failure) => {
                            not_before = Instant::now() + backoff.next_pause();
                            self.requests.fail_waiting(&failure);
                            continue;
                        }
                    }
                }
            };
            self.workers.store(open.workers(), Ordering::Relaxed);
            backoff.reset();
            let failure = self.serve(open).await;
            self.requests.fail_under_way(&failure);
        }
    }

    /// A broker that was started again may have fewer workers and refuse ours; any will do then, and
    /// its answer says how many there are now.
    async fn establish(&self) -> Result<Established, Failure> {
        match establish(&self.address, self.worker).await {
            Err(refused) if self.worker.is_some() && refused.code != ErrorCode::Disconnected => {
                establish(&self.address, None).await
            }
            result => result,
        }
    }

    async fn wait_for_request(&self) {
        while !self.requests.has_waiting() {
            self.requests.sendable().await;
        }
    }

    /// Runs a connection until it breaks, and says why it did.
    async fn serve(&self, open: Established) -> Failure {
        let requests = Arc::clone(&self.requests);
        let mut reading = OwnedTask(tokio::spawn(read_answers(open.reader, requests)));
        tokio::select! {
            why = &mut reading.0 => match why {
                Ok(why) => broken(&self.address, &why),
                Err(_) => broken(&self.address, &"its reading task ended"),
            },
            error = write_requests(open.writer, &self.requests) => {
                broken(&self.address, &format!("writing failed: {error}"))
            }
            () = self.requests.stalled() => Failure::new(
                ErrorCode::Timeout,
                format!("{} did not answer in time; the connection was closed", self.address),
            ),
        }
    }
}

async fn write_requests(mut writer: FrameWriter, requests: &Requests) -> io::Error {
    let mut batch = Vec::new();
    loop {
        requests.take(&mut batch);
        if batch.is_empty() {
            requests.sendable().await;
        } else if let Err(error) = writer.write(&mut batch).await {
            return error;
        }
    }
}

async fn read_answers(mut reader: FrameReader, requests: Arc<Requests>) -> String {
    loop {
        let frame = match reader.next().await {
            Ok(frame) => frame,
            Err(error) => return error.to_string(),
        };
        let prefix = frame.prefix;
        if prefix.api & ANSWER == 0 || prefix.version != VERSION {
            return "the broker sent what is not an answer of this version".to_owned();
        }
        let answer = RawAnswer {
            header: frame.header,
            payload: if frame.payload.is_empty() {
                Vec::new()
            } else {
                vec![frame.payload]
            },
        };
        if let Err(why) = requests.answer(prefix.api & !ANSWER, prefix.correlation, answer) {
            return why.to_owned();
        }
    }
}

fn broken(address: &Address, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorCode::Disconnected,
        format!("no connection to {address}: {why}; the next request tries again"),
    )
}
