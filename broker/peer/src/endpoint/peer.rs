//! Another node, as this one knows it: where it is, the connection with it, and what waits for it.

use super::hello::Standing;
use super::status::{Counters, PeerStatus};
use crate::link::Queue;
use flowstone_wire::NodeId;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Another node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    state: Mutex<State>,
    /// Changes with everything in `state`.
    stamp: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    addresses: Vec<SocketAddr>,
    current: Option<Current>,
    is_dialling: bool,
    is_removed: bool,
    /// Why the last try has failed; `None` before the first one has.
    last_error: Option<String>,
}

#[derive(Debug)]
struct Current {
    connection: quinn::Connection,
    life: u64,
    since: Instant,
}

/// What there is to do for a peer without a connection.
#[derive(Debug)]
pub(crate) enum Task {
    /// Nothing, until something changes.
    Rest,
    /// To dial.
    Dial(Vec<SocketAddr>),
    /// It has left: nothing more, for good.
    End,
}

impl Peer {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            queue: Queue::new(),
            counters: Counters::default(),
            state: Mutex::default(),
            stamp: watch::Sender::new(0),
        }
    }

    /// Nothing in here panics half way, so what is behind a poisoned lock is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.stamp.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Told of every change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.stamp.subscribe()
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        let mut state = self.state();
        if state.addresses != addresses {
            (state.addresses, state.last_error) = (addresses, None);
            drop(state);
            self.changed();
        }
    }

    /// It has left the cluster.
    pub(crate) fn remove(&self) -> Option<quinn::Connection> {
        let mut state = self.state();
        state.is_removed = true;
        let current = state.current.take();
        drop(state);
        self.queue.close();
        self.changed();
        current.map(|c| c.connection)
    }

    pub(crate) fn task(&self) -> Task {
        let state = self.state();
        if state.is_removed {
            Task::End
        } else if state.current.is_some() || state.addresses.is_empty() {
            Task::Rest
        } else {
            Task::Dial(state.addresses.clone())
        }
    }

    pub(crate) fn set_dialling(&self, is_dialling: bool) {
        self.state().is_dialling = is_dialling;
        self.changed();
    }

    pub(crate) fn note_error(&self, why: String) {
        self.state().last_error = Some(why);
        self.changed();
    }

    /// The connection, if there is one.
    pub(crate) fn connection(&self) -> Option<quinn::Connection> {
        self.state().current.as_ref().map(|c| c.connection.clone())
    }

    /// Why there is none, where a try has failed.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.state().last_error.clone()
    }

    /// Takes a connection if it is still wanted: `choose` says so, under the lock. Gives back the one that
    /// it replaces.
    pub(crate) fn adopt<C>(
        &self,
        connection: &quinn::Connection,
        life: u64,
        choose: impl FnOnce(Standing) -> Result<(), C>,
    ) -> Result<Option<quinn::Connection>, Option<C>> {
        let mut state = self.state();
        if state.is_removed {
            return Err(None);
        }
        let current = state.current.as_ref();
        choose(Standing {
            is_dialling: state.is_dialling,
            current: current.map(|c| (c.life, c.since.elapsed())),
        })
        .map_err(Some)?;
        let next = Current {
            connection: connection.clone(),
            life,
            since: Instant::now(),
        };
        let replaced = state.current.replace(next).map(|c| c.connection);
        state.last_error = None;
        drop(state);
        self.queue.open();
        self.counters.connected();
        self.changed();
        Ok(replaced)
    }

    /// Forgets a connection that is over; says whether it was the present one.
    pub(crate) fn lost(&self, connection: &quinn::Connection, why: &str) -> bool {
        let mut state = self.state();
        let current = state.current.as_ref();
        let was_current =
            current.is_some_and(|c| c.connection.stable_id() == connection.stable_id());
        if was_current {
            (state.current, state.last_error) = (None, Some(why.to_owned()));
            drop(state);
            self.queue.close();
            self.changed();
        }
        was_current
    }

    /// Waits for a connection.
    pub(crate) async fn wait_up(&self) -> quinn::Connection {
        let mut stamp = self.watch();
        loop {
            stamp.mark_unchanged();
            if let Some(connection) = self.connection() {
                return connection;
            }
            if stamp.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let state = self.state();
        let connection = state.current.as_ref().map(|c| &c.connection);
        let sent = self.counters.snapshot();
        PeerStatus {
            node: self.node,
            is_up: connection.is_some(),
            address: connection.map(quinn::Connection::remote_address),
            round_trip_us: connection.map_or(0, |c| c.rtt().as_micros() as u64),
            datagram_bytes: connection.map_or(0, |c| u64::from(c.stats().path.current_mtu)),
            last_error: state.last_error.clone(),
            queued_bytes: self.queue.bytes() as u64,
            counts: sent,
        }
    }
}
