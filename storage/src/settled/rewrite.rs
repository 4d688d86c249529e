//! Rewriting settled segments: small ones put together, and compaction by key.
//!
//! ```text
//! dirty segments --scan--> newest offset of each key --+
//! all segments ------------------------------copy------+--> segments of the next generation
//! ```
//!
//! Compaction keeps, of all records with the same key, the newest; offsets stay. A tombstone (no value)
//! goes as well, once the segment that it stands in has been clean for a while: who reads slower than
//! that may miss it. As in Kafka's log cleaner (KIP-58, KIP-534), records without a key are kept.
//!
//! Nothing counts before the manifest names the new files instead of the old ones.

use super::format::BlockEntry;
use super::settle::{abandon, check_room};
use super::{SegmentId, SettledMeta, SettledReader, SettledWriter};
use crate::disk::Disk;
use crate::error::Error;
use bytes::Bytes;
use flowstone_wire::batch_retain::{Retained, filler, retain};
use flowstone_wire::{BatchHeader, Lsn, Offset, RecordView, batch, record};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a key costs in the map beside its bytes.
const KEY_COST_BYTES: usize = 64;
/// A range longer than this is not put into one file: a batch covers no more offsets.
const RANGE_MAX: u64 = 1 << 31;

/// How to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// How long a tombstone stays after it was first compacted, in milliseconds.
    pub tombstone_ms: u64,
    /// Bytes for keys; what does not fit waits for the next time.
    pub key_bytes: usize,
}

/// What is to be rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteInput {
    /// Segments of one partition, in order, without a gap between them. Not empty.
    pub segments: Vec<SettledMeta>,
    /// Records before this are not wanted.
    pub start: Offset,
    /// Whether older records of a key go.
    pub compaction: Option<Compaction>,
    /// Whether plain batches are compressed.
    pub compress: bool,
    /// A file is closed at this size, in bytes.
    pub file_bytes: u64,
    /// What must stay free on the disk, in bytes.
    pub min_free_bytes: u64,
}

/// What came of it: to be put into the manifest in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The new segments, in order; they cover what the old ones covered.
    pub added: Vec<SettledMeta>,
    /// The old ones.
    pub removed: Vec<SegmentId>,
}

/// How far a job is.
#[derive(Debug)]
pub enum RewriteStep {
    /// So many bytes were read in this step; there is more.
    More(u64),
    /// Everything is written and durable.
    Done(Rewritten),
}

/// A segment that is being read, block by block.
#[derive(Debug)]
struct Source {
    meta: SettledMeta,
    reader: SettledReader,
    blocks: VecDeque<BlockEntry>,
}

/// Rewriting in progress.
#[derive(Debug)]
pub struct RewriteJob {
    disk: Arc<dyn Disk>,
    shard_dir: PathBuf,
    input: RewriteInput,
    /// The newest offset of each key of the dirty segments.
    newest: BTreeMap<Box<[u8]>, Offset>,
    key_bytes: usize,
    /// Segments that are still to be scanned.
    to_scan: VecDeque<SettledMeta>,
    /// The map knows everything before this.
    known_upto: Offset,
    to_copy: VecDeque<SettledMeta>,
    /// The keys are being read; afterwards all is copied.
    scanning: bool,
    begun: bool,
    source: Option<Source>,
    writer: Option<SettledWriter>,
    /// Class of what is in the writer, and the offset behind the range that it covers.
    open: Option<(Option<i64>, Offset, Lsn)>,
    done: Rewritten,
}

