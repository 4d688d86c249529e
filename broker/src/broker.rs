//! Starting and stopping a node.

mod accept;
mod found;
mod opened;

pub(crate) use opened::{Opened, open};

use crate::cluster::{self, Cluster};
use crate::config::{self, Config};
use crate::data_dir::{self, DataDir, random_number};
use crate::effects::ShardFiles;
use crate::http;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::service::Service;
use crate::tiering::{self, Backup, Tiering, sweep};
use crate::transport::InProcess;
use crate::worker::{self, Message, WorkerStart};
use accept::Acceptor;
use flowstone_client::Client;
use flowstone_core::Shard;
use flowstone_processor::Pipeline;
use flowstone_storage::RealDisk;
use flowstone_wire::{Failure, NodeId, ShardId};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A stop waits so long for the tier.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the data directory of these settings, which nobody has open, that of the first node of a cluster.
/// Returns the cluster's number.
///
/// # Errors
/// [`StartError`].
pub(crate) fn init(config: &Config) -> Result<String, StartError> {
    let data = open_data(config)?;
    open(&data, config)?;
    Ok(data.identity.cluster_id)
}

fn open_data(config: &Config) -> Result<DataDir, StartError> {
    let wanted = match config.node.shards {
        0 => config.workers(),
        shards => shards,
    };
    Ok(DataDir::open(&config.node.data, wanted)?)
}

/// A running node. Dropping it stops it in order.
pub struct Broker {
    service: Arc<Service>,
    mailboxes: Vec<Arc<Mailbox<Message>>>,
    workers: Vec<JoinHandle<()>>,
    acceptors: Vec<Acceptor>,
    http: Option<http::Server>,
    runtime: Option<tokio::runtime::Runtime>,
    tier_threads: Option<tokio::runtime::Runtime>,
    backup: Option<Arc<tokio::sync::Mutex<Backup>>>,
    cluster: Option<Arc<Cluster>>,
    native: Option<SocketAddr>,
    native_unix: Option<PathBuf>,
    _data: DataDir,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is not valid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The catalog cannot be used.
    #[error("{0}")]
    Catalog(String),
    /// The node cannot be one of a cluster.
    #[error("{0}")]
    Cluster(String),
    /// A shard cannot be opened.
    #[error("shard {shard} cannot be opened: {source}")]
    Shard {
        /// Which one.
        shard: ShardId,
        /// Why.
        source: flowstone_storage::Error,
    },
    /// The tier cannot be used.
    #[error("the tier: {0}")]
    Tier(#[from] flowstone_tier::TierError),
    /// A door cannot be opened.
    #[error("cannot open the {door} door on '{address}': {why}")]
    Door {
        /// Which one.
        door: &'static str,
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// A pipeline of the settings cannot run.
    #[error("pipeline '{name}' cannot run: {source}")]
    Pipeline {
        /// Which one.
        name: String,
        /// Why.
        source: Failure,
    },
    /// The operating system says no.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { action, source }
}

impl Broker {
    /// Starts a node: recovers its shards, opens its doors, deploys the pipelines of its settings.
    /// On return it is ready.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let workers = config.workers();
        let data = open_data(&config)?;
        let shards = data.identity.shards;
        let Opened {
            catalog,
            shards: opened,
            broken,
            copies,
        } = open(&data, &config)?;
        let cluster = copies.map(|copies| open_cluster(&config, copies));
        let cluster = cluster.transpose()?.map(Arc::new);
        let runtime = control_threads()?;
        let (tiering, tier_threads) = open_tier(&config, &data)?.unzip();
        let (mut mailboxes, mut ears) = (Vec::new(), Vec::new());
        for _ in 0..workers.min(shards) {
            let (mailbox, ear) = Mailbox::new().map_err(system("make a mailbox"))?;
            mailboxes.push(Arc::new(mailbox));
            ears.push(ear);
        }
        let metrics = Metrics::new(config.tier.is_some(), cluster.is_some())
            .map_err(|e| StartError::Catalog(e.to_string()))?;
        let handle = runtime.handle().clone();
        let service = Arc::new(Service::new(
            config.clone(),
            catalog,
            mailboxes.clone(),
            handle,
            metrics,
            tiering.clone(),
            cluster.clone(),
        ));
        let backup = match tiering {
            Some(tiering) => Some(keep_tier(tiering, &service, &data)?),
            None => None,
        };
        let mut broker = Self {
            service,
            mailboxes,
            workers: Vec::new(),
            acceptors: Vec::new(),
            http: None,
            runtime: Some(runtime),
            tier_threads,
            backup,
            cluster,
            native: None,
            native_unix: None,
            _data: data,
        };
        for (shard, why) in broken {
            broker.service.shard_fenced(shard, why.to_string());
        }
        broker.start_workers(&config, opened, ears)?;
        broker.join_others();
        broker.open_partitions();
        broker.deploy_configured(&config)?;
        broker.open_doors(&config)?;
        broker.announce(&config)?;
        broker.service.set_ready();
        Ok(broker)
    }

    /// Makes the data directory of these settings, which is empty, that of a new node of a cluster. `from` is
    /// what `flowstone cluster token` prints. Returns the node's number. Not to be called from an async
    /// context; what fails can be tried again with the same token.
    ///
    /// # Errors
    /// [`StartError::Cluster`].
    pub fn join(config: &Config, from: &str) -> Result<NodeId, StartError> {
        cluster::join(&config.node.data, from, &config.cluster).map_err(StartError::Cluster)
    }

    fn start_workers(
        &mut self,
        config: &Config,
        opened: Vec<(ShardId, Option<(Shard, ShardFiles)>)>,
        ears: Vec<std::os::unix::net::UnixStream>,
    ) -> Result<(), StartError> {
        let count = self.mailboxes.len();
        let mut by_worker: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for opened in opened {
            by_worker[usize::from(opened.0.0) % count].push(opened);
        }
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        for (id, (shards, ear)) in by_worker.into_iter().zip(ears).enumerate() {
            let start = WorkerStart {
                id: id as u16,
                shards,
                mailbox: self.mailboxes[id].clone(),
                ear,
                service: self.service.clone(),
                spin: config.node.spin_us,
                settle_bytes_per_s: config.settle.rate_bytes_per_s / count as u64,
                // From the last core down: the first is where interrupts tend to go.
                core: cores
                    .len()
                    .checked_sub(1 + id)
                    .and_then(|at| cores.get(at))
                    .copied(),
            };
            self.workers
                .push(worker::spawn(start).map_err(system("start a worker"))?);
        }
        Ok(())
    }

    /// Begins to speak with other nodes.
    fn join_others(&self) {
        if let Some(cluster) = &self.cluster {
            cluster::connect_catalog(cluster, self.service.catalog_store());
            cluster.run(&self.service, &self._data.path);
        }
    }

    /// Has the catalog say where this node is.
    fn announce(&self, config: &Config) -> Result<(), StartError> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let doors = (Some(cluster.address()), self.native, self.http_address());
        let addresses = cluster::addresses(&config.cluster.advertise, doors);
        cluster::announce(&self.service, addresses.map_err(StartError::Cluster)?);
        Ok(())
    }

