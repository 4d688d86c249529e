//! Chunks of objects: from the local disk, or fetched once for all who wait.

use crate::chunk_store::{ChunkKey, ChunkStore};
use crate::counters::{Counters, add};
use crate::error::TierError;
use crate::fresh::Fresh;
use crate::lru::{Kept, Lru};
use crate::manifest::ObjectId;
use crate::nonce::nonce;
use crate::objects::Objects;
use bytes::Bytes;
use flowstone_wire::PartitionId;
use object_store::path::Path;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Fetches at a time beyond which nothing is fetched ahead.
const FLIGHTS_MAX: usize = 32;
/// Tries of a fetch that ends early, beyond those of the S3 client.
const TRIES_MAX: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// An object that is read by chunks.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) partition: PartitionId,
    pub(crate) id: ObjectId,
    pub(crate) path: Path,
    pub(crate) bytes: u64,
}

type Fetched = Result<Bytes, Arc<TierError>>;

/// A fetch that is under way, or has just come back.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    landed: Mutex<Option<Fetched>>,
    arrived: Condvar,
}

impl Flight {
    fn land(&self, fetched: Fetched) {
        let mut landed = locked(&self.landed);
        landed.get_or_insert(fetched);
        self.arrived.notify_all();
    }

    fn wait(&self) -> Fetched {
        let mut landed = locked(&self.landed);
        loop {
            match &*landed {
                Some(fetched) => return fetched.clone(),
                None => {
                    let woken = self.arrived.wait(landed);
                    landed = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// A chunk that is here, or on its way.
#[derive(Debug)]
pub(crate) enum Chunk {
    Here(Bytes),
    Coming(Arc<Flight>),
}

impl Chunk {
    /// Blocks until it is here. The fetch itself bounds how long that takes.
    pub(crate) fn wait(self) -> Fetched {
        match self {
            Self::Here(bytes) => Ok(bytes),
            Self::Coming(flight) => flight.wait(),
        }
    }
}

#[derive(Debug)]
struct State {
    kept: Lru<ChunkKey>,
    flights: HashMap<ChunkKey, Arc<Flight>>,
    fresh: Fresh,
}

/// The chunks of all objects.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    objects: Arc<Objects>,
    store: ChunkStore,
    handle: Handle,
    chunk_bytes: u64,
    retry_for: Duration,
    state: Mutex<State>,
}

/// How a cache is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheBounds {
    pub(crate) cache_bytes: u64,
    pub(crate) chunk_bytes: u64,
    pub(crate) retry_for: Duration,
}

impl ChunkCache {
    pub(crate) fn new(
        objects: Arc<Objects>,
        store: ChunkStore,
        handle: Handle,
        bounds: CacheBounds,
    ) -> Self {
        let state = State {
            kept: Lru::new(bounds.cache_bytes),
            flights: HashMap::new(),
            fresh: Fresh::default(),
        };
        Self {
            objects,
            store,
            handle,
            chunk_bytes: bounds.chunk_bytes,
            retry_for: bounds.retry_for,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    fn counters(&self) -> &Counters {
        self.objects.counters()
    }

    /// A chunk, from the disk or from the bucket; does not wait for the bucket.
    pub(crate) fn chunk(self: &Arc<Self>, source: &Arc<Source>, chunk: u64) -> Chunk {
        let key = key(source, chunk);
        let (fresh, kept) = {
            let mut state = locked(&self.state);
            (state.fresh.take(&key), state.kept.get(&key))
        };
        if let Some(bytes) = fresh {
            add(&self.counters().cache_hits, 1);
            return Chunk::Here(bytes);
        }
        if let Some(kept) = kept {
            if let Some(bytes) = self.store.read(&key, kept) {
                add(&self.counters().cache_hits, 1);
                return Chunk::Here(bytes);
            }
            self.drop_damaged(&key, kept);
        }
        Chunk::Coming(self.fly(source, key))
    }

    /// Has a chunk fetched that may be wanted soon, unless much is being fetched already.
    pub(crate) fn prefetch(self: &Arc<Self>, source: &Arc<Source>, chunk: u64) {
        let key = key(source, chunk);
        let mut state = locked(&self.state);
        let busy = state.flights.len() >= FLIGHTS_MAX || state.flights.contains_key(&key);
        if busy || state.kept.contains(&key) || state.fresh.contains(&key) {
            return;
        }
        let landing = self.start(&mut state, key);
        drop(state);
        add(&self.counters().cache_prefetches, 1);
        self.launch(landing, source, true);
    }

    /// The flight of a chunk, begun if there is none.
    fn fly(self: &Arc<Self>, source: &Arc<Source>, key: ChunkKey) -> Arc<Flight> {
        let mut state = locked(&self.state);
        if let Some(flight) = state.flights.get(&key) {
            add(&self.counters().cache_joins, 1);
            return Arc::clone(flight);
        }
        let landing = self.start(&mut state, key);
        drop(state);
        add(&self.counters().cache_misses, 1);
        let flight = Arc::clone(&landing.flight);
        self.launch(landing, source, false);
        flight
    }

    fn start(self: &Arc<Self>, state: &mut State, key: ChunkKey) -> Landing {
        let flight = Arc::new(Flight::default());
        state.flights.insert(key, Arc::clone(&flight));
        Landing {
            cache: Arc::clone(self),
            flight,
            key,
        }
    }

    /// Not under the lock: a runtime that has stopped drops the task at once, which ends the flight.
    fn launch(&self, landing: Landing, source: &Arc<Source>, is_ahead: bool) {
        let source = Arc::clone(source);
        self.handle.spawn(async move {
            let fetched = landing.cache.fetch(&source, landing.key.chunk).await;
            let good = fetched.as_ref().ok().cloned();
            if let Some(bytes) = good.as_ref().filter(|_| is_ahead) {
                landing.keep_fresh(bytes);
            }
            landing.flight.land(fetched.map_err(Arc::new));
            if let Some(bytes) = good {
                // The flight stays until the chunk is kept: nobody fetches it in between.
                tokio::task::spawn_blocking(move || landing.keep(&bytes));
            }
        });
    }

    async fn fetch(&self, source: &Source, chunk: u64) -> Result<Bytes, TierError> {
        let from = chunk * self.chunk_bytes;
        let to = from.saturating_add(self.chunk_bytes).min(source.bytes);
        let (begun, mut tries, mut pause) = (Instant::now(), 1, FIRST_PAUSE);
        loop {
            let got = self.objects.get_range(&source.path, from..to, source.bytes);
            match got.await {
                Err(e) if e.is_passing() && tries < TRIES_MAX => {
                    if begun.elapsed() + pause > self.retry_for {
                        return Err(e);
                    }
                    add(&self.counters().retries, 1);
                    let jitter = pause.mul_f64((nonce() % 1000) as f64 / 1000.0);
                    tokio::time::sleep(pause / 2 + jitter / 2).await;
                    (tries, pause) = (tries + 1, pause * 2);
                }
                other => return other,
            }
        }
    }

    fn drop_damaged(&self, key: &ChunkKey, seen: Kept) {
        let mut state = locked(&self.state);
        // Somebody else may have dropped it already, and fetched it again.
        if state.kept.get(key) == Some(seen) {
            state.kept.remove(key);
            add(&self.counters().cache_damaged, 1);
            self.tell_bytes(&state);
        }
    }

    /// Drops the chunks of an object that was removed; those that still come are not kept.
    pub(crate) fn forget(&self, partition: PartitionId, id: ObjectId) {
        let mut state = locked(&self.state);
        let of_it = |k: &ChunkKey| k.partition == partition && k.id == id;
        state.flights.retain(|k, _| !of_it(k));
        state.fresh.drop_all(of_it);
        let gone = state.kept.keys(of_it);
        for key in &gone {
            state.kept.remove(key);
        }
        self.tell_bytes(&state);
        drop(state);
        gone.iter().for_each(|key| self.store.remove(key));
    }

    fn tell_bytes(&self, state: &State) {
        let bytes = &self.counters().cache_bytes;
        bytes.store(state.kept.bytes(), Ordering::Relaxed);
    }
}

/// Ends a flight, also where the runtime drops its task: nobody waits for ever.
struct Landing {
    cache: Arc<ChunkCache>,
    flight: Arc<Flight>,
    key: ChunkKey,
}

impl Landing {
    fn is_wanted(&self, state: &State) -> bool {
        let flight = state.flights.get(&self.key);
        flight.is_some_and(|f| Arc::ptr_eq(f, &self.flight))
    }

    /// Keeps what was fetched ahead in memory for the reader that comes for it.
    fn keep_fresh(&self, bytes: &Bytes) {
        let mut state = locked(&self.cache.state);
        if self.is_wanted(&state) {
            state.fresh.add(self.key, bytes.clone());
        }
    }

    /// Keeps what has landed.
    fn keep(&self, bytes: &Bytes) {
        let cache = &self.cache;
        let kept = match cache.store.write(&self.key, bytes) {
            Ok(kept) => kept,
            Err(e) => {
                add(&cache.counters().cache_write_errors, 1);
                tracing::warn!(error = %e, "a chunk cannot be kept: look after the cache's disk");
                return;
            }
        };
        let mut state = locked(&cache.state);
        let gone = match self.is_wanted(&state) {
            true => state.kept.insert(self.key, kept),
            false => vec![self.key],
        };
        cache.tell_bytes(&state);
        drop(state);
        add(&cache.counters().cache_evictions, gone.len() as u64);
        gone.iter().for_each(|key| cache.store.remove(key));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let stopped = TierError::unavailable("the fetch was stopped with the program");
        self.flight.land(Err(Arc::new(stopped)));
        let mut state = locked(&self.cache.state);
        if self.is_wanted(&state) {
            state.flights.remove(&self.key);
        }
    }
}

fn key(source: &Source, chunk: u64) -> ChunkKey {
    ChunkKey {
        partition: source.partition,
        id: source.id,
        chunk,
    }
}

/// A poisoned lock is taken as it is: whoever panicked has at most lost a chunk of a cache.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
