//! A read-only walk of a shard's directory: what is there, and what is damaged.

use crate::disk::{Disk, DiskFile, list_or_nothing};
use crate::error::Error;
use crate::layout;
use crate::log::Hole;
use crate::log::damage::next_batch;
use crate::mark::{Mark, MarkFound, MarkState};
use crate::redb_file::open_checked;
use crate::settled::{SettledMeta, SettledReader};
use crate::state::StateStore;
use flowstone_wire::{Lsn, PartitionId, batch};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A log segment as it stands on the disk.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// LSN in its name.
    pub first_lsn: Lsn,
    /// Last LSN that was found, 0 if none.
    pub last_lsn: Lsn,
    /// Batches found.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What stands behind them, if it is neither zeros nor the end of the file.
    pub behind: Option<String>,
    /// What is missing between them.
    pub holes: Vec<Hole>,
}

/// A settled segment as it stands on the disk.
#[derive(Debug)]
pub struct SettledReport {
    /// Its file.
    pub path: PathBuf,
    /// What its footer says, or what is wrong with it.
    pub state: Result<SettledMeta, Error>,
}

/// A shard as it stands on the disk.
#[derive(Debug)]
pub struct ShardReport {
    /// What the mark says.
    pub mark: MarkState,
    /// How the mark file looks.
    pub mark_found: MarkFound,
    /// Log segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Settled segments.
    pub settled: Vec<SettledReport>,
    /// What is wrong with the state store. Looked at only where it is asked for.
    pub state: Result<(), String>,
}

impl ShardReport {
    /// What is damaged, one line each: durable batches that are not there, files that do not verify.
    pub fn damage(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let last = self
            .segments
            .iter()
            .map(|s| s.last_lsn)
            .max()
            .unwrap_or_default();
        let holes = self.segments.iter().flat_map(|s| &s.holes);
        lines.extend(holes.map(ToString::to_string));
        for pair in self.segments.windows(2) {
            let behind = Lsn(pair[0].last_lsn.0.max(pair[0].first_lsn.0 - 1));
            if behind.next() != pair[1].first_lsn && behind < self.mark.durable {
                let (from, to) = (behind.next(), Lsn(pair[1].first_lsn.0 - 1));
                let path = pair[0].path.display();
                let what = pair[0].behind.as_deref().unwrap_or("nothing is there");
                lines.push(format!("{path}: LSN {from} to {to} are missing: {what}"));
            }
        }
        if last < self.mark.durable {
            let from = last.next();
            lines.push(format!(
                "LSN {from} to {} were durable and are missing",
                self.mark.durable
            ));
        }
        for s in &self.settled {
            if let Err(e) = &s.state {
                lines.push(e.to_string());
            }
        }
        lines.extend(self.state.clone().err());
        if self.mark_found == MarkFound::BothBad {
            lines.push("both slots of the mark are damaged".into());
        }
        lines
    }
}

/// Walks a shard. With `deep`, settled segments and the state store are read whole and verified.
///
/// # Errors
/// [`Error::Io`] where a directory cannot be read. Damage is not an error here, but the result.
pub fn shard(disk: &dyn Disk, shard_dir: &Path, deep: bool) -> Result<ShardReport, Error> {
    let mark_path = layout::mark(shard_dir);
    disk.open(&mark_path)
        .map_err(Error::io("open", &mark_path))?;
    let (mark, mark_found) = Mark::open(disk, &mark_path)?;
    let dir = layout::log_dir(shard_dir);
    let mut segments = Vec::new();
    for name in disk.list(&dir).map_err(Error::io("list", &dir))? {
        if let Some(first) = layout::parse_segment_name(&name) {
            segments.push(segment(disk, &dir.join(name), first)?);
        }
    }
    Ok(ShardReport {
        mark: mark.state(),
        mark_found,
        segments,
        settled: settled(disk, shard_dir, deep)?,
        state: if deep { state(disk, shard_dir) } else { Ok(()) },
    })
}

