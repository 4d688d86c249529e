//! A tier that is open.

use crate::bucket::{self, Place};
use crate::cache::{CacheBounds, ChunkCache, Source};
use crate::chunk_store::{self, ChunkStore};
use crate::counters::Counters;
use crate::error::TierError;
use crate::file::TierFile;
use crate::limiter::TokenBucket;
use crate::manifest::{ObjectId, TierEpoch};
use crate::names::Names;
use crate::objects::Objects;
use crate::owner::Owner;
use crate::probe::{self, Abilities};
use crate::settings::Settings;
use crate::unfinished::Unfinished;
use flowstone_wire::PartitionId;
use object_store::ObjectStore;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A bucket with settled segments, and the local cache of what is read from it.
pub struct Tier {
    objects: Arc<Objects>,
    names: Names,
    abilities: Abilities,
    settings: Settings,
    cache: Arc<ChunkCache>,
    scratch: PathBuf,
    pub(crate) uploads: Semaphore,
    limit: Option<Mutex<TokenBucket>>,
    unfinished: Option<Unfinished>,
    opened: Instant,
    /// The newest claim that was seen.
    pub(crate) claim: Mutex<Option<(TierEpoch, Owner)>>,
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier")
            .field("settings", &self.settings)
            .field("abilities", &self.abilities)
            .finish_non_exhaustive()
    }
}

impl Tier {
    /// Opens a tier and finds out what its bucket can do. `cache_dir` belongs to this tier of this
    /// process alone; reads that block wait for tasks on `handle`, which must have its timers on.
    ///
    /// # Errors
    /// [`TierError::Refused`] where settings make no sense, or the bucket cannot create conditionally
    /// and the settings do not accept that. [`TierError::Unavailable`], [`TierError::Io`].
    pub async fn open(
        settings: Settings,
        cache_dir: &Path,
        handle: Handle,
    ) -> Result<Arc<Self>, TierError> {
        let place = bucket::place(&settings)?;
        Self::open_at(place, settings, cache_dir, handle).await
    }

    /// As [`Self::open`], over a store that was opened elsewhere. Where the settings say how to reach
    /// a bucket, they do not count; their sizes are taken as they are.
    ///
    /// # Errors
    /// As there.
    pub async fn over(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        settings: Settings,
        cache_dir: &Path,
        handle: Handle,
    ) -> Result<Arc<Self>, TierError> {
        let place = Place {
            store,
            prefix: prefix.into(),
            directory: None,
            unfinished: None,
        };
        Self::open_at(place, settings, cache_dir, handle).await
    }

    async fn open_at(
        place: Place,
        settings: Settings,
        cache_dir: &Path,
        handle: Handle,
    ) -> Result<Arc<Self>, TierError> {
        let names = Names::new(&place.prefix);
        let counters = Arc::new(Counters::default());
        let objects = Arc::new(Objects::new(place.store, place.directory, counters));
        let abilities = probe::probe(&objects, &names).await?;
        if let Some(objection) = &abilities.objection {
            if !settings.accept_single_writer {
                return Err(TierError::refused(format!(
                    "it does not create conditionally ({objection}), so that two nodes could destroy \
                     one another's data: take a server that does, or set `accept_single_writer` if \
                     never more than one node writes"
                )));
            }
            tracing::warn!(objection, "the bucket does not keep two writers apart");
            objects.rely_on_single_writer();
        }
        let scratch = cache_dir.join("scratch");
        let store = ChunkStore::create(cache_dir)?;
        chunk_store::make_empty(&scratch)?;
        let bounds = CacheBounds {
            cache_bytes: settings.cache_bytes,
            chunk_bytes: settings.chunk_bytes.max(1),
            retry_for: settings.retry_for(),
        };
        let cache = ChunkCache::new(Arc::clone(&objects), store, handle, bounds);
        let limit = settings.upload_bytes_per_s;
        Ok(Arc::new(Self {
            objects,
            names,
            abilities,
            cache: Arc::new(cache),
            scratch,
            uploads: Semaphore::new(settings.upload_concurrency.max(1)),
            limit: limit.map(|rate| Mutex::new(TokenBucket::new(rate, Duration::ZERO))),
            unfinished: place.unfinished,
            opened: Instant::now(),
            claim: Mutex::default(),
            settings,
        }))
    }

    /// What the bucket was seen to do.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// As it was opened.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What things are called in the bucket.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What it did so far.
    pub fn counters(&self) -> &Counters {
        self.objects.counters()
    }

    /// A segment of so many bytes, to be read as a file. Nothing is asked of the bucket yet.
    pub fn file(&self, partition: PartitionId, id: ObjectId, bytes: u64) -> TierFile {
        let source = Source {
            partition,
            id,
            path: self.names.segment(partition, id),
            bytes,
        };
        TierFile::new(Arc::clone(&self.cache), source)
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn unfinished(&self) -> Option<&Unfinished> {
        self.unfinished.as_ref()
    }

    pub(crate) fn cache(&self) -> &ChunkCache {
        &self.cache
    }

    /// A directory for files that live no longer than an operation.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn keep_to_limit(&self, bytes: u64) {
        let Some(limit) = &self.limit else {
            return;
        };
        let pause = limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes, self.opened.elapsed());
        tokio::time::sleep(pause).await;
    }
}
