//! A segment in the bucket, read as if it were a file.

use crate::cache::{Chunk, ChunkCache, Source};
use crate::error::TierError;
use bytes::Bytes;
use flowstone_storage::disk::{DiskFile, Mapping};
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};

/// Most chunks that are fetched ahead of a reader.
const AHEAD_MAX: u64 = 4;

/// A segment in the bucket. Holds the chunk it read last in memory.
///
/// Reading blocks, until the bucket has answered or the retries are over: not for threads of an async
/// runtime.
#[derive(Debug)]
pub struct TierFile {
    cache: Arc<ChunkCache>,
    source: Arc<Source>,
    reading: Mutex<Reading>,
}

#[derive(Debug, Default)]
struct Reading {
    last: Option<(u64, Bytes)>,
    /// Chunks to fetch ahead; grows while chunks are read one behind the other.
    ahead: u64,
}

impl TierFile {
    pub(crate) fn new(cache: Arc<ChunkCache>, source: Source) -> Self {
        Self {
            cache,
            source: Arc::new(source),
            reading: Mutex::default(),
        }
    }

    fn chunk(&self, chunk: u64) -> io::Result<Bytes> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = match &reading.last {
            Some((last, bytes)) if *last == chunk => return Ok(bytes.clone()),
            Some((last, _)) if last + 1 == chunk => (reading.ahead * 2).clamp(1, AHEAD_MAX),
            _ => 0,
        };
        reading.ahead = ahead;
        drop(reading);
        let coming = self.cache.chunk(&self.source, chunk);
        self.fetch_ahead(chunk, ahead);
        let bytes = Chunk::wait(coming).map_err(|e| told(&e))?;
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.last = Some((chunk, bytes.clone()));
        Ok(bytes)
    }

    fn fetch_ahead(&self, chunk: u64, ahead: u64) {
        let chunks = self.source.bytes.div_ceil(self.cache.chunk_bytes());
        for next in (chunk + 1..chunks).take(ahead as usize) {
            self.cache.prefetch(&self.source, next);
        }
    }
}

impl DiskFile for TierFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.source.bytes)
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.source.bytes) {
            let (path, bytes) = (&self.source.path, self.source.bytes);
            let what = format!(
                "'{path}' has {bytes} bytes, asked for {} at {at}",
                out.len()
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let (chunk_bytes, mut at, mut out) = (self.cache.chunk_bytes(), at, out);
        while !out.is_empty() {
            let bytes = self.chunk(at / chunk_bytes)?;
            // A chunk is as long as it was asked for, or it is not given out.
            let from = &bytes[(at % chunk_bytes) as usize..];
            let n = from.len().min(out.len());
            let (front, rest) = out.split_at_mut(n);
            front.copy_from_slice(&from[..n]);
            (at, out) = (at + n as u64, rest);
        }
        Ok(())
    }

    fn write_at(&self, _at: u64, _parts: &[IoSlice<'_>]) -> io::Result<()> {
        Err(self.read_only())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(self.read_only())
    }

    fn sync(&self) -> io::Result<()> {
        Err(self.read_only())
    }

    fn drop_cached(&self) -> io::Result<()> {
        Err(self.read_only())
    }

    fn map(&self) -> io::Result<Mapping> {
        Err(self.read_only())
    }

    fn os_file(&self) -> Option<&File> {
        None
    }
}

impl TierFile {
    fn read_only(&self) -> io::Error {
        let what = format!(
            "'{}' is in the bucket: it can only be read",
            self.source.path
        );
        io::Error::new(io::ErrorKind::Unsupported, what)
    }
}

fn told(e: &TierError) -> io::Error {
    let kind = match e {
        TierError::Unavailable { .. } => io::ErrorKind::NetworkDown,
        // Keys that are no good any more say nothing of what is stored.
        TierError::Refused { .. } => io::ErrorKind::ConnectionRefused,
        TierError::NotFound { .. } => io::ErrorKind::NotFound,
        TierError::Damaged { .. } => io::ErrorKind::InvalidData,
        TierError::Fenced { .. } | TierError::Io { .. } => io::ErrorKind::Other,
    };
    io::Error::new(kind, e.to_string())
}
