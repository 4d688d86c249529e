//! The requests of one connection: waiting to be sent, or sent and waiting for their answer.
//!
//! ```text
//!  submit --> waiting (in order, per lane) --take--> under way (by correlation) --answer--> caller
//!                  |  the connection may change          |  the connection broke
//!                  +-- connecting failed: Disconnected   +-- Disconnected
//! ```
//! A broker takes a bounded number of requests of one connection at once. Fetches may wait there for
//! a minute, so they have a share of their own: what is quick never stands behind them.

use crate::transport::RawAnswer;
use bytes::Bytes;
use flowstone_wire::limits::CONNECTION_REQUESTS_MAX;
use flowstone_wire::native::{Fetch, Request};
use flowstone_wire::{ErrorCode, Failure};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Fetches under way at once.
const FETCHES_MAX: usize = 192;
/// Other requests under way at once.
const OTHERS_MAX: usize = 64;
const _: () = assert!(FETCHES_MAX + OTHERS_MAX <= CONNECTION_REQUESTS_MAX);
/// Requests waiting in one lane; beyond, callers are told to slow down.
const WAITING_MAX: usize = 16_384;

pub(crate) type Answered = Result<RawAnswer, Failure>;

/// A request on its way to the socket.
pub(crate) struct Outgoing {
    pub(crate) api: u16,
    pub(crate) correlation: u64,
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Bytes,
}

struct Waiting {
    api: u16,
    header: Vec<u8>,
    payload: Bytes,
    caller: oneshot::Sender<Answered>,
}

struct UnderWay {
    api: u16,
    caller: oneshot::Sender<Answered>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

#[derive(Default)]
struct State {
    lanes: [Lane; 2],
    under_way: HashMap<u64, UnderWay>,
    last_correlation: u64,
    /// Set once the client is gone: nobody will send what is submitted.
    closed: bool,
}

/// The requests of one connection.
#[derive(Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
    /// There may be something to send. One waiter: the connection's task.
    sendable: Notify,
    /// A caller waited for too long: the connection is not to be trusted.
    stalled: Notify,
}

/// Which lane a request takes, and at most how many of its kind are under way.
fn lane_of(api: u16) -> (usize, usize) {
    if api == Fetch::API {
        (1, FETCHES_MAX)
    } else {
        (0, OTHERS_MAX)
    }
}

impl Requests {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request in its lane and returns where its answer will come.
    pub(crate) fn submit(
        &self,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> oneshot::Receiver<Answered> {
        let (caller, answer) = oneshot::channel();
        let mut state = self.state();
        let waiting = state.lanes[lane_of(api).0].waiting.len();
        if state.closed {
            tell(caller, Err(client_is_gone()));
        } else if waiting >= WAITING_MAX {
            let text = format!("{waiting} requests wait for this connection; slow down");
            tell(caller, Err(Failure::new(ErrorCode::Busy, text)));
        } else {
            state.lanes[lane_of(api).0].waiting.push_back(Waiting {
                api,
                header,
                payload,
                caller,
            });
            drop(state);
            self.sendable.notify_one();
        }
        answer
    }

    /// Moves what may be sent now to `out` and counts it as under way.
    pub(crate) fn take(&self, out: &mut Vec<Outgoing>) {
        let state = &mut *self.state();
        for lane in &mut state.lanes {
            while let Some(next) = lane.waiting.front() {
                if lane.under_way >= lane_of(next.api).1 {
                    break;
                }
                let Some(next) = lane.waiting.pop_front() else {
                    break;
                };
                if next.caller.is_closed() {
                    continue;
                }
                lane.under_way += 1;
                state.last_correlation += 1;
                let (api, caller) = (next.api, next.caller);
                let under_way = UnderWay { api, caller };
                state.under_way.insert(state.last_correlation, under_way);
                out.push(Outgoing {
                    api,
                    correlation: state.last_correlation,
                    header: next.header,
                    payload: next.payload,
                });
            }
        }
    }

    /// Gives an answer to its caller.
    ///
    /// # Errors
    /// What is wrong with it, if nobody asked for it.
    pub(crate) fn answer(
        &self,
        api: u16,
        correlation: u64,
        answer: RawAnswer,
    ) -> Result<(), &'static str> {
        let mut state = self.state();
        let Some(asked) = state.under_way.remove(&correlation) else {
            return Err("the broker answered a request that nobody sent");
        };
        let lane = &mut state.lanes[lane_of(asked.api).0];
        lane.under_way -= 1;
        let more = !lane.waiting.is_empty();
        drop(state);
        if more {
            self.sendable.notify_one();
        }
        if api != asked.api {
            let text = "the broker answered with another kind of answer";
            tell(
                asked.caller,
                Err(Failure::new(ErrorCode::Disconnected, text)),
            );
            return Err(text);
        }
        tell(asked.caller, Ok(answer));
        Ok(())
    }

    /// Waits until there may be something to send.
    pub(crate) async fn sendable(&self) {
        self.sendable.notified().await;
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_waiting(&self) -> bool {
        self.state().lanes.iter().any(|l| !l.waiting.is_empty())
    }

    /// Says that an answer is overdue.
    pub(crate) fn report_stall(&self) {
        self.stalled.notify_waiters();
    }

    /// Waits until an answer is overdue.
    pub(crate) async fn stalled(&self) {
        self.stalled.notified().await;
    }

    /// The connection broke: fails what was sent. What waits goes over the next one.
    pub(crate) fn fail_under_way(&self, failure: &Failure) {
        let mut state = self.state();
        let sent = std::mem::take(&mut state.under_way);
        state.lanes.iter_mut().for_each(|lane| lane.under_way = 0);
        drop(state);
        for (_, request) in sent {
            tell(request.caller, Err(failure.clone()));
        }
    }

    /// There is no connection to be had: fails what waits.
    pub(crate) fn fail_waiting(&self, failure: &Failure) {
        let mut state = self.state();
        let waiting: Vec<_> = state
            .lanes
            .iter_mut()
            .flat_map(|lane| std::mem::take(&mut lane.waiting))
            .collect();
        drop(state);
        for request in waiting {
            tell(request.caller, Err(failure.clone()));
        }
    }

    /// The client is gone: fails everything, now and later.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.fail_under_way(&client_is_gone());
        self.fail_waiting(&client_is_gone());
    }
}

fn client_is_gone() -> Failure {
    Failure::new(
        ErrorCode::Disconnected,
        "the client was dropped before the answer came",
    )
}

/// A caller that has gone away needs no answer.
fn tell(caller: oneshot::Sender<Answered>, answered: Answered) {
    let _gone = caller.send(answered);
}
