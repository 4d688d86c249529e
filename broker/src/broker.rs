//! Starting and stopping a node.

mod accept;
mod found;

use crate::catalog_store::CatalogStore;
use crate::config::{self, Config};
use crate::data_dir::{self, DataDir};
use crate::effects::ShardFiles;
use crate::http;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::reserve::Reserve;
use crate::service::Service;
use crate::tiering::{self, Backup, Tiering, sweep};
use crate::transport::InProcess;
use crate::worker::{self, Message, WorkerStart};
use accept::Acceptor;
use flowstone_client::Client;
use flowstone_core::Shard;
use flowstone_processor::Pipeline;
use flowstone_storage::disk::create_dir_durably;
use flowstone_storage::settled::remove_orphans;
use flowstone_storage::{Disk, RealDisk, StateStore, layout};
use flowstone_wire::{Failure, ShardId};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A stop waits so long for the tier.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(5);

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
        let wanted = match config.node.shards {
            0 => workers,
            shards => shards,
        };
        let data = DataDir::open(&config.node.data, wanted)?;
        let shards = data.identity.shards;
        let Opened {
            catalog,
            shards: opened,
            broken,
        } = open(&data, &config)?;
        let runtime = control_threads()?;
        let (tiering, tier_threads) = open_tier(&config, &data)?.unzip();
        let (mut mailboxes, mut ears) = (Vec::new(), Vec::new());
        for _ in 0..workers.min(shards) {
            let (mailbox, ear) = Mailbox::new().map_err(system("make a mailbox"))?;
            mailboxes.push(Arc::new(mailbox));
            ears.push(ear);
        }
        let metrics =
            Metrics::new(config.tier.is_some()).map_err(|e| StartError::Catalog(e.to_string()))?;
        let handle = runtime.handle().clone();
        let service = Arc::new(Service::new(
            config.clone(),
            catalog,
            mailboxes.clone(),
            handle,
            metrics,
            tiering.clone(),
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
            native: None,
            native_unix: None,
            _data: data,
        };
        for (shard, why) in broken {
            broker.service.shard_fenced(shard, why.to_string());
        }
        broker.start_workers(&config, opened, ears)?;
        broker.open_partitions();
        broker.deploy_configured(&config)?;
        broker.open_doors(&config)?;
        broker.service.set_ready();
        Ok(broker)
    }

    fn start_workers(
        &mut self,
        config: &Config,
        opened: Vec<(Shard, ShardFiles)>,
        ears: Vec<std::os::unix::net::UnixStream>,
    ) -> Result<(), StartError> {
        let count = self.mailboxes.len();
        let mut by_worker: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for opened in opened {
            by_worker[usize::from(opened.0.id().0) % count].push(opened);
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
            let name = spec.name.clone();
            spec.build()
                .and_then(|pipeline| self.deploy(pipeline))
                .map_err(|source| StartError::Pipeline { name, source })?;
        }
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
    let who = data.identity.node_id.clone();
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

/// What a data directory holds, opened.
pub(crate) struct Opened {
    pub(crate) catalog: CatalogStore,
    pub(crate) shards: Vec<(Shard, ShardFiles)>,
    /// Shards that cannot be opened, and why.
    pub(crate) broken: Vec<(ShardId, flowstone_storage::Error)>,
}

/// Opens the catalog and every shard. A shard whose files are damaged does not keep the others from
/// being served.
///
/// # Errors
/// [`StartError::Catalog`]; [`StartError::Shard`] where not one can be opened, or the disk refuses.
pub(crate) fn open(data: &DataDir, config: &Config) -> Result<Opened, StartError> {
    use flowstone_storage::Error;
    let disk: Arc<dyn Disk> =
        Arc::new(RealDisk::new(&data.path).map_err(system("open the data directory"))?);
    let reserve = Reserve::open(disk.clone(), config.log.min_free_bytes);
    let reserve = Arc::new(reserve.map_err(|e| StartError::Catalog(e.to_string()))?);
    let (path, count) = (data.path.join("catalog.redb"), data.identity.shards);
    let catalog = CatalogStore::open(&path, count, reserve.clone()).map_err(StartError::Catalog)?;
    found::found(&catalog, data, config);
    let (mut shards, mut broken) = (Vec::new(), Vec::new());
    for id in (0..count).map(ShardId) {
        match open_shard(&disk, id, config, &reserve) {
            Ok(shard) => shards.push(shard),
            Err(e @ (Error::Damaged { .. } | Error::State { .. } | Error::Format { .. }))
                if count > 1 =>
            {
                tracing::error!(shard = id.0, "the shard cannot be opened: {e}");
                broken.push((id, e));
            }
            Err(source) => return Err(StartError::Shard { shard: id, source }),
        }
    }
    if shards.is_empty()
        && let Some((shard, source)) = broken.pop()
    {
        return Err(StartError::Shard { shard, source });
    }
    reserve.take();
    Ok(Opened {
        catalog,
        shards,
        broken,
    })
}

fn open_shard(
    disk: &Arc<dyn Disk>,
    id: ShardId,
    config: &Config,
    reserve: &Arc<Reserve>,
) -> Result<(Shard, ShardFiles), flowstone_storage::Error> {
    let dir = layout::shard_dir(id);
    create_dir_durably(&**disk, &dir).map_err(|source| flowstone_storage::Error::Io {
        action: "create",
        path: dir.clone(),
        source,
    })?;
    let state = StateStore::open_of_shard(&**disk, &dir)?;
    for orphan in remove_orphans(&**disk, &dir, &state)? {
        tracing::info!(
            "removed '{}', which settling had not finished",
            orphan.display()
        );
    }
    let (shard, start) = Shard::open(disk.clone(), &dir, id, config.shard(), &state)?;
    for note in &start.recovered.notes {
        tracing::info!(shard = id.0, "recovery: {note:?}");
    }
    for hole in &start.recovered.holes {
        tracing::error!(
            shard = id.0,
            "{hole}; what else it held is in the state store"
        );
    }
    let files = ShardFiles {
        disk: disk.clone(),
        dir,
        state,
        mark: start.mark,
        reserve: reserve.clone(),
    };
    Ok((shard, files))
}
