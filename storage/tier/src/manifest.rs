//! What a bucket holds of one partition: pure code.

use crate::envelope::{self, Kind};
use flowstone_storage::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::{Lsn, Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// More than this is not a manifest: it would name half a million segments.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// No segment is larger; half a million of them have a sum.
const SEGMENT_BYTES_MAX: u64 = 1 << 40;
/// Offsets and LSNs go on behind these.
const NUMBER_MAX: Offset = Offset(i64::MAX as u64);

/// A term of ownership of a whole tier; not a shard's epoch. 0 means "nobody yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TierEpoch(pub u32);

impl fmt::Display for TierEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A segment of a partition in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// The first offset of its range.
    pub first_offset: Offset,
    /// How often what it holds was rewritten.
    pub generation: u32,
    /// Who uploaded it: two owners never write the same name.
    pub epoch: TierEpoch,
}

/// A segment that is in the bucket, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which one.
    pub id: ObjectId,
    /// Offset behind its range.
    pub next_offset: Offset,
    /// Number of records.
    pub records: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Largest record timestamp, milliseconds since 1970.
    pub max_timestamp: i64,
    /// LSN of its last batch.
    pub last_lsn: Lsn,
    /// When compaction made it clean, milliseconds since 1970; `None` if it never did.
    pub clean_at_ms: Option<i64>,
    /// Checksum of the whole object.
    pub crc32: u32,
}

impl Entry {
    /// The entry of a segment that was uploaded.
    pub fn of(meta: &SettledMeta, epoch: TierEpoch, crc32: u32) -> Self {
        Self {
            id: ObjectId {
                first_offset: meta.first_offset,
                generation: meta.generation,
                epoch,
            },
            next_offset: meta.next_offset,
            records: meta.records,
            bytes: meta.bytes,
            max_timestamp: meta.max_timestamp,
            last_lsn: meta.last_lsn,
            clean_at_ms: meta.clean_at_ms,
            crc32,
        }
    }

    /// The segment as storage knows it.
    pub fn meta(&self, partition: PartitionId) -> SettledMeta {
        SettledMeta {
            partition,
            first_offset: self.id.first_offset,
            next_offset: self.next_offset,
            generation: self.id.generation,
            clean_at_ms: self.clean_at_ms,
            records: self.records,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp,
            last_lsn: self.last_lsn,
        }
    }

    /// Which segment it is for storage.
    pub fn segment(&self, partition: PartitionId) -> SegmentId {
        self.meta(partition).id()
    }

    /// What storage notes of the copy; `local` says whether there is a local file beside it.
    pub fn tiered(&self, local: bool) -> Tiered {
        Tiered {
            generation: self.id.generation,
            epoch: self.id.epoch.0,
            bytes: self.bytes,
            crc32: self.crc32,
            local,
        }
    }

    /// Whether what is added up of entries stays a number, and what goes on behind them has one.
    fn check(&self) -> Result<(), String> {
        let (first, next) = (self.id.first_offset, self.next_offset);
        let is_possible = next <= NUMBER_MAX
            && self.last_lsn.0 <= NUMBER_MAX.0
            && self.records <= next.0 - first.0
            && self.bytes <= SEGMENT_BYTES_MAX;
        is_possible
            .then_some(())
            .ok_or_else(|| format!("its segment at offset {first} says what cannot be"))
    }

    /// What an entry needs to replace others: owners before generations.
    fn rank(&self) -> (TierEpoch, u32) {
        (self.id.epoch, self.id.generation)
    }
}

/// Why an entry does not fit a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It covers no offset.
    #[error("an entry from offset {0} to {1} covers nothing")]
    Empty(Offset, Offset),
    /// Another one covers it, or it covers one, or a part of one, that is not older.
    #[error(
        "offsets {0} to {1} lie in those of another segment, or across those of one that is not older"
    )]
    Overlaps(Offset, Offset),
    /// Its object is to be removed.
    #[error("the object at offset {0} was given up: upload it with another generation or epoch")]
    GivenUp(Offset),
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in, in place of so many others, which are garbage now.
    In {
        /// How many it replaced.
        replaced: usize,
    },
    /// It was in already.
    Already,
    /// All of it lies below the start: it is garbage.
    BelowStart,
}

/// The segments of a partition that are in the bucket.
///
/// Encoded as an envelope around postcard of its fields in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u64,
    epoch: TierEpoch,
    partition: PartitionId,
    start: Offset,
    /// Sorted, by where they begin and by where they end. Ranges may overlap where another owner went on:
    /// its segments end elsewhere. None lies in another one, or wholly below the start.
    entries: Vec<Entry>,
    /// No object is here twice, or here and in an entry.
    garbage: Vec<ObjectId>,
}

impl Manifest {
    /// The manifest of a partition of which nothing is in the bucket: version 0, never stored.
    pub fn empty(partition: PartitionId) -> Self {
        Self {
            version: 0,
            epoch: TierEpoch(0),
            partition,
            start: Offset(0),
            entries: Vec::new(),
            garbage: Vec::new(),
        }
    }

    /// Its number in its row; 0 means that it is not stored.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who stored it.
    pub fn epoch(&self) -> TierEpoch {
        self.epoch
    }

    /// Its partition.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// What lies below was deleted by retention.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The segments, by offset.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Objects that nobody reads any more and that are to be removed.
    pub fn garbage(&self) -> &[ObjectId] {
        &self.garbage
    }

