//! A bucket as this crate sees it: few requests, each counted, each with an error that says enough.

use crate::counters::{self, Counters};
use crate::error::TierError;
use crate::names::Row;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An answer that breaks off in the middle is asked for again: the store does not do that.
const BODY_TRIES: usize = 2;
/// What fails sooner was not tried again by the store.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How often a creation is tried whose answer did not come.
const CREATE_TRIES: usize = 3;
/// What is set aside for a body before any of it came.
const FIRST_BYTES_MAX: u64 = 8 << 20;
/// What is told of an error.
const ERROR_CHARS_MAX: usize = 600;
/// What one request asks for of an object that is read as a whole.
const STREAM_BYTES: u64 = 4 << 20;
/// Of these so many are under way: the next one comes while one is looked at.
const STREAMS_MAX: usize = 2;

/// What came of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// The object holds our bytes.
    Ours,
    /// The object holds others, or did for a while.
    Taken,
}

/// A bucket.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    directory: Option<Arc<LocalFileSystem>>,
    counters: Arc<Counters>,
    /// Whether of several creations one succeeds. Otherwise they are looked up and overwritten.
    conditional: AtomicBool,
    /// The oldest version that may still be there, of rows that were pruned before.
    row_starts: Mutex<HashMap<Row, u64>>,
}

