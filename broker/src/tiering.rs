//! The tier of a node: copies of settled segments in a bucket, made, noted and read back.
//!
//! ```text
//! shard --Tier--> background --> [jobs: upload, read back, manifest] --> background: note --> shard
//! shard --read--> background --> [reads, on threads that may wait] ------------------------> shard
//!                 catalog, group positions --(when they change)--> [documents]
//! ```
//! A bucket that does not answer holds up these and nobody else. Whoever opens the bucket last owns it:
//! a node that was replaced is told so and writes nothing more. The nodes of a cluster own it together.

mod backup;
mod job;
mod rarely;
mod reads;
mod rights;
mod settings;
mod status;
mod sweep;
mod threads;

pub(crate) use backup::{Backup, CATALOG, CatalogDocument, GROUPS, GroupsDocument};
pub use settings::{Prices, TierConfig};
pub(crate) use status::sum;
pub(crate) use sweep::run as sweep;
pub(crate) use threads::threads;

use crate::tiering::job::{Task, Work};
use crate::tiering::rarely::Rarely;
use crate::tiering::rights::Rights;
use flowstone_core::input::TierFound;
use flowstone_core::output::TierJob;
use flowstone_storage::Disk;
use flowstone_storage::settled::{SegmentId, SettledReader, Tiered};
use flowstone_tier::{Scope, Tier, TierEpoch, TierError};
use flowstone_wire::{Offset, PartitionId};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

/// The copies that a job has made, or why not all of it could be done.
pub(crate) type TierResult = Result<Vec<(SegmentId, Tiered)>, String>;

/// A start waits so long for the bucket; then it goes on without, and tries again.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(5);
/// Reads that wait for the bucket at once; others stand in line.
const READS_MAX: usize = 8;

/// Open segments, each with the epoch of its copy.
type Readers = VecDeque<((SegmentId, u32), Arc<SettledReader>)>;

/// A bucket that is open, and since which epoch it is ours.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) tier: Arc<Tier>,
    pub(crate) since: TierEpoch,
}

/// How it stands with the bucket.
#[derive(Clone)]
enum State {
    /// It could not be opened yet, for this reason.
    Closed(String),
    Open(Ground),
    /// Another node has taken it over: nothing is written any more, reads go on.
    Lost(Ground, String),
}

/// The tier of a node. See the module docs.
pub(crate) struct Tiering {
    config: TierConfig,
    cache_dir: PathBuf,
    who: String,
    /// The cluster that owns the bucket together; `None` for a node that is alone.
    cluster: Option<String>,
    rights: tokio::sync::Mutex<Rights>,
    runtime: Handle,
    state: RwLock<State>,
    jobs: mpsc::UnboundedSender<Work>,
    reads: Arc<Semaphore>,
    /// Open segments, the one that was used last at the end.
    readers: Mutex<Readers>,
}

/// Removes the parts that earlier owners have sent of what they did not finish: they cost money.
async fn abort_unfinished(tier: Arc<Tier>) {
    match tier.abort_unfinished(false).await {
        Ok(None | Some(0)) => {}
        Ok(Some(count)) => tracing::info!("{count} unfinished upload(s) in the tier were aborted"),
        Err(e) => tracing::debug!("unfinished uploads in the tier stay: {e}"),
    }
}

impl Tiering {
    /// Opens the bucket, or goes on trying where it does not answer.
    ///
    /// # Errors
    /// What is wrong with the settings, or with what the bucket can do.
    pub(crate) fn start(
        config: TierConfig,
        data: &Path,
        (who, cluster): (String, Option<String>),
        runtime: Handle,
    ) -> Result<Arc<Self>, TierError> {
        config.store.check()?;
        let (jobs, work) = mpsc::unbounded_channel();
        let tiering = Arc::new(Self {
            cache_dir: data.join("tier-cache"),
            who,
            cluster,
            rights: tokio::sync::Mutex::default(),
            runtime: runtime.clone(),
            state: RwLock::new(State::Closed("it is being opened".into())),
            jobs,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            readers: Mutex::default(),
            config,
        });
        let first = async { tokio::time::timeout(FIRST_WAIT, tiering.open()).await };
        match runtime.block_on(first) {
            Ok(Ok(())) => {}
            Ok(Err(e)) if !e.is_passing() => return Err(e),
            Ok(Err(e)) => tiering.clone().keep_opening(e.to_string()),
            Err(_) => {
                let waited_s = FIRST_WAIT.as_secs();
                let why = format!("no answer within {waited_s} s");
                tiering.clone().keep_opening(why);
            }
        }
        runtime.spawn(job::dispatch(Arc::downgrade(&tiering), work));
        Ok(tiering)
    }

