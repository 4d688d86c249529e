//! What stands between a broker and its bucket: an HTTP proxy that fails as it is told to.
//!
//! It works on requests and not on bytes, so that a test can say what becomes of the n-th one.

use crate::confined::pass;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where the request that stops everything is stopped itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It never reaches the bucket.
    Before,
    /// Half of what it sends does.
    Midway,
    /// It happens, and its answer gets lost.
    Behind,
}

/// What the proxy does with requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Passes them on.
    Good,
    /// Nobody listens.
    Refuses,
    /// Takes them and answers nothing.
    Hangs,
    /// Answers this status.
    Status(u16),
    /// Passes them on so much later.
    Slow(Duration),
    /// Of every n-th the request or the answer ends in the middle.
    Cuts(u64),
    /// Passes so many on, stops the next one there, and answers nothing any more.
    StopsAt(u64, Stop),
}

#[derive(Default)]
struct Seen {
    /// Requests since the mode was set.
    requests: u64,
    /// Method and path of all.
    log: Vec<String>,
}

struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    seen: Mutex<Seen>,
    stopped: watch::Sender<bool>,
}

/// The proxy.
#[derive(Clone)]
pub(crate) struct Faults {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Faults {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new(Mode::Good),
            seen: Mutex::default(),
            stopped: watch::Sender::new(false),
        });
        tokio::spawn(listen(listener, address, shared.clone()));
        Self { shared, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what is done. What hangs from before is cut off.
    pub(crate) fn set(&self, mode: Mode) {
        let mut seen = self.shared.seen.lock().unwrap();
        seen.requests = 0;
        self.shared.stopped.send_replace(false);
        self.shared.mode.send_replace(mode);
    }

    /// Waits until the request came that stops everything.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.shared.stopped.subscribe();
        stopped.wait_for(|s| *s).await.unwrap();
    }

    /// Requests since the mode was set.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.seen.lock().unwrap().requests
    }

    /// Methods and paths of the requests so far, and forgets them.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.seen.lock().unwrap().log)
    }
}

async fn listen(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(listener);
    loop {
        let refuses = *mode.borrow_and_update() == Mode::Refuses;
        if refuses {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => TcpListener::bind(address).await.unwrap(),
        };
        tokio::select! {
            Ok((socket, _)) = open.accept() => { tokio::spawn(serve(socket, shared.clone())); }
            changed = mode.changed() => if changed.is_err() { return },
        }
        listener = Some(open);
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let mut refused = shared.mode.subscribe();
    let answer = move |request| answer(shared.clone(), request);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service_fn(answer));
    tokio::select! {
        _ = connection => {}
        _ = refused.wait_for(|m| *m == Mode::Refuses) => {}
    }
}

/// What becomes of one request.
enum Fate {
    Good,
    Hangs,
    Status(u16),
    Slow(Duration),
    Cut,
    Stopped(Stop),
}

impl Shared {
    fn fate(&self, request: &Request<Incoming>) -> Fate {
        let mut seen = self.seen.lock().unwrap();
        let line = format!("{} {}", request.method(), request.uri());
        seen.log.push(line);
        seen.requests += 1;
        let number = seen.requests;
        match *self.mode.borrow() {
            Mode::Good => Fate::Good,
            Mode::Refuses | Mode::Hangs => Fate::Hangs,
            Mode::Status(status) => Fate::Status(status),
            Mode::Slow(time) => Fate::Slow(time),
            Mode::Cuts(n) if number.is_multiple_of(n) => Fate::Cut,
            Mode::Cuts(_) => Fate::Good,
            Mode::StopsAt(at, _) if number <= at => Fate::Good,
            Mode::StopsAt(at, stop) if number == at + 1 => Fate::Stopped(stop),
            Mode::StopsAt(..) => Fate::Hangs,
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Passing>, BoxError> {
    let mut mode = shared.mode.subscribe();
    mode.mark_unchanged();
    let fate = shared.fate(&request);
    let from = shared.upstream;
    match fate {
        Fate::Good => forward(from, request, None).await,
        Fate::Slow(time) => {
            pass(time).await;
            forward(from, request, None).await
        }
        Fate::Status(status) => {
            let mut response = Response::new(Passing::empty());
            *response.status_mut() = status.try_into().unwrap();
            Ok(response)
        }
        Fate::Cut if request.method() == Method::PUT => {
            let half = Some(half(&request));
            tokio::select! {
                done = forward(from, request, half) => done.and(Err("cut".into())),
                () = pass(Duration::from_millis(300)) => Err("cut".into()),
            }
        }
        Fate::Cut => {
            let mut response = forward(from, request, None).await?;
            let body = response.body_mut();
            body.left = Some(body.size_hint().lower() / 2);
            body.fails = true;
            Ok(response)
        }
        Fate::Hangs => {
            mode.changed().await?;
            Err("it hung".into())
        }
        Fate::Stopped(stop) => {
            let end = async {
                match stop {
                    Stop::Before => {}
                    Stop::Behind => drop(forward(from, request, None).await),
                    Stop::Midway => {
                        let half = Some(half(&request));
                        let sent = forward(from, request, half);
                        // What has no body is over at once, the half of a body never.
                        let _ = tokio::time::timeout(Duration::from_millis(200), sent).await;
                    }
                }
                shared.stopped.send_replace(true);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = end => {}
                _ = mode.changed() => {}
            }
            Err("everything stopped".into())
        }
    }
}

fn half(request: &Request<Incoming>) -> u64 {
    request.body().size_hint().lower() / 2
}

/// Passes a request on, and its answer back; of its body only so many bytes if that is given.
async fn forward(
    upstream: SocketAddr,
    request: Request<Incoming>,
    left: Option<u64>,
) -> Result<Response<Passing>, BoxError> {
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    let request = request.map(|body| Passing {
        body: Some(body),
        left: left.filter(|left| *left > 0),
        fails: false,
        connection: None,
    });
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Passing {
        body: Some(body),
        left: None,
        fails: false,
        connection: Some(connection),
    }))
}

/// A connection to the bucket, which ends with what it is for.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body on its way.
struct Passing {
    body: Option<Incoming>,
    /// Bytes that still pass, where not all do.
    left: Option<u64>,
    /// Behind them it fails; otherwise nothing comes any more.
    fails: bool,
    connection: Option<Connection>,
}

impl Passing {
    fn empty() -> Self {
        Self {
            body: None,
            left: None,
            fails: false,
            connection: None,
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == Some(0) {
            return match self.fails {
                true => Poll::Ready(Some(Err("cut".into()))),
                false => Poll::Pending,
            };
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        let frame = match (frame, self.left) {
            (Some(Ok(frame)), Some(left)) => match frame.into_data() {
                Ok(mut data) => {
                    data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    self.left = Some(left - data.len() as u64);
                    Some(Ok(Frame::data(data)))
                }
                Err(other) => Some(Ok(other)),
            },
            (frame, _) => frame.map(|f| f.map_err(BoxError::from)),
        };
        if frame.is_none() {
            self.connection = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(empty, Body::size_hint)
    }
}
