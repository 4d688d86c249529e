//! Queries that are asked once: at work on threads of their own, behind everything else, and no more
//! than a bounded number at once.
//!
//! ```text
//! HTTP body, or cursor <--pieces-- query (threads `query`) <--batches-- shards, wherever they are led
//! ```
//!
//! Pieces wait in a short channel: nothing is computed far ahead of who reads, and a query whose
//! reader has gone ends.

mod cursors;
mod settings;

pub(crate) use cursors::Cursors;
pub use settings::QuerySettings;

use crate::low_priority;
use crate::service::shutting_down;
use bytes::Bytes;
use flowstone_processor::contained::contain_thread;
use flowstone_query::{Answer, Counters, Encoder, Engine, Format, Limits, Options, Source};
use flowstone_sql::Planned;
use flowstone_wire::native::{PipelineTrial, QueryColumn, QueryKind};
use flowstone_wire::{ErrorCode, Failure};
use futures_util::StreamExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

/// Pieces that wait for who reads.
const PIECES: usize = 2;
/// A query whose reader does not read for so long ends.
const UNREAD: Duration = Duration::from_secs(60);
/// Threads that may wait, of a runtime that has nothing that waits.
const BLOCKING_MAX: usize = 1;

/// A piece of an answer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Some of it.
    Bytes(Bytes),
    /// There is no more.
    End,
}

/// Picks the format for what a query gives.
pub(crate) type ChooseFormat = Box<dyn FnOnce(QueryKind) -> Result<Format, Failure> + Send>;

/// A query that was understood, at work. Dropping it ends the work.
pub(crate) struct Running {
    pub(crate) kind: QueryKind,
    pub(crate) format: Format,
    pub(crate) columns: Vec<QueryColumn>,
    pub(crate) counters: Arc<Counters>,
    pieces: mpsc::Receiver<Result<Piece, Failure>>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Running {
    /// The next piece; a query that ends without an end has failed.
    pub(crate) async fn next(&mut self) -> Result<Piece, Failure> {
        self.pieces.recv().await.unwrap_or_else(|| Err(ended()))
    }

    /// As [`Self::next`], for bodies.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Piece, Failure>> {
        let piece = self.pieces.poll_recv(cx);
        piece.map(|piece| piece.unwrap_or_else(|| Err(ended())))
    }

    /// A piece that is there already.
    pub(crate) fn next_now(&mut self) -> Option<Result<Piece, Failure>> {
        match self.pieces.try_recv() {
            Ok(piece) => Some(piece),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Err(ended())),
        }
    }
}

fn ended() -> Failure {
    let what = "the query ended in the middle; the log of the broker says why";
    Failure::new(ErrorCode::Internal, what)
}

/// What all queries share.
pub(crate) struct Queries {
    settings: QuerySettings,
    places: Arc<Semaphore>,
    engine: OnceLock<Result<Arc<Engine>, Failure>>,
    /// Made with the first query.
    threads: Mutex<Option<Runtime>>,
    stop: watch::Sender<bool>,
    pub(crate) cursors: Cursors,
}

impl Queries {
    pub(crate) fn new(settings: QuerySettings) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.concurrent)),
            engine: OnceLock::new(),
            threads: Mutex::default(),
            stop: watch::Sender::new(false),
            cursors: Cursors::default(),
            settings,
        }
    }

    /// Ends all queries; none begins any more.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.places.close();
    }

    /// Begins a query.
    ///
    /// # Errors
    /// What [`Engine::ask`] says; [`ErrorCode::Busy`] where too many run.
    pub(crate) async fn start(
        &self,
        source: Arc<dyn Source>,
        text: String,
        options: Options,
        choose: ChooseFormat,
    ) -> Result<Running, Failure> {
        let place = self.place()?;
        let (engine, threads) = (self.engine()?, self.threads()?);
        let (tell, told) = oneshot::channel();
        let job = Job {
            stopped: self.stop.subscribe(),
            place: Arc::new(place),
        };
        threads.spawn(async move {
            let asked = async { engine.ask(source, &text, options).await };
            job.run(asked, choose, tell).await;
        });
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Runs a pipeline over the last records of its topics.
    ///
    /// # Errors
    /// What [`Engine::try_pipeline`] says; [`ErrorCode::Busy`] where too many queries run.
    pub(crate) async fn try_pipeline(
        &self,
        source: Arc<dyn Source>,
        planned: Planned,
        records: u64,
    ) -> Result<PipelineTrial, Failure> {
        let place = self.place()?;
        let (engine, threads) = (self.engine()?, self.threads()?);
        let (mut tell, told) = oneshot::channel();
        let mut stopped = self.stop.subscribe();
        threads.spawn(async move {
            let tried = tokio::select! {
                tried = engine.try_pipeline(source, &planned, records) => tried,
                () = tell.closed() => return,
                _ = stopped.wait_for(|stop| *stop) => Err(shutting_down()),
            };
            drop(place);
            drop(tell.send(tried));
        });
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if self.places.is_closed() {
            return Err(shutting_down());
        }
        self.places.clone().try_acquire_owned().map_err(|_| {
            let what = format!(
                "{} queries run already (setting query.concurrent): end one, or try again",
                self.settings.concurrent
            );
            Failure::new(ErrorCode::Busy, what)
        })
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        let limits = Limits {
            memory_bytes: self.settings.memory_bytes,
            threads: self.settings.threads,
        };
        let engine = || Engine::new(limits).map(Arc::new);
        self.engine.get_or_init(engine).clone()
    }

    fn threads(&self) -> Result<Handle, Failure> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = &*threads {
            return Ok(threads.handle().clone());
        }
        let made = low_priority::threads(
            "query",
            self.settings.threads,
            BLOCKING_MAX,
            // A function that panics ends its query, and nothing else.
            contain_thread,
        );
        let made = made.map_err(|e| {
            let what = format!("the threads of queries cannot be started: {e}");
            Failure::new(ErrorCode::Internal, what)
        })?;
        Ok(threads.insert(made).handle().clone())
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        let threads = self.threads.get_mut().map(Option::take);
        if let Ok(Some(threads)) = threads {
            // The last who has it may be a thread that must not wait.
            threads.shutdown_background();
        }
    }
}

