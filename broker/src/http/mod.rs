//! The HTTP door: a JSON API, health and metrics, on the control threads.
//!
//! Every error is an RFC 9457 problem document; see `problem`.

mod body;
mod cluster;
mod events;
mod groups;
mod idempotency;
mod pipelines;
mod problem;
mod read;
mod sql;
mod status;
mod topics;

pub(crate) use pipelines::replay_from;
pub(crate) use read::{parse_place, row as record_as_json};

use crate::service::Service;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, post, put};
use flowstone_wire::limits::HTTP_BODY_BYTES_MAX;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use idempotency::Idempotency;
use rustix::net::sockopt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// A peer that has not sent its headers by then is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not acknowledge anything for so long is let go.
const PEER_SILENCE: Duration = Duration::from_secs(60);
/// Open connections; a further one is told that there is no room.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// Of so many connections as are open one may be being told so; beyond that they are closed without a
/// word.
const PLACES_PER_REFUSAL: usize = 4;
/// So long a peer that is told so may take to hear it.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Headers of one request, in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// What every handler has.
pub(crate) struct Door {
    pub(crate) service: Arc<Service>,
    idempotency: Idempotency,
    /// Bytes of bodies.
    bodies: Semaphore,
    /// Events without key and partition go round.
    next_partition: AtomicU32,
}

type Shared = State<Arc<Door>>;

/// A running HTTP door.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/api/v1/topics", get(topics::list).post(topics::create))
        .route(
            "/api/v1/topics/{topic}",
            get(topics::describe).delete(topics::delete),
        )
        .route("/api/v1/events/{topic}", get(read::read).post(events::post))
        .route("/api/v1/sql", post(sql::ask))
        .route("/api/v1/groups", get(groups::list))
        .route(
            "/api/v1/groups/{group}/offsets",
            get(groups::read).put(groups::commit),
        )
        .route(
            "/api/v1/pipelines",
            get(status::pipelines).post(pipelines::deploy),
        )
        .route("/api/v1/pipeline-trials", post(pipelines::attempt))
        .route(
            "/api/v1/pipelines/{pipeline}",
            get(pipelines::describe).delete(pipelines::delete),
        )
        .route("/api/v1/pipelines/{pipeline}/pause", post(pipelines::pause))
        .route(
            "/api/v1/pipelines/{pipeline}/replay",
            post(pipelines::replay),
        )
        .route(
            "/api/v1/pipelines/{pipeline}/switch",
            post(pipelines::switch),
        )
        .route(
            "/api/v1/pipelines/{pipeline}/resume",
            post(pipelines::resume),
        )
        .route("/api/v1/shards", get(status::shards))
        .route("/api/v1/tier", get(status::tier))
        .route("/api/v1/cluster", get(cluster::status))
        .route("/api/v1/cluster/tokens", post(cluster::make_token))
        .route("/api/v1/cluster/copies", put(cluster::set_copies))
        .route("/api/v1/cluster/nodes/{node}", put(cluster::set_node))
        .route("/api/v1/cluster/shards/{shard}", put(cluster::transfer))
        .route("/api/v1/version", get(status::version))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(axum::middleware::from_fn_with_state(
            door.clone(),
            body::read,
        ))
        .layer(axum::middleware::from_fn_with_state(door.clone(), count))
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .with_state(door)
}

/// Counts requests by route, never by what a peer makes up.
async fn count(State(door): Shared, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("none".to_string(), |m| m.as_str().to_string());
    let response = next.run(request).await;
    let status = response.status().as_str().to_string();
    door.service
        .metrics
        .http_requests
        .with_label_values(&[&route, &status])
        .inc();
    response
}

impl Server {
    /// Opens the door.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start(service: Arc<Service>, address: SocketAddr) -> std::io::Result<Self> {
        let runtime = service.runtime().clone();
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let door = Arc::new(Door {
            service,
            idempotency: Idempotency::default(),
            bodies: Semaphore::new(body::ALL_BYTES_MAX),
            next_partition: AtomicU32::new(0),
        });
        let places = door.service.http_places;
        runtime.spawn(accept(listener, places, router(door), stopped));
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the door: no new connections, the open ones end after their request.
    pub(crate) fn stop(&self) {
        // Nobody listens any more: it is closed already.
        let _ = self.stop.send(true);
    }
}

async fn accept(
    listener: TcpListener,
    places_count: usize,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(places_count));
    let refusals = Arc::new(Semaphore::new(places_count.div_ceil(PLACES_PER_REFUSAL)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    refuse(stream, &refusals);
                    continue;
                };
                let (router, stopped) = (router.clone(), stopped.clone());
                tokio::spawn(async move {
                    serve(stream, router, stopped).await;
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!("an HTTP connection was not accepted: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Tells a peer that there is no room, without hearing what it wants.
fn refuse(mut stream: TcpStream, refusals: &Arc<Semaphore>) {
    let Ok(place) = refusals.clone().try_acquire_owned() else {
        return;
    };
    tokio::spawn(async move {
        let telling = async {
            stream.write_all(problem::no_room().as_bytes()).await?;
            stream.shutdown().await?;
            // Closing with bytes unread would take the answer back.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        // It is closed in any case.
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, telling).await;
        drop(place);
    });
}

fn watch_peer(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PEER_SILENCE / 2)?;
    sockopt::set_tcp_keepintvl(stream, PEER_SILENCE / 6)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, PEER_SILENCE.as_millis() as u32)
}

async fn serve(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    // Without it small answers wait for the peer's acknowledgements.
    let _ = stream.set_nodelay(true);
    // A peer that has vanished is let go, also while it is owed rows that come seldom.
    if let Err(e) = watch_peer(&stream) {
        tracing::debug!("whether the peer is there is not asked: {e}");
    }
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("an HTTP connection ended: {e}");
    }
}
