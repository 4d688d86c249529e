//! A store in memory that fails as it is told to, the same way for the same seed.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// How likely what is, per thousand requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chances {
    /// Fails, and nothing happened.
    pub(crate) fail: u64,
    /// Happens, and the answer gets lost.
    pub(crate) lose_answer: u64,
    /// A body that ends early.
    pub(crate) cut: u64,
    /// A bit of what is stored is another one.
    pub(crate) flip: u64,
    /// A list that knows nothing of the last few changes.
    pub(crate) stale: u64,
    /// Others go first.
    pub(crate) delay: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    Fails,
    AnswerLost,
}

#[derive(Debug, Default)]
struct Plan {
    random: u64,
    chances: Chances,
    requests: u64,
    /// From this request on nothing works; whether that one still happens.
    stop: Option<(u64, bool)>,
    /// What every create and delete changed: the name, and what was there before.
    history: Vec<(Path, Option<ObjectMeta>)>,
    /// Requests by what they do.
    log: BTreeMap<&'static str, u64>,
}

/// A store in memory, with faults.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    plan: Arc<Mutex<Plan>>,
    /// A get takes one and gives it back.
    pub(crate) gate: Arc<Semaphore>,
    ignores_conditions: bool,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store with faults")
    }
}

const OPEN: usize = 1 << 20;

impl Faulty {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            plan: Arc::default(),
            gate: Arc::new(Semaphore::new(OPEN)),
            ignores_conditions: false,
        }
    }

    /// One that takes conditions and forgets them.
    pub(crate) fn without_conditions() -> Self {
        Self {
            ignores_conditions: true,
            ..Self::new()
        }
    }

    /// The same objects without faults.
    pub(crate) fn healed(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            ..Self::new()
        }
    }

    pub(crate) fn misbehave(&self, seed: u64, chances: Chances) {
        let mut plan = self.plan.lock().unwrap();
        (plan.random, plan.chances) = (seed, chances);
    }

    /// After `n` more requests nothing works; the first one that fails may still happen.
    pub(crate) fn stop_after(&self, n: u64, last_happens: bool) {
        let mut plan = self.plan.lock().unwrap();
        plan.stop = Some((plan.requests + n, last_happens));
    }

    /// Whether a request was refused because the store had stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        let plan = self.plan.lock().unwrap();
        plan.stop.is_some_and(|(at, _)| plan.requests > at)
    }

    pub(crate) fn requests(&self, what: &str) -> u64 {
        let plan = self.plan.lock().unwrap();
        plan.log.get(what).copied().unwrap_or(0)
    }

    /// The objects whose names contain a text.
    pub(crate) async fn names(&self, part: &str) -> Vec<String> {
        let all: Vec<_> = self.inner.list(None).try_collect().await.unwrap();
        let names = all.iter().map(|o| o.location.to_string());
        names.filter(|n| n.contains(part)).collect()
    }

    pub(crate) async fn bytes_of(&self, path: &Path) -> Option<Bytes> {
        let got = self.inner.get(path).await.ok()?;
        got.bytes().await.ok()
    }

    pub(crate) async fn overwrite(&self, path: &Path, bytes: impl Into<PutPayload>) {
        self.inner.put(path, bytes.into()).await.unwrap();
    }

    pub(crate) async fn remove(&self, path: &Path) {
        self.inner.delete(path).await.unwrap();
    }

    fn draw(&self, chance: impl Fn(&Chances) -> u64) -> bool {
        let mut plan = self.plan.lock().unwrap();
        let chance = chance(&plan.chances);
        chance > 0 && plan.random() % 1000 < chance
    }

    /// Begins a request.
    async fn begin(&self, what: &'static str) -> Fate {
        if self.draw(|c| c.delay) {
            let times = self.plan.lock().unwrap().random() % 20;
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        }
        let (number, stop) = {
            let mut plan = self.plan.lock().unwrap();
            *plan.log.entry(what).or_default() += 1;
            plan.requests += 1;
            (plan.requests - 1, plan.stop)
        };
        match stop {
            Some((at, true)) if number == at => return Fate::AnswerLost,
            Some((at, _)) if number >= at => return Fate::Fails,
            _ => {}
        }
        if self.draw(|c| c.fail) {
            Fate::Fails
        } else if self.draw(|c| c.lose_answer) {
            Fate::AnswerLost
        } else {
            Fate::Good
        }
    }

    async fn changed<T>(&self, fate: Fate, done: impl Future<Output = Result<T>>) -> Result<T> {
        if fate == Fate::Fails {
            return Err(broken("did not happen"));
        }
        let done = done.await?;
        match fate {
            Fate::Good => Ok(done),
            _ => Err(broken("happened, the answer is lost")),
        }
    }

    async fn remember(&self, path: &Path) {
        let before = self.inner.head(path).await.ok();
        let mut plan = self.plan.lock().unwrap();
        plan.history.push((path.clone(), before));
    }

    fn spoil(&self, payload: PutPayload) -> PutPayload {
        if payload.content_length() == 0 || !self.draw(|c| c.flip) {
            return payload;
        }
        let mut bytes = payload.iter().flatten().copied().collect::<Vec<u8>>();
        let at = self.plan.lock().unwrap().random() as usize % bytes.len();
        bytes[at] ^= 1;
        bytes.into()
    }

    async fn listed(&self, prefix: Option<Path>) -> Result<Vec<ObjectMeta>> {
        if self.begin("list").await != Fate::Good {
            return Err(broken("no list"));
        }
        let now: Vec<_> = self.inner.list(prefix.as_ref()).try_collect().await?;
        let mut names: BTreeMap<_, _> = now.into_iter().map(|o| (o.location.clone(), o)).collect();
        if self.draw(|c| c.stale) {
            let mut plan = self.plan.lock().unwrap();
            let back = plan.random() as usize % 8;
            for (path, before) in plan.history.iter().rev().take(back) {
                match before {
                    Some(meta) => names.insert(path.clone(), meta.clone()),
                    None => names.remove(path),
                };
            }
        }
        let below = |p: &Path| {
            prefix
                .as_ref()
                .is_none_or(|d| p.prefix_matches(d) && p != d)
        };
        Ok(names.into_values().filter(|o| below(&o.location)).collect())
    }
}