/// One query on its thread.
struct Job {
    stopped: watch::Receiver<bool>,
    place: Arc<OwnedSemaphorePermit>,
}

impl Job {
    async fn run(
        mut self,
        asked: impl Future<Output = Result<Answer, Failure>>,
        choose: ChooseFormat,
        mut tell: oneshot::Sender<Result<Running, Failure>>,
    ) {
        let answer = tokio::select! {
            answer = asked => answer,
            () = tell.closed() => return,
            _ = self.stopped.wait_for(|stop| *stop) => Err(shutting_down()),
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let begun = answer.and_then(|answer| {
            let format = choose(answer.kind)?;
            let encoder = Encoder::new(format, &answer.schema)?;
            let running = Running {
                kind: answer.kind,
                format,
                columns: answer.columns(),
                counters: answer.counters.clone(),
                pieces,
                _place: self.place.clone(),
            };
            Ok((running, answer, encoder))
        });
        // Where nobody listens any more, sending the first piece fails.
        match begun {
            Err(failure) => drop(tell.send(Err(failure))),
            Ok((running, answer, encoder)) => {
                drop(tell.send(Ok(running)));
                self.give(answer, encoder, &sender).await;
            }
        }
    }

    /// Gives out the rows until they end, or nobody wants them.
    async fn give(
        &mut self,
        answer: Answer,
        encoder: Encoder,
        sender: &mpsc::Sender<Result<Piece, Failure>>,
    ) {
        let given = tokio::select! {
            given = give_all(answer, encoder, sender) => given,
            () = sender.closed() => return,
            _ = self.stopped.wait_for(|stop| *stop) => Err(shutting_down()),
        };
        if let Err(failure) = given {
            // A reader that has gone needs no reason. One that does not read is not waited for when
            // the broker stops: its channel just ends.
            let is_waited_for = !*self.stopped.borrow() && failure.code != ErrorCode::Timeout;
            let _ = if !is_waited_for {
                sender.try_send(Err(failure)).is_ok()
            } else {
                sender.send(Err(failure)).await.is_ok()
            };
        }
    }
}

async fn give_all(
    mut answer: Answer,
    mut encoder: Encoder,
    sender: &mpsc::Sender<Result<Piece, Failure>>,
) -> Result<(), Failure> {
    while let Some(rows) = answer.rows.next().await {
        for piece in encoder.rows(&rows?)? {
            if !given(sender, Piece::Bytes(piece)).await? {
                return Ok(());
            }
        }
        // Whoever else asks has a turn.
        tokio::task::yield_now().await;
    }
    let end = encoder.end(&answer.counters.statistics())?;
    for piece in [Piece::Bytes(end), Piece::End] {
        if !given(sender, piece).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Gives out a piece; says whether there is still a reader.
async fn given(
    sender: &mpsc::Sender<Result<Piece, Failure>>,
    piece: Piece,
) -> Result<bool, Failure> {
    match timeout(UNREAD, sender.send(Ok(piece))).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => {
            let what = format!("nobody has read the answer for {} s", UNREAD.as_secs());
            Err(Failure::new(ErrorCode::Timeout, what))
        }
    }
}
