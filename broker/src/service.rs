//! What a node does with a request, whichever door it came through.
//!
//! The service belongs to no thread: it finds the shard, asks its worker through the mailbox and
//! waits for the reply; what concerns the catalog it does itself, on a thread that may wait.

mod carry;
mod cluster;
mod copies;
mod deployed;
mod describe;
mod hand_over;
mod native_requests;
mod queries;
mod replay;
mod shards;
mod sql;
mod topics;
mod trial;
mod upgrade;

use crate::catalog_store::CatalogStore;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::file_limit;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::queries::Queries;
use crate::tiering::Tiering;
use crate::worker::{ConnectionPermit, Message};
use flowstone_core::catalog::{Command, Event};
use flowstone_core::input::TaskConfig;
use flowstone_core::{Catalog, Input, Reply};
use flowstone_wire::native::{HelloAnswer, InitProducerAnswer, Topic};
use flowstone_wire::{ErrorCode, Failure, PartitionId, ProducerId, ShardId, TopicId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

/// Producer numbers set aside at once: a crash loses the rest of them, which is fine.
const PRODUCERS_PER_TAKE: u64 = 1000;

/// Where partitions live; made again whenever a topic is made or deleted.
#[derive(Debug, Default)]
struct Places(HashMap<PartitionId, ShardId>);

impl Places {
    fn of(catalog: &Catalog) -> Self {
        let all = catalog.topics().flat_map(|t| &t.partitions);
        Self(all.map(|p| (p.id, p.shard)).collect())
    }
}

/// What the shards were told of the catalog.
#[derive(Debug, Default)]
struct Known {
    topics: BTreeMap<TopicId, Topic>,
    places: BTreeMap<ShardId, copies::ToldPlace>,
}

/// A node's service. See the module docs.
pub struct Service {
    catalog: CatalogStore,
    places: RwLock<Arc<Places>>,
    /// What the shards were told of the catalog.
    known: Mutex<Known>,
    /// Tasks of each shard, for one that is opened again.
    pub(crate) tasks: Mutex<BTreeMap<ShardId, BTreeMap<u32, TaskConfig>>>,
    /// What it has done about the deployed pipelines.
    following: tokio::sync::Mutex<deployed::Following>,
    /// The node that leads each shard; 0 where nobody is known to.
    leaders: Vec<AtomicU32>,
    cluster: Option<Arc<Cluster>>,
    mailboxes: Vec<Arc<Mailbox<Message>>>,
    shards: u16,
    runtime: tokio::runtime::Handle,
    /// Producer numbers that are set aside: the next one and how many are left.
    producers: Mutex<(ProducerId, u64)>,
    /// Connections that the native door takes.
    native_places: usize,
    /// Connections that the HTTP door takes.
    pub(crate) http_places: usize,
    connections: Arc<AtomicUsize>,
    ready: AtomicBool,
    draining: AtomicBool,
    fenced: Mutex<BTreeMap<ShardId, String>>,
    started: Instant,
    pub(crate) tiering: Option<Arc<Tiering>>,
    /// Queries that are asked once.
    pub(crate) queries: Queries,
    /// Every metric of the node.
    pub metrics: Metrics,
}

impl Service {
    pub(crate) fn new(
        config: Config,
        catalog: CatalogStore,
        mailboxes: Vec<Arc<Mailbox<Message>>>,
        runtime: tokio::runtime::Handle,
        metrics: Metrics,
        tiering: Option<Arc<Tiering>>,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        let current = catalog.current();
        let (native_places, http_places) =
            file_limit::doors(config.limits.connections, crate::http::CONNECTIONS_MAX);
        Self {
            places: RwLock::new(Arc::new(Places::of(&current))),
            shards: current.shards(),
            catalog,
            known: Mutex::default(),
            tasks: Mutex::default(),
            following: tokio::sync::Mutex::default(),
            leaders: (0..current.shards()).map(|_| AtomicU32::new(0)).collect(),
            cluster,
            mailboxes,
            runtime,
            producers: Mutex::new((ProducerId(0), 0)),
            connections: Arc::default(),
            native_places,
            http_places,
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            fenced: Mutex::default(),
            started: Instant::now(),
            tiering,
            queries: Queries::new(config.query),
            metrics,
        }
    }

    pub(crate) fn workers(&self) -> u16 {
        self.mailboxes.len() as u16
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    pub(crate) fn hello(&self) -> HelloAnswer {
        HelloAnswer {
            broker: format!("flowstone {}", env!("CARGO_PKG_VERSION")),
            workers: self.workers(),
            shards: self.shards,
        }
    }

    pub(crate) fn connection_permit(&self) -> Option<ConnectionPermit> {
        // A connection that moves between workers holds two for a moment.
        ConnectionPermit::take(&self.connections, self.native_places + 16)
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.queries.stop();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Seconds since the node started.
    pub fn uptime_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Why the node is not ready; `None` if it is.
    pub fn not_ready(&self) -> Option<String> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("the broker is shutting down".into());
        }
        if !self.ready.load(Ordering::Relaxed) {
            return Some("the broker is starting".into());
        }
        let fenced = self.fenced.lock().ok()?;
        let (shard, reason) = fenced.first_key_value()?;
        Some(format!(
            "shard {shard} takes nothing until a restart: {reason}"
        ))
    }

    pub(crate) fn shard_fenced(&self, shard: ShardId, reason: String) {
        self.metrics.fenced_shards.inc();
        if let Ok(mut fenced) = self.fenced.lock() {
            fenced.insert(shard, reason);
        }
    }

    /// Why a shard is not on its worker: it could not be opened.
    pub(crate) fn no_such_shard(&self, shard: ShardId) -> Failure {
        let fenced = self.fenced.lock().ok();
        let why = fenced.and_then(|f| f.get(&shard).cloned());
        match why {
            Some(why) => {
                let what = format!("shard {shard} could not be opened: {why}");
                Failure::new(ErrorCode::ShardFenced, what)
            }
            None => Failure::new(ErrorCode::Internal, format!("there is no shard {shard}")),
        }
    }

    /// The shard of a partition.
    pub(crate) fn shard_of(&self, partition: PartitionId) -> Option<ShardId> {
        self.places.read().ok()?.0.get(&partition).copied()
    }

    fn require_shard(&self, partition: PartitionId) -> Result<ShardId, Failure> {
        self.shard_of(partition).ok_or_else(|| {
            let what =
                format!("there is no partition {partition}; read the topic's partitions again");
            Failure::new(ErrorCode::UnknownPartition, what)
        })
    }

    fn mailbox(&self, shard: ShardId) -> &Mailbox<Message> {
        &self.mailboxes[usize::from(shard.0) % self.mailboxes.len()]
    }

    /// Tells a worker; `false` if its mailbox is full.
    pub(crate) fn tell_worker(&self, worker: u16, message: Message) -> bool {
        self.mailboxes
            .get(usize::from(worker))
            .is_some_and(|m| m.send(message).is_ok())
    }

    /// Tells a shard something that must not get lost.
    pub(crate) fn tell_shard(&self, shard: ShardId, input: Input) {
        self.mailbox(shard)
            .send_waiting(Message::Tell { shard, input });
    }

    /// A new idempotent producer.
    ///
    /// # Errors
    /// What storing the catalog says.
    pub(crate) async fn init_producer(self: Arc<Self>) -> Result<InitProducerAnswer, Failure> {
        if let Some(id) = self.take_producer() {
            return Ok(InitProducerAnswer { id, epoch: 0 });
        }
        let this = self.clone();
        let taken = self
            .command(Command::TakeProducers {
                count: PRODUCERS_PER_TAKE,
            })
            .await?;
        let Event::ProducersTaken(first) = taken else {
            return Err(Failure::new(
                ErrorCode::Internal,
                "the catalog gave no numbers",
            ));
        };
        if let Ok(mut producers) = this.producers.lock() {
            *producers = (ProducerId(first.0 + 1), PRODUCERS_PER_TAKE - 1);
        }
        Ok(InitProducerAnswer {
            id: first,
            epoch: 0,
        })
    }

    fn take_producer(&self) -> Option<ProducerId> {
        let mut producers = self.producers.lock().ok()?;
        let (next, left) = *producers;
        *producers = (ProducerId(next.0 + 1), left.checked_sub(1)?);
        Some(next)
    }

    /// Stores a command, on a thread that may wait for the disk.
    pub(crate) async fn command(self: Arc<Self>, command: Command) -> Result<Event, Failure> {
        let runtime = self.runtime.clone();
        let applied = runtime.spawn_blocking(move || {
            let event = self.catalog.apply(command)?;
            self.follow_catalog();
            Ok(event)
        });
        applied.await.unwrap_or_else(|e| {
            Err(Failure::new(
                ErrorCode::Internal,
                format!("the catalog's thread failed: {e}"),
            ))
        })
    }

    /// The shards of the node.
    pub(crate) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }
}

/// Whoever would have answered has ended.
pub(crate) fn shutting_down() -> Failure {
    Failure::new(ErrorCode::ShuttingDown, "the broker is shutting down")
}

/// A reply that does not belong to its request.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    let what = format!("a shard answered with something else: {reply:?}");
    Failure::new(
        ErrorCode::Internal,
        what.chars().take(200).collect::<String>(),
    )
}