    /// Tells the shards which partitions exist, and that they know all.
    fn open_partitions(&self) {
        self.service.follow_catalog();
        let following = Service::keep_following(Arc::downgrade(&self.service));
        self.service.runtime().spawn(following);
        for mailbox in &self.mailboxes {
            mailbox.send_waiting(Message::CloseUnknown);
        }
    }

    fn deploy_configured(&self, config: &Config) -> Result<(), StartError> {
        for spec in &config.pipelines {
            let failed = |source| StartError::Pipeline {
                name: spec.name.clone(),
                source,
            };
            let pipeline = spec.build().map_err(failed)?;
            if self.cluster.is_some() {
                // The others may not be there yet.
                let deployed = self.service.clone().keep_deploying(pipeline);
                self.service.runtime().spawn(deployed);
            } else {
                self.deploy(pipeline).map_err(failed)?;
            }
        }
        let runtime = self.service.runtime();
        if self.cluster.is_none() {
            runtime.block_on(self.service.follow_deployed());
        }
        runtime.spawn(Service::keep_deployed(Arc::downgrade(&self.service)));
        Ok(())
    }

    fn open_doors(&mut self, config: &Config) -> Result<(), StartError> {
        let node = &config.node;
        if !node.native.is_empty() {
            let (acceptor, address) = Acceptor::tcp(node, &self.service)?;
            self.acceptors.push(acceptor);
            self.native = Some(address);
        }
        if !node.native_unix.is_empty() {
            self.acceptors
                .push(Acceptor::unix(&node.native_unix, &self.service)?);
            self.native_unix = Some(node.native_unix.clone().into());
        }
        if !node.http.is_empty() {
            let address = accept::resolve("http", &node.http, node.allow_remote)?;
            let server = http::Server::start(self.service.clone(), address).map_err(|e| {
                StartError::Door {
                    door: "http",
                    address: node.http.clone(),
                    why: e.to_string(),
                }
            })?;
            self.http = Some(server);
        }
        Ok(())
    }