    /// Offset behind the last segment; the start where there is none.
    pub fn next_offset(&self) -> Offset {
        self.entries.last().map_or(self.start, |e| e.next_offset)
    }

    /// Adds a segment. Those whose range it covers become garbage; it must be of a later epoch, or of
    /// the same epoch and a higher generation. Those of earlier epochs that it covers in part stay.
    ///
    /// # Errors
    /// [`ManifestError`]; nothing was changed then.
    pub fn add(&mut self, entry: Entry) -> Result<Added, ManifestError> {
        let (first, next) = (entry.id.first_offset, entry.next_offset);
        if first >= next {
            return Err(ManifestError::Empty(first, next));
        }
        if self.entries.contains(&entry) {
            return Ok(Added::Already);
        }
        if self.garbage.contains(&entry.id) {
            return Err(ManifestError::GivenUp(first));
        }
        let touched = self.entries.partition_point(|e| e.next_offset <= first)
            ..self.entries.partition_point(|e| e.id.first_offset < next);
        let fits = |e: &Entry| {
            let (from, to) = (e.id.first_offset >= first, e.next_offset <= next);
            match (from, to) {
                (true, true) => e.rank() < entry.rank(),
                (false, false) => false,
                _ => {
                    e.id.epoch < entry.id.epoch
                        && e.id.first_offset != first
                        && e.next_offset != next
                }
            }
        };
        if !self.entries[touched].iter().all(fits) {
            return Err(ManifestError::Overlaps(first, next));
        }
        let from = self.entries.partition_point(|e| e.id.first_offset < first);
        let to = self.entries.partition_point(|e| e.next_offset <= next);
        if next <= self.start {
            self.garbage.push(entry.id);
            return Ok(Added::BelowStart);
        }
        let replaced = to - from;
        let old = self.entries.splice(from..to, [entry]);
        self.garbage.extend(old.map(|e| e.id));
        Ok(Added::In { replaced })
    }

    /// Gives up the segments behind `from` that an owner before `epoch` added and that `is_kept` does not
    /// know: whoever was restored without them writes other records there.
    pub fn give_up(&mut self, from: Offset, epoch: TierEpoch, is_kept: impl Fn(&Entry) -> bool) {
        let goes = |e: &mut Entry| e.next_offset > from && e.id.epoch < epoch && !is_kept(e);
        let gone = self.entries.extract_if(.., goes);
        self.garbage.extend(gone.map(|e| e.id));
    }

    /// Sets where the partition begins, also further down than before; for a new owner, which knows.
    pub fn begin_at(&mut self, start: Offset) {
        self.start = Offset(0);
        self.move_start(start);
    }

    /// Moves the start up; segments wholly below become garbage. A lower start changes nothing.
    pub fn move_start(&mut self, start: Offset) {
        self.start = self.start.max(start);
        let below = self
            .entries
            .partition_point(|e| e.next_offset <= self.start);
        self.garbage
            .extend(self.entries.drain(..below).map(|e| e.id));
    }

    /// Forgets garbage that was removed from the bucket.
    pub fn cleared(&mut self, removed: &[ObjectId]) {
        let removed: BTreeSet<_> = removed.iter().collect();
        self.garbage.retain(|id| !removed.contains(id));
    }

    /// Sum of the records of its segments.
    pub fn records(&self) -> u64 {
        let each = self.entries.iter().map(|e| e.records);
        each.fold(0, u64::saturating_add)
    }

    /// Sum of the bytes of its segments.
    pub fn bytes(&self) -> u64 {
        let each = self.entries.iter().map(|e| e.bytes);
        each.fold(0, u64::saturating_add)
    }

    /// This one as the successor of itself, stored by `epoch`.
    pub(crate) fn numbered(&self, epoch: TierEpoch) -> Self {
        Self {
            version: self.version.saturating_add(1),
            epoch,
            ..self.clone()
        }
    }

    /// Its bytes in the bucket.
    ///
    /// # Errors
    /// In words, where it is too large.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let body = postcard::to_stdvec(self).map_err(|e| e.to_string())?;
        if body.len() as u64 > MANIFEST_BYTES_MAX / 2 {
            let (p, n) = (self.partition, self.entries.len());
            return Err(format!(
                "the manifest of partition {p} has {n} segments: compact it"
            ));
        }
        Ok(envelope::seal(Kind::Manifest, &body))
    }

    /// Reads a manifest; believes nothing that does not add up.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let body = envelope::open(Kind::Manifest, bytes)?;
        let manifest: Self = match postcard::take_from_bytes(body) {
            Ok((manifest, [])) => manifest,
            Ok((_, rest)) => return Err(format!("{} bytes follow its end", rest.len())),
            Err(e) => return Err(format!("it cannot be read: {e}")),
        };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let mut before = None;
        let mut seen = BTreeSet::new();
        for entry in &self.entries {
            let (first, next) = (entry.id.first_offset, entry.next_offset);
            let rises = before.is_none_or(|(f, n)| f < first && n < next);
            if !rises || next <= first || next <= self.start {
                return Err(format!("its segment at offset {first} is out of place"));
            }
            entry.check()?;
            before = Some((first, next));
            seen.insert(entry.id);
        }
        match self.garbage.iter().find(|id| !seen.insert(**id)) {
            Some(id) => Err(format!(
                "its garbage at offset {} is there twice",
                id.first_offset
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