impl RewriteJob {
    /// A job over these segments. Nothing is read or written yet.
    pub fn new(disk: Arc<dyn Disk>, shard_dir: &Path, input: RewriteInput) -> Self {
        let dirty = |m: &&SettledMeta| m.clean_at_ms.is_none();
        let to_scan = match input.compaction {
            Some(_) => input.segments.iter().filter(dirty).cloned().collect(),
            None => VecDeque::new(),
        };
        // What is clean needs no keys.
        let clean = input
            .segments
            .iter()
            .take_while(|m| m.clean_at_ms.is_some());
        let first = input.segments.first().map_or(Offset(0), |m| m.first_offset);
        let known_upto = clean.last().map_or(first, |m| m.next_offset);
        Self {
            disk,
            shard_dir: shard_dir.into(),
            to_copy: input.segments.iter().cloned().collect(),
            known_upto,
            input,
            newest: BTreeMap::new(),
            key_bytes: 0,
            scanning: !to_scan.is_empty(),
            to_scan,
            begun: false,
            source: None,
            writer: None,
            open: None,
            done: Rewritten::default(),
        }
    }

    /// Does the next piece of work: about one block.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`], [`Error::Format`] for a segment that is damaged: the old ones
    /// stay, see [`Self::abandon`].
    pub fn step(&mut self) -> Result<RewriteStep, Error> {
        if !std::mem::replace(&mut self.begun, true) {
            let bytes: u64 = self.input.segments.iter().map(|m| m.bytes).sum();
            check_room(
                &*self.disk,
                &self.shard_dir,
                bytes + self.input.min_free_bytes,
            )?;
        }
        if self.scanning {
            self.scan()
        } else {
            self.copy()
        }
    }

    /// Removes what was written: the job failed.
    pub fn abandon(self) {
        abandon(&*self.disk, &self.shard_dir, self.writer, &self.done.added);
    }

    fn open_source(&self, meta: SettledMeta) -> Result<Source, Error> {
        let reader = SettledReader::open(&*self.disk, &self.shard_dir, meta.id())?;
        let blocks = reader.blocks().to_vec().into();
        Ok(Source {
            meta,
            reader,
            blocks,
        })
    }

    fn scan(&mut self) -> Result<RewriteStep, Error> {
        let mut source = match self.source.take() {
            Some(source) => source,
            None => {
                let Some(meta) = self.to_scan.pop_front() else {
                    self.scanning = false;
                    return Ok(RewriteStep::More(0));
                };
                self.open_source(meta)?
            }
        };
        let Some(entry) = source.blocks.pop_front() else {
            self.known_upto = source.meta.next_offset;
            return Ok(RewriteStep::More(0));
        };
        for batch in source.reader.batches(&entry)? {
            self.note_keys(&batch)
                .map_err(|e| source.reader.bad(&e.to_string()))?;
        }
        self.known_upto = entry.next_offset;
        let limit = self.input.compaction.map_or(0, |c| c.key_bytes);
        if self.key_bytes >= limit {
            // The rest waits: what is known is enough for what lies before it.
            self.to_scan.clear();
        } else {
            self.source = Some(source);
        }
        Ok(RewriteStep::More(u64::from(entry.stored_bytes)))
    }

