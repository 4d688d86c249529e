//! Making a state store again from what the log and the settled segments say of themselves.

use flowstone_core::shard::partition_row;
use flowstone_storage::disk::{create_dir_durably, list_or_nothing};
use flowstone_storage::mark::Mark;
use flowstone_storage::settled::{SettledMeta, SettledReader};
use flowstone_storage::{Disk, Error, StateStore, layout};
use flowstone_wire::{Lsn, Offset, PartitionId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A state store that knows the settled segments of the shard, and of everything else what the log
/// still has. The damaged one is kept.
pub(super) fn state(disk: &dyn Disk, shard_dir: &Path) -> Result<StateStore, Error> {
    let path = layout::state(shard_dir);
    keep_original(disk, shard_dir, &path)?;
    let state = StateStore::open(disk, &path)?;
    let log = layout::log_dir(shard_dir);
    let names = list_or_nothing(disk, &log)?;
    let first = names
        .iter()
        .filter_map(|n| layout::parse_segment_name(n))
        .min();
    let applied = match first {
        Some(first) => Lsn(first.0 - 1),
        None => {
            Mark::open(disk, &layout::mark(shard_dir))?
                .0
                .state()
                .durable
        }
    };
    let metas = settled(disk, shard_dir)?;
    state.commit_settled(Some(applied), &metas, &[])?;
    let mut ranges: BTreeMap<PartitionId, (Offset, Offset)> = BTreeMap::new();
    for m in &metas {
        let (start, next) = ranges
            .entry(m.partition)
            .or_insert((m.first_offset, m.next_offset));
        (*start, *next) = ((*start).min(m.first_offset), (*next).max(m.next_offset));
    }
    let rows = ranges
        .iter()
        .map(|(p, (start, next))| partition_row(*p, *start, *next));
    state.apply(applied, &rows.collect::<Vec<_>>())?;
    Ok(state)
}

fn keep_original(disk: &dyn Disk, shard_dir: &Path, path: &Path) -> Result<(), Error> {
    let io = |action: &'static str| {
        let path = path.to_path_buf();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    };
    if disk.open(path).is_err() {
        return Ok(());
    }
    let dir = layout::damaged_dir(shard_dir);
    create_dir_durably(disk, &dir).map_err(io("keep a copy of"))?;
    let taken = list_or_nothing(disk, &dir)?;
    let free = (0..).map(|n| format!("state.redb.{n}"));
    let name = free.into_iter().find(|n| !taken.contains(n));
    let name = name.unwrap_or_default();
    disk.rename(path, &dir.join(name)).map_err(io("rename"))?;
    disk.sync_dir(&dir).map_err(io("sync"))
}

/// A name in a directory that nobody has.
pub(super) fn free_name(dir: &Path, name: &str) -> PathBuf {
    let names = (0..).map(|n| dir.join(format!("{name}.{n}")));
    names
        .into_iter()
        .find(|path| !path.exists())
        .unwrap_or_else(|| dir.join(name))
}

/// The settled segments that say of themselves that they are whole, each range once.
fn settled(disk: &dyn Disk, shard_dir: &Path) -> Result<Vec<SettledMeta>, Error> {
    let root = layout::settled_root(shard_dir);
    let mut all: Vec<SettledMeta> = Vec::new();
    for dir in list_or_nothing(disk, &root)? {
        let Ok(partition) = dir.parse().map(PartitionId) else {
            continue;
        };
        let mut metas = Vec::new();
        for name in list_or_nothing(disk, &root.join(&dir))? {
            if layout::parse_settled_name(&name).is_some()
                && let Ok(reader) =
                    SettledReader::open_path(disk, &root.join(&dir).join(name), partition)
            {
                metas.push(reader.meta().clone());
            }
        }
        metas.sort_by_key(|m| (m.first_offset, std::cmp::Reverse(m.next_offset)));
        let mut covered = Offset(0);
        for meta in metas {
            if meta.next_offset > covered {
                covered = meta.next_offset;
                all.push(meta);
            }
        }
    }
    Ok(all)
}