/// Opens a copy of the state store in memory: opening it where it is could change it.
fn state(disk: &dyn Disk, shard_dir: &Path) -> Result<(), String> {
    let path = layout::state(shard_dir);
    let said = |e: std::io::Error| format!("state store '{}': {e}", path.display());
    let file = match disk.open(&path) {
        Ok(file) => file,
        // A shard that has stored nothing yet has none.
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let missed = StateStore::is_missed(disk, shard_dir).map_err(|e| e.to_string())?;
            return if missed { Err(said(e)) } else { Ok(()) };
        }
        Err(e) => return Err(said(e)),
    };
    redb_copy(&path, &*file)
}

/// Checks a redb file that nobody has open, in a copy.
///
/// # Errors
/// What is wrong with it, for an operator.
pub fn redb_copy(path: &Path, file: &dyn DiskFile) -> Result<(), String> {
    let said = |e: std::io::Error| format!("'{}': {e}", path.display());
    let mut bytes = vec![0; file.len().map_err(said)? as usize];
    file.read_at(0, &mut bytes).map_err(said)?;
    let backend = InMemoryBackend::new();
    backend.set_len(bytes.len() as u64).map_err(said)?;
    backend.write(0, &bytes).map_err(said)?;
    let open = || redb::Database::builder().create_with_backend(backend);
    open_checked(path, open)
        .map(drop)
        .map_err(|e| e.to_string())
}

fn segment(disk: &dyn Disk, path: &Path, first_lsn: Lsn) -> Result<SegmentReport, Error> {
    let file = disk.open(path).map_err(Error::io("open", path))?;
    let file_bytes = file.len().map_err(Error::io("read", path))?;
    let map = file.map().map_err(Error::io("map", path))?;
    let mut report = SegmentReport {
        path: path.into(),
        first_lsn,
        last_lsn: Lsn(0),
        batches: 0,
        records: 0,
        bytes: 0,
        file_bytes,
        behind: None,
        holes: Vec::new(),
    };
    let (mut expected, mut at) = (first_lsn, 0);
    loop {
        let front = map.slice(at, (batch::HEADER_BYTES as u64).min(file_bytes - at));
        if front.iter().all(|b| *b == 0) {
            return Ok(report);
        }
        let header = batch::BatchHeader::decode(&front);
        let size = header.as_ref().map_or(0, |h| u64::from(h.size));
        match batch::verify(&map.slice(at, size.min(file_bytes - at))) {
            Ok(h) if h.lsn == expected => {
                report.last_lsn = h.lsn;
                report.batches += 1;
                report.records += u64::from(h.record_count);
                report.bytes += size;
                expected = expected.next();
                at += size;
            }
            other => {
                let what = match other {
                    Ok(h) => format!("a batch of LSN {}", h.lsn),
                    Err(e) => header.err().unwrap_or(e).to_string(),
                };
                let wanted = |h: &batch::BatchHeader| h.lsn > expected;
                let Some((position, next)) = next_batch(&map, at, file_bytes, wanted) else {
                    report.behind = Some(format!("at byte {at}: {what}"));
                    return Ok(report);
                };
                report.holes.push(Hole {
                    path: path.into(),
                    position: at,
                    first_lsn: expected,
                    last_lsn: Lsn(next.lsn.0 - 1),
                    what,
                });
                (at, expected) = (position, next.lsn);
            }
        }
    }
}

fn settled(disk: &dyn Disk, shard_dir: &Path, deep: bool) -> Result<Vec<SettledReport>, Error> {
    let root = layout::settled_root(shard_dir);
    let list = |dir: &Path| list_or_nothing(disk, dir);
    let mut reports = Vec::new();
    for dir in list(&root)? {
        let Ok(partition) = dir.parse().map(PartitionId) else {
            continue;
        };
        for name in list(&root.join(&dir))? {
            if layout::parse_settled_name(&name).is_none() {
                continue;
            }
            let path = root.join(&dir).join(name);
            let state = SettledReader::open_path(disk, &path, partition).and_then(|r| {
                if deep {
                    r.verify()?;
                }
                Ok(r.meta().clone())
            });
            reports.push(SettledReport { path, state });
        }
    }
    Ok(reports)
}