    fn note_keys(&mut self, stored: &Bytes) -> Result<(), batch::BatchError> {
        let (header, body) = batch::records(stored)?;
        if header.is_control() {
            return Ok(());
        }
        for r in record::walk(&header, &body) {
            let r = r?;
            let Some(key) = r.key else { continue };
            if self.newest.insert(key.into(), r.offset).is_none() {
                self.key_bytes += key.len() + KEY_COST_BYTES;
            }
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<RewriteStep, Error> {
        let mut source = match self.source.take() {
            Some(source) => source,
            None => match self.to_copy.pop_front() {
                // What the map does not know at all stays as it is.
                Some(meta) if !self.is_wanted(&meta) => {
                    self.to_copy.clear();
                    return Ok(RewriteStep::More(0));
                }
                Some(meta) => {
                    let source = self.open_source(meta)?;
                    self.begin(&source.meta)?;
                    source
                }
                None => {
                    self.close()?;
                    return Ok(RewriteStep::Done(std::mem::take(&mut self.done)));
                }
            },
        };
        let Some(entry) = source.blocks.pop_front() else {
            self.done.removed.push(source.meta.id());
            return Ok(RewriteStep::More(0));
        };
        for batch in source.reader.batches(&entry)? {
            self.copy_batch(&source, &batch)?;
        }
        let bytes = u64::from(entry.stored_bytes);
        self.source = Some(source);
        Ok(RewriteStep::More(bytes))
    }

    fn is_wanted(&self, meta: &SettledMeta) -> bool {
        self.input.compaction.is_none() || meta.first_offset < self.known_upto
    }

    /// Whether the tombstones of a segment have been there for long enough.
    fn is_old(&self, meta: &SettledMeta) -> bool {
        let clean_at = self.input.compaction.zip(meta.clean_at_ms);
        clean_at.is_some_and(|(c, at)| at.saturating_add_unsigned(c.tombstone_ms) <= c.now_ms)
    }

    /// Since when the new segment is clean that takes a segment in; segments of different times are not
    /// put together before they are old.
    fn class_of(&self, meta: &SettledMeta) -> Option<i64> {
        let c = self.input.compaction?;
        match meta.clean_at_ms {
            Some(_) if self.is_old(meta) => Some(c.now_ms.saturating_sub_unsigned(c.tombstone_ms)),
            Some(at) => Some(at),
            None => (meta.next_offset <= self.known_upto).then_some(c.now_ms),
        }
    }

    /// Makes the writer ready for a segment.
    fn begin(&mut self, meta: &SettledMeta) -> Result<(), Error> {
        let class = self.class_of(meta);
        let fits = self.open.is_some_and(|(open, _, _)| open == class)
            && self.writer.as_ref().is_some_and(|w| {
                w.file_bytes() < self.input.file_bytes
                    && meta.next_offset.0 - w.first_offset().0 < RANGE_MAX
            });
        if !fits {
            self.close()?;
            let id = SegmentId {
                generation: meta.generation + 1,
                ..meta.id()
            };
            let (disk, dir) = (self.disk.clone(), &self.shard_dir);
            self.writer = Some(SettledWriter::create(disk, dir, id, self.input.compress)?);
        }
        self.open = Some((class, meta.next_offset, meta.last_lsn));
        Ok(())
    }

    fn copy_batch(&mut self, source: &Source, stored: &Bytes) -> Result<(), Error> {
        let bad = |e: batch::BatchError| source.reader.bad(&e.to_string());
        let header = BatchHeader::decode(stored).map_err(bad)?;
        if header.is_control() {
            // It only held the place of what was compacted before.
            return Ok(());
        }
        let tombstones = !self.is_old(&source.meta);
        let (start, newest) = (self.input.start, &self.newest);
        let writer = self.writer.as_mut().expect("a segment was begun");
        let keep = |r: &RecordView<'_>| {
            let superseded = r
                .key
                .and_then(|k| newest.get(k))
                .is_some_and(|at| *at > r.offset);
            r.offset >= start && !superseded && (tombstones || r.value.is_some() || r.key.is_none())
        };
        if self.input.compaction.is_none() {
            return writer.push(&header, stored);
        }
        match retain(stored, keep).map_err(bad)? {
            Retained::All => writer.push(&header, stored),
            Retained::Nothing => Ok(()),
            Retained::Some(header, bytes) => writer.push(&header, &bytes),
        }
    }

    /// Finishes the open file; a batch without records stands for what is gone at its end.
    fn close(&mut self) -> Result<(), Error> {
        let (Some(mut writer), Some((class, end, last_lsn))) =
            (self.writer.take(), self.open.take())
        else {
            return Ok(());
        };
        let id = writer.id();
        if writer.next_offset() < end {
            let (header, bytes) = filler(id.partition, writer.next_offset(), end, last_lsn);
            writer.push(&header, &bytes)?;
        }
        let mut meta = writer.finish()?;
        meta.clean_at_ms = class;
        self.done.added.push(meta);
        Ok(())
    }
}
