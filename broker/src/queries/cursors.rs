//! Queries of the native door: read by number, piece by piece.

use super::{Piece, Running};
use crate::data_dir::random_number;
use bytes::Bytes;
use flowstone_wire::limits::FRAME_BYTES_MAX;
use flowstone_wire::native::{QUERY_WAIT_MS_MAX, QueryRows, QueryStarted};
use flowstone_wire::{ErrorCode, Failure};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// A query that nobody reads for so long ends.
const IDLE: Duration = Duration::from_secs(60);
/// An answer takes no further piece behind so many bytes.
const ANSWER_BYTES: usize = 1 << 20;
/// The largest piece: one row may be large.
const PIECE_BYTES_MAX: usize = FRAME_BYTES_MAX - ANSWER_BYTES - (1 << 20);

/// The next rows, with what stands beside them.
type Read = Result<(QueryRows, Vec<Bytes>), Failure>;

/// A request for the next rows.
struct Ask {
    wait: Duration,
    reply: oneshot::Sender<Read>,
}

type Known = Arc<Mutex<HashMap<u64, mpsc::Sender<Ask>>>>;

/// The queries that are read by number.
#[derive(Default)]
pub(crate) struct Cursors {
    known: Known,
}

impl Cursors {
    /// Keeps a query until it was read, is stopped, or nobody reads it.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] where the system has no random numbers.
    pub(crate) fn keep(
        &self,
        running: Running,
        runtime: &tokio::runtime::Handle,
    ) -> Result<QueryStarted, Failure> {
        // Of another node, and of this one before it was started again, the number says nothing.
        let id = random_number().map_err(|e| {
            let what = format!("a number for the query cannot be drawn: {e}");
            Failure::new(ErrorCode::Internal, what)
        })?;
        let started = QueryStarted {
            id,
            kind: running.kind,
            columns: running.columns.clone(),
        };
        let (sender, asks) = mpsc::channel(1);
        lock(&self.known).insert(id, sender);
        let known = self.known.clone();
        runtime.spawn(async move {
            serve(running, asks).await;
            lock(&known).remove(&id);
        });
        Ok(started)
    }

    /// The next rows of a query.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a query that is over, and why one cannot go on.
    pub(crate) async fn read(&self, id: u64, wait_ms: u32) -> Read {
        let over = || {
            let what = format!(
                "there is no query {id} on this node: it is over, or was not read for {} s",
                IDLE.as_secs()
            );
            Failure::new(ErrorCode::NotFound, what)
        };
        let asks = lock(&self.known).get(&id).cloned().ok_or_else(over)?;
        let (reply, read) = oneshot::channel();
        let wait = Duration::from_millis(wait_ms.min(QUERY_WAIT_MS_MAX).into());
        asks.send(Ask { wait, reply }).await.map_err(|_| over())?;
        drop(asks);
        read.await.unwrap_or_else(|_| Err(over()))
    }

    /// Ends a query.
    pub(crate) fn stop(&self, id: u64) {
        // Its task sees that nobody can ask any more.
        lock(&self.known).remove(&id);
    }
}

fn lock(known: &Known) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<Ask>>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut running: Running, mut asks: mpsc::Receiver<Ask>) {
    while let Ok(Some(Ask { wait, reply })) = timeout(IDLE, asks.recv()).await {
        let read = tokio::select! {
            read = read(&mut running, wait) => read,
            // It was stopped, or is read twice at the same time.
            _ = asks.recv() => return,
        };
        let goes_on = matches!(&read, Ok((rows, _)) if !rows.is_end);
        // Rows that nobody took are gone, and so is the query.
        if reply.send(read).is_err() || !goes_on {
            return;
        }
    }
}

async fn read(running: &mut Running, wait: Duration) -> Read {
    let until = Instant::now() + wait;
    let (mut pieces, mut bytes, mut is_end) = (Vec::new(), 0, false);
    let mut next = timeout_at(until, running.next()).await.ok();
    while let Some(piece) = next {
        match piece? {
            Piece::End => {
                is_end = true;
                break;
            }
            Piece::Bytes(piece) if piece.len() > PIECE_BYTES_MAX => {
                let what = format!("a row has {} bytes: choose fewer columns", piece.len());
                return Err(Failure::new(ErrorCode::TooLarge, what));
            }
            Piece::Bytes(piece) => {
                bytes += piece.len();
                pieces.push(piece);
            }
        }
        next = match bytes < ANSWER_BYTES {
            true => running.next_now(),
            false => None,
        };
    }
    let statistics = running.counters.statistics();
    Ok((QueryRows { is_end, statistics }, pieces))
}