impl Objects {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        directory: Option<Arc<LocalFileSystem>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            store,
            directory,
            counters,
            conditional: AtomicBool::new(true),
            row_starts: Mutex::default(),
        }
    }

    pub(crate) fn row_starts(&self) -> MutexGuard<'_, HashMap<Row, u64>> {
        let locked = self.row_starts.lock();
        // Whoever held it did one insertion or removal: the map is whole.
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The directory that it is, if it is one.
    pub(crate) fn directory(&self) -> Option<&Arc<LocalFileSystem>> {
        self.directory.as_ref()
    }

    pub(crate) fn rely_on_single_writer(&self) {
        self.conditional.store(false, Ordering::Relaxed);
    }

    fn failed<'a>(
        &'a self,
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(object_store::Error) -> TierError + 'a {
        move |e| {
            let error = told(action, path, &e);
            if !matches!(error, TierError::NotFound { .. }) {
                counters::add(&self.counters.errors, 1);
            }
            error
        }
    }

    async fn put_as(&self, path: &Path, bytes: Bytes, mode: PutMode) -> object_store::Result<()> {
        counters::add(&self.counters.put_requests, 1);
        counters::add(&self.counters.up_bytes, bytes.len() as u64);
        let payload = PutPayload::from_bytes(bytes);
        let options = PutOptions::from(mode);
        self.store.put_opts(path, payload, options).await.map(drop)
    }

    /// Stores an object, over another one if need be.
    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), TierError> {
        let put = self.put_as(path, bytes, PutMode::Overwrite).await;
        put.map_err(self.failed("put", path))?;
        self.make_durable(path).await
    }

    /// One request to create an object; whether it says that it did.
    pub(crate) async fn create_once(&self, path: &Path, bytes: Bytes) -> Result<bool, TierError> {
        match self.put_as(path, bytes, PutMode::Create).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.failed("create", path)(e)),
        }
    }

    /// Creates an object, and finds out what became of it where the answer does not tell: ours may be
    /// there although the answer got lost and a second try was refused.
    ///
    /// An error leaves it open; the same call again settles it.
    pub(crate) async fn create(&self, path: &Path, bytes: &Bytes) -> Result<Created, TierError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let said = match self.conditional.load(Ordering::Relaxed) {
                true => self.create_once(path, bytes.clone()).await,
                false => Ok(false),
            };
            let passing = match said {
                Ok(true) => break,
                Ok(false) => None,
                Err(e) if e.is_passing() => Some(e),
                Err(e) => return Err(e),
            };
            match self.get_if_there(path, bytes.len() as u64).await {
                Ok(Some(there)) if there == *bytes => break,
                Ok(Some(_)) | Err(TierError::Damaged { .. }) => return Ok(Created::Taken),
                Ok(None) if !self.conditional.load(Ordering::Relaxed) => {
                    self.put(path, bytes.clone()).await?;
                    break;
                }
                Ok(None) => match passing {
                    // Taken, and gone meanwhile.
                    None => return Ok(Created::Taken),
                    Some(e) if tries == CREATE_TRIES => return Err(e),
                    Some(_) => counters::add(&self.counters.retries, 1),
                },
                Err(e) => return Err(passing.unwrap_or(e)),
            }
        }
        self.make_durable(path).await?;
        Ok(Created::Ours)
    }

    /// A directory of this machine keeps an object only once it was synced, unlike a bucket.
    pub(crate) async fn make_durable(&self, path: &Path) -> Result<(), TierError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let file = directory
            .path_to_filesystem(path)
            .map_err(self.failed("find", path))?;
        let levels = path.parts().count() + 1;
        let synced = tokio::task::spawn_blocking(move || {
            let mut each = file.ancestors().take(levels);
            each.try_for_each(|p| std::fs::File::open(p)?.sync_all())
                .map_err(TierError::io("sync", &file))
        });
        match synced.await {
            Ok(synced) => synced,
            Err(e) => Err(TierError::unavailable(format!("sync '{path}': {e}"))),
        }
    }

    async fn request(&self, path: &Path, options: GetOptions) -> Result<GetResult, TierError> {
        counters::add(&self.counters.get_requests, 1);
        let began = Instant::now();
        let got = self.store.get_opts(path, options.clone()).await;
        match got.map_err(self.failed("get", path)) {
            // Also the answer that there is nothing has a body.
            Err(e) if e.is_passing() && began.elapsed() < AT_ONCE => {
                counters::add(&self.counters.get_requests, 1);
                let again = self.store.get_opts(path, options).await;
                again.map_err(self.failed("get", path))
            }
            other => other,
        }
    }

    /// Whether an object is there, and how large it is.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<u64>, TierError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self.request(path, options).await {
            Ok(got) => Ok(Some(got.meta.size)),
            Err(TierError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A whole object of at most `bytes_max`.
    pub(crate) async fn get(&self, path: &Path, bytes_max: u64) -> Result<Bytes, TierError> {
        let expected = |got: &GetResult| match got.meta.size {
            size if size > bytes_max => Err(format!(
                "it has {size} bytes, at most {bytes_max} are expected"
            )),
            size => Ok(size),
        };
        self.body(path, GetOptions::default(), expected).await
    }

    /// The body of an answer, which has as many bytes as `expected` says of the answer.
    async fn body(
        &self,
        path: &Path,
        options: GetOptions,
        expected: impl Fn(&GetResult) -> Result<u64, String>,
    ) -> Result<Bytes, TierError> {
        let mut tries = 1;
        loop {
            let got = self.request(path, options.clone()).await?;
            let bytes = expected(&got).map_err(|what| TierError::damaged(path, what))?;
            match self.collect(path, got, bytes).await {
                Err(e) if e.is_passing() && tries < BODY_TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// The body of an answer: so many bytes, whatever the server goes on to send.
    async fn collect(&self, path: &Path, got: GetResult, bytes: u64) -> Result<Bytes, TierError> {
        if matches!(got.payload, GetResultPayload::File(..)) {
            let body = got.bytes().await.map_err(self.failed("get", path))?;
            counters::add(&self.counters.down_bytes, body.len() as u64);
            return exact(path, body, bytes);
        }
        let mut body = BytesMut::with_capacity(bytes.min(FIRST_BYTES_MAX) as usize);
        let mut pieces = got.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(self.failed("get", path))?;
            counters::add(&self.counters.down_bytes, piece.len() as u64);
            if (body.len() + piece.len()) as u64 > bytes {
                let what = format!("more than {bytes} bytes were sent");
                return Err(TierError::damaged(path, what));
            }
            body.extend_from_slice(&piece);
        }
        exact(path, body.freeze(), bytes)
    }

    /// As [`Self::get`]; `None` where there is nothing.
    pub(crate) async fn get_if_there(
        &self,
        path: &Path,
        bytes_max: u64,
    ) -> Result<Option<Bytes>, TierError> {
        match self.get(path, bytes_max).await {
            Err(TierError::NotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// A range of an object that has `size` bytes.
    pub(crate) async fn get_range(
        &self,
        path: &Path,
        range: Range<u64>,
        size: u64,
    ) -> Result<Bytes, TierError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let expected = |got: &GetResult| match got.meta.size == size && got.range == range {
            true => Ok(range.end - range.start),
            false => {
                let (has, from, to) = (got.meta.size, got.range.start, got.range.end);
                Err(format!(
                    "it has {has} bytes rather than {size}, sent were {from} to {to}"
                ))
            }
        };
        self.body(path, options, expected).await
    }

    /// Gives a whole object of `size` bytes to `take`, piece by piece. One request each: none takes
    /// longer than it may, however large the object is.
    pub(crate) async fn stream(
        &self,
        path: &Path,
        size: u64,
        mut take: impl FnMut(&Bytes) -> Result<(), TierError>,
    ) -> Result<(), TierError> {
        let requests = (0..size.div_ceil(STREAM_BYTES)).map(|n| {
            let from = n * STREAM_BYTES;
            self.get_range(
                path,
                from..from.saturating_add(STREAM_BYTES).min(size),
                size,
            )
        });
        let mut pieces = stream::iter(requests).buffered(STREAMS_MAX);
        while let Some(piece) = pieces.next().await {
            take(&piece?)?;
        }
        Ok(())
    }

    /// All objects below `dir`, those behind `after` if it is given.
    pub(crate) async fn list(
        &self,
        dir: &Path,
        after: Option<&Path>,
    ) -> Result<Vec<ObjectMeta>, TierError> {
        counters::add(&self.counters.list_requests, 1);
        let names = match after {
            Some(after) => self.store.list_with_offset(Some(dir), after),
            None => self.store.list(Some(dir)),
        };
        let names: Vec<_> = names
            .try_collect()
            .await
            .map_err(self.failed("list", dir))?;
        counters::add(&self.counters.listed_names, names.len() as u64);
        Ok(names)
    }

    /// What stands directly below `dir`.
    pub(crate) async fn list_directories(&self, dir: &Path) -> Result<Vec<Path>, TierError> {
        counters::add(&self.counters.list_requests, 1);
        let listed = self.store.list_with_delimiter(Some(dir)).await;
        let ListResult {
            common_prefixes, ..
        } = listed.map_err(self.failed("list", dir))?;
        counters::add(&self.counters.listed_names, common_prefixes.len() as u64);
        Ok(common_prefixes)
    }

    /// Removes objects; those that are gone already are fine.
    pub(crate) async fn delete(&self, paths: Vec<Path>) -> Result<(), TierError> {
        let Some(first) = paths.first().cloned() else {
            return Ok(());
        };
        counters::add(&self.counters.deleted_objects, paths.len() as u64);
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        // The store bounds how much of it runs at a time; all of it is tried.
        let mut answers = self.store.delete_stream(paths);
        let mut result = Ok(());
        while let Some(answer) = answers.next().await {
            if let Err(e) = answer {
                match self.failed("delete", &first)(e) {
                    TierError::NotFound { .. } => {}
                    e => result = Err(e),
                }
            }
        }
        result
    }

    /// Begins an object that is sent in parts.
    pub(crate) async fn begin_parts(
        &self,
        path: &Path,
    ) -> Result<Box<dyn MultipartUpload>, TierError> {
        counters::add(&self.counters.put_requests, 1);
        let begun = self
            .store
            .put_multipart_opts(path, PutMultipartOptions::default());
        begun.await.map_err(self.failed("begin", path))
    }

    /// Sends a part.
    pub(crate) async fn put_part(
        &self,
        path: &Path,
        parts: &mut dyn MultipartUpload,
        part: Bytes,
    ) -> Result<(), TierError> {
        counters::add(&self.counters.put_requests, 1);
        counters::add(&self.counters.up_bytes, part.len() as u64);
        let sent = parts.put_part(PutPayload::from_bytes(part)).await;
        sent.map_err(self.failed("send a part of", path))
    }

    /// Puts the parts together.
    pub(crate) async fn complete_parts(
        &self,
        path: &Path,
        parts: &mut dyn MultipartUpload,
    ) -> Result<(), TierError> {
        counters::add(&self.counters.put_requests, 1);
        let completed = parts.complete().await;
        completed.map_err(self.failed("put together the parts of", path))?;
        self.make_durable(path).await
    }
}

/// A body of exactly so many bytes.
fn exact(path: &Path, body: Bytes, bytes: u64) -> Result<Bytes, TierError> {
    if body.len() as u64 == bytes {
        return Ok(body);
    }
    let have = body.len();
    let what = format!("'{path}' was cut off after {have} of {bytes} bytes");
    Err(TierError::unavailable(what))
}

pub(crate) fn told(action: &str, path: &Path, e: &object_store::Error) -> TierError {
    use object_store::Error;
    // Some servers answer with whole pages.
    let said: String = e.to_string().chars().take(ERROR_CHARS_MAX).collect();
    let what = format!("{action} '{path}': {said}");
    match e {
        Error::NotFound { .. } => TierError::NotFound {
            name: path.to_string(),
        },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            TierError::refused(format!("{what}: check the keys and what they may do"))
        }
        Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => TierError::Refused { what },
        _ => TierError::Unavailable { what },
    }
}
