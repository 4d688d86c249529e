//! A segment in the bucket, read as if it were a file.

use crate::cache::{Chunk, ChunkCache, Source};
use crate::error::TierError;
use bytes::Bytes;
use flowstone_storage::disk::{DiskFile, Mapping};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};

/// Most chunks that are fetched ahead of a reader.
const AHEAD_MAX: u64 = 8;
/// Chunks that a reader holds: whoever opens a segment reads its end, and goes on at its beginning.
const HELD_MAX: usize = 2;

/// A segment in the bucket. Holds the two chunks it read last in memory.
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
    /// The newest at the end.
    held: VecDeque<(u64, Bytes)>,
    /// Chunks to fetch ahead; grows while chunks are read one behind the other.
    ahead: u64,
}

impl Reading {
    fn held(&self, chunk: u64) -> Option<Bytes> {
        let mut all = self.held.iter();
        all.find(|(held, _)| *held == chunk).map(|(_, b)| b.clone())
    }

    /// How far to fetch ahead of a chunk that is not held.
    fn ahead_of(&mut self, chunk: u64) -> u64 {
        let follows = self.held.iter().any(|(held, _)| held + 1 == chunk);
        self.ahead = match follows {
            true => (self.ahead * 2).clamp(2, AHEAD_MAX),
            false => 0,
        };
        self.ahead
    }

    fn hold(&mut self, chunk: u64, bytes: Bytes) {
        if self.held(chunk).is_some() {
            return;
        }
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back((chunk, bytes));
    }
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
        let (opens, ahead) = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = reading.held(chunk) {
                return Ok(bytes);
            }
            let opens = chunk == 0 && reading.held.is_empty();
            (opens, reading.ahead_of(chunk))
        };
        let coming = self.cache.chunk(&self.source, chunk);
        self.fetch_ahead(chunk, ahead);
        if opens {
            self.fetch_end();
        }
        let bytes = Chunk::wait(coming).map_err(|e| told(&e))?;
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.hold(chunk, bytes.clone());
        Ok(bytes)
    }

    fn chunks(&self) -> u64 {
        self.source.bytes.div_ceil(self.cache.chunk_bytes())
    }

    /// Whoever opens a segment looks at its footer next.
    fn fetch_end(&self) {
        let last = self.chunks().saturating_sub(1);
        if last > 0 {
            self.cache.prefetch(&self.source, last);
        }
    }

    fn fetch_ahead(&self, chunk: u64, ahead: u64) {
        let chunks = self.chunks();
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
        TierError::Fenced { .. } | TierError::Superseded { .. } | TierError::Io { .. } => {
            io::ErrorKind::Other
        }
    };
    io::Error::new(kind, e.to_string())
}