    /// Deploys a pipeline: it goes on from where a pipeline of this name stopped. Not to be called
    /// from an async context.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn deploy(&self, pipeline: Pipeline) -> Result<(), Failure> {
        self.service
            .runtime()
            .block_on(self.service.clone().deploy(pipeline))
    }

    /// A client of this node that uses no socket.
    pub fn client(&self) -> Client {
        Client::over(Arc::new(InProcess(self.service.clone())))
    }

    /// What the node does with requests.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The runtime of the control threads, for tasks of an embedding program.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.service.runtime()
    }

    /// Address of the native door.
    pub fn native_address(&self) -> Option<SocketAddr> {
        self.native
    }

    /// Where other nodes reach this one.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.cluster.as_ref().map(|c| c.address())
    }

    /// Path of the native door's Unix socket.
    pub fn native_unix(&self) -> Option<&PathBuf> {
        self.native_unix.as_ref()
    }

    /// Address of the HTTP door.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(http::Server::address)
    }

    /// Stops in order: no new requests, everything synced and materialised. Returns whether it was
    /// done in time.
    pub fn stop(mut self, timeout: Duration) -> bool {
        self.shut_down(timeout)
    }

    /// A last time, so that a bucket says where groups were when the node stopped.
    fn write_backup(&self) {
        let (Some(backup), Some(runtime)) = (&self.backup, &self.runtime) else {
            return;
        };
        let write = async { backup.lock().await.write(true).await };
        let written = runtime.block_on(async { tokio::time::timeout(BACKUP_TIMEOUT, write).await });
        match written {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!("the tier does not know the last group positions: {e}"),
            Err(_) => tracing::warn!("the tier does not know the last group positions: no answer"),
        }
    }

    fn shut_down(&mut self, timeout: Duration) -> bool {
        if self.runtime.is_none() {
            return true;
        }
        self.write_backup();
        if let Some(runtime) = &self.runtime {
            runtime.block_on(self.service.clone().hand_over());
        }
        self.service.set_draining();
        self.acceptors.clear();
        let (done, drained) = std::sync::mpsc::channel();
        for mailbox in &self.mailboxes {
            let done = done.clone();
            mailbox.send_waiting(Message::Drain(Box::new(move || {
                // Nobody waits any more: the time is over.
                let _ = done.send(());
            })));
        }
        let deadline = std::time::Instant::now() + timeout;
        let in_time = self.mailboxes.iter().all(|_| {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            drained.recv_timeout(left).is_ok()
        });
        if let Some(http) = self.http.take() {
            http.stop();
        }
        if in_time {
            for worker in self.workers.drain(..) {
                if worker.join().is_err() {
                    tracing::error!("a worker panicked");
                }
            }
        }
        if let Some(cluster) = &self.cluster {
            cluster.stop();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
        if let Some(threads) = self.tier_threads.take() {
            threads.shutdown_timeout(Duration::from_secs(2));
        }
        in_time
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shut_down(Duration::from_secs(30));
    }
}

fn open_cluster(
    config: &Config,
    (copies, credentials): (Arc<cluster::Copies>, flowstone_peer::Credentials),
) -> Result<Cluster, StartError> {
    let settings = &config.cluster;
    let listen = accept::resolve("peer", &settings.peer, config.node.allow_remote)?;
    // A number that no other start of this node has.
    let life = random_number().map_err(system("draw a number"))?;
    Cluster::open(settings, listen, credentials, life, copies)
        .map_err(|e| StartError::Cluster(e.to_string()))
}

fn control_threads() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(16)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("start the control threads"))
}

fn open_tier(
    config: &Config,
    data: &DataDir,
) -> Result<Option<(Arc<Tiering>, tokio::runtime::Runtime)>, StartError> {
    let Some(tier) = config.tier.clone() else {
        return Ok(None);
    };
    let threads = tiering::threads().map_err(system("start the threads of the tier"))?;
    let identity = &data.identity;
    let cluster = (!config.cluster.peer.is_empty()).then(|| identity.cluster_id.clone());
    let who = (identity.node_id.clone(), cluster);
    let tiering = Tiering::start(tier, &data.path, who, threads.handle().clone())?;
    Ok(Some((tiering, threads)))
}

/// Starts what keeps the tier in step with the catalog.
fn keep_tier(
    tiering: Arc<Tiering>,
    service: &Arc<Service>,
    data: &DataDir,
) -> Result<Arc<tokio::sync::Mutex<Backup>>, StartError> {
    let disk = RealDisk::new(&data.path).map_err(system("open the data directory"))?;
    let (of, with) = (Arc::downgrade(&tiering), Arc::downgrade(service));
    service.runtime().spawn(sweep(of, with, Arc::new(disk)));
    let cluster_id = data.identity.cluster_id.clone();
    Ok(Backup::start(tiering, service, &data.path, cluster_id))
}