    async fn open(&self) -> Result<(), TierError> {
        let settings = self.config.store.clone();
        let tier = Tier::open(settings, &self.cache_dir, self.runtime.clone()).await?;
        let apart = tier.abilities().objection.is_none();
        let since = match &self.cluster {
            Some(_) if !apart => {
                let what = "it does not keep two writers apart, and every node of a cluster writes to it: \
                            take a server that creates conditionally";
                return Err(TierError::Refused { what: what.into() });
            }
            None => tier.take_epoch(&self.who).await?,
            Some(cluster) => tier.join(cluster, &self.who).await?,
        };
        tracing::info!(
            epoch = since.0,
            "the tier '{}' is open",
            self.config.store.url
        );
        self.runtime.spawn(abort_unfinished(tier.clone()));
        self.set(State::Open(Ground { tier, since }));
        Ok(())
    }

    fn keep_opening(self: Arc<Self>, why: String) {
        tracing::warn!("the tier cannot be opened, which is tried again: {why}");
        self.set(State::Closed(why));
        let tiering = Arc::downgrade(&self);
        let mut told = Rarely::default();
        told.is_due(Instant::now());
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                let Some(tiering) = tiering.upgrade() else {
                    return;
                };
                match tiering.open().await {
                    Ok(()) => return,
                    Err(e) => {
                        if told.is_due(Instant::now()) {
                            tracing::warn!("the tier cannot be opened, which is tried again: {e}");
                        }
                        tiering.set(State::Closed(e.to_string()));
                    }
                }
            }
        });
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn state(&self) -> State {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    /// The bucket, for writing to it.
    fn ours(&self) -> Result<Ground, String> {
        match self.state() {
            State::Open(ground) => Ok(ground),
            State::Closed(why) | State::Lost(_, why) => Err(why),
        }
    }

    /// The bucket, for reading from it.
    fn readable(&self) -> Result<Ground, String> {
        match self.state() {
            State::Open(ground) | State::Lost(ground, _) => Ok(ground),
            State::Closed(why) => Err(why),
        }
    }

    /// Takes note of an error: one that says that another node took over ends all writing.
    fn noted(&self, error: TierError) -> String {
        let text = error.to_string();
        if let (TierError::Fenced { .. }, State::Open(ground)) = (&error, self.state()) {
            tracing::error!("the tier: {text}");
            self.set(State::Lost(ground, text.clone()));
        }
        text
    }

    /// Tells what the bucket's manifest of a partition names.
    pub(crate) fn look(
        self: &Arc<Self>,
        partition: PartitionId,
        tell: impl FnOnce(Result<TierFound, String>) + Send + 'static,
    ) {
        let tiering = self.clone();
        self.runtime.spawn(async move {
            // Not where another owner has it: what that one names is not what was here.
            let found = match tiering.ours() {
                Ok(ground) => {
                    let found = found(&ground, partition).await;
                    found.map_err(|e| tiering.noted(e))
                }
                Err(why) => Err(why),
            };
            tell(found);
        });
    }

    /// Brings the bucket up to a job of the leader of this, and tells what came of it.
    pub(crate) fn bring_up(
        &self,
        disk: Arc<dyn Disk>,
        shard_dir: PathBuf,
        leads: (Scope, u64),
        job: TierJob,
        tell: impl FnOnce(TierJob, TierResult) + Send + 'static,
    ) {
        let work = Work {
            task: Task {
                disk,
                shard_dir,
                leads,
                job,
            },
            tell: Box::new(tell),
        };
        if let Err(mpsc::error::SendError(work)) = self.jobs.send(work) {
            (work.tell)(work.task.job, Err("the node is stopping".into()));
        }
    }
}

async fn found(ground: &Ground, partition: PartitionId) -> Result<TierFound, TierError> {
    let manifest = ground.tier.manifest(partition).await?;
    ground.tier.check_right(ground.since).await?;
    let entry = |e: &flowstone_tier::Entry| (e.meta(partition), e.tiered(false));
    Ok(TierFound {
        since: ground.since.0,
        // Whoever had the bucket before may have kept less, of other records.
        start: match manifest.epoch() >= ground.since {
            true => manifest.start(),
            false => Offset(0),
        },
        entries: manifest.entries().iter().map(entry).collect(),
    })
}
