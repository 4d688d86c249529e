//! The connections with a broker: one for whatever, and one per worker whose shards are used.

use super::address::Address;
use super::connection::{Connection, Established, OwnedTask, establish};
use super::requests::Requests;
use crate::transport::{BoxFuture, RawAnswer, Route, Transport};
use bytes::Bytes;
use flowstone_wire::frame::{PREFIX_BYTES, SIZE_BYTES};
use flowstone_wire::limits::{FETCH_WAIT_MS_MAX, FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use flowstone_wire::native::{Fetch, Request};
use flowstone_wire::{ErrorCode, Failure};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// An answer that takes longer than this, beside the wait that a fetch asks for, does not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection's requests and its task.
struct Slot {
    requests: Arc<Requests>,
    _task: OwnedTask<()>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.requests.close();
    }
}

/// A transport over sockets.
pub(crate) struct Pool {
    address: Address,
    workers: Arc<AtomicU16>,
    /// By worker; `None` is the connection that no worker was asked for.
    slots: Mutex<HashMap<Option<u16>, Slot>>,
    /// Where the tasks run, also when a request comes from a thread outside.
    runtime: Handle,
}

impl Pool {
    /// Connects to `address`.
    ///
    /// # Errors
    /// As [`establish`].
    pub(crate) async fn connect(address: Address) -> Result<Self, Failure> {
        let first = establish(&address, None).await?;
        let pool = Self {
            address,
            workers: Arc::new(AtomicU16::new(first.workers())),
            slots: Mutex::default(),
            runtime: Handle::current(),
        };
        let slot = pool.start(None, Some(first));
        pool.lock_slots().insert(None, slot);
        Ok(pool)
    }

    /// One that connects when it is first used.
    pub(crate) fn unconnected(address: Address, runtime: Handle) -> Self {
        Self {
            address,
            workers: Arc::new(AtomicU16::new(1)),
            slots: Mutex::default(),
            runtime,
        }
    }

    /// The broker does not answer: its connections are closed, and what is under way fails.
    pub(crate) fn stall(&self) {
        for slot in self.lock_slots().values() {
            slot.requests.report_stall();
        }
    }

    fn lock_slots(&self) -> std::sync::MutexGuard<'_, HashMap<Option<u16>, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, worker: Option<u16>, open: Option<Established>) -> Slot {
        let requests = Arc::new(Requests::default());
        let connection = Connection {
            address: self.address.clone(),
            worker,
            requests: Arc::clone(&requests),
            workers: Arc::clone(&self.workers),
        };
        Slot {
            requests,
            _task: OwnedTask(self.runtime.spawn(connection.run(open))),
        }
    }

    fn requests_for(&self, route: Route) -> Arc<Requests> {
        let worker = match (route, self.workers.load(Ordering::Relaxed)) {
            // With one worker all connections are served alike: one is enough.
            (Route::Any, _) | (_, 0 | 1) => None,
            (Route::Shard(shard), workers) => Some(shard.0 % workers),
        };
        let mut slots = self.lock_slots();
        let slot = slots
            .entry(worker)
            .or_insert_with(|| self.start(worker, None));
        Arc::clone(&slot.requests)
    }
}

impl Transport for Pool {
    fn call(
        &self,
        route: Route,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<RawAnswer, Failure>> {
        if let Err(failure) = check_size(header.len(), payload.len()) {
            return Box::pin(std::future::ready(Err(failure)));
        }
        let requests = self.requests_for(route);
        // Not inside the future: the order of calls is the order of requests.
        let answer = requests.submit(api, header, payload);
        Box::pin(async move {
            let limit = answer_timeout(api);
            match timeout(limit, answer).await {
                Ok(Ok(answered)) => answered,
                Ok(Err(_)) => Err(Failure::new(
                    ErrorCode::Disconnected,
                    "the connection's task ended before the answer came",
                )),
                Err(_) => {
                    requests.report_stall();
                    let limit_s = limit.as_secs();
                    let text = format!("no answer to request {api} within {limit_s} s");
                    Err(Failure::new(ErrorCode::Timeout, text))
                }
            }
        })
    }
}

fn answer_timeout(api: u16) -> Duration {
    if api == Fetch::API {
        ANSWER_TIMEOUT + Duration::from_millis(u64::from(FETCH_WAIT_MS_MAX))
    } else {
        ANSWER_TIMEOUT
    }
}

fn check_size(header_bytes: usize, payload_bytes: usize) -> Result<(), Failure> {
    let frame_bytes = PREFIX_BYTES - SIZE_BYTES + header_bytes + payload_bytes;
    if header_bytes <= FRAME_HEADER_BYTES_MAX && frame_bytes <= FRAME_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::TooLarge,
        format!(
            "request of {header_bytes} + {payload_bytes} bytes is over {FRAME_BYTES_MAX}; send less at once"
        ),
    ))
}