impl Plan {
    /// Splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn broken(what: &'static str) -> Error {
    Error::Generic {
        store: "faults",
        source: what.into(),
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        let fate = self.begin("put").await;
        if self.ignores_conditions {
            opts.mode = PutMode::Overwrite;
        }
        let payload = self.spoil(payload);
        let done = async {
            self.remember(location).await;
            self.inner.put_opts(location, payload, opts).await
        };
        self.changed(fate, done).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if self.begin("multipart").await != Fate::Good {
            return Err(broken("not begun"));
        }
        let parts = self.inner.put_multipart_opts(location, opts).await?;
        *self.plan.lock().unwrap().log.entry("begun").or_default() += 1;
        Ok(Box::new(Parts {
            parts,
            store: self.clone(),
            location: location.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = match (options.head, options.range.is_some()) {
            (true, _) => "head",
            (_, true) => "range",
            _ => "get",
        };
        let fate = self.begin(what).await;
        let _open = self.gate.acquire().await.unwrap();
        if fate != Fate::Good {
            return Err(broken("no answer"));
        }
        let head = options.head;
        let mut got = self.inner.get_opts(location, options).await?;
        let (meta, range) = (got.meta.clone(), got.range.clone());
        if head || !self.draw(|c| c.cut) {
            return Ok(got);
        }
        let bytes = got.bytes().await?;
        let half = bytes.slice(..bytes.len() / 2);
        got = GetResult {
            payload: GetResultPayload::Stream(futures_util::stream::iter([Ok(half)]).boxed()),
            meta,
            range,
            attributes: Default::default(),
        };
        Ok(got)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let fate = store.begin("delete").await;
                let done = async {
                    store.remember(&location).await;
                    store.inner.delete(&location).await
                };
                store.changed(fate, done).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        async move {
            let listed = store.listed(prefix).await?;
            Ok::<_, Error>(futures_util::stream::iter(listed.into_iter().map(Ok)))
        }
        .into_stream()
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if self.begin("list").await != Fate::Good {
            return Err(broken("no list"));
        }
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Parts {
    parts: Box<dyn MultipartUpload>,
    store: Faulty,
    location: Path,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let store = self.store.clone();
        let part = self.parts.put_part(store.spoil(data));
        async move {
            let fate = store.begin("part").await;
            store.changed(fate, part).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fate = self.store.begin("complete").await;
        let done = async {
            self.store.remember(&self.location).await;
            self.parts.complete().await
        };
        self.store.changed(fate, done).await
    }

    async fn abort(&mut self) -> Result<()> {
        let fate = self.store.begin("abort").await;
        self.store.changed(fate, self.parts.abort()).await
    }
}
