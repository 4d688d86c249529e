//! Saving what can be saved of a damaged data directory, offline. Originals are kept in `damaged/`.

mod rebuild;

use crate::catalog_copy;
use crate::catalog_store::{self, CatalogStore};
use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::effects::{Kept, ShardFiles};
use crate::reserve::Reserve;
use crate::worker::Clock;
use flowstone_core::catalog::partition_config;
use flowstone_core::shard::{Where, gap_row};
use flowstone_core::{Catalog, Input, Outbox, Output, Shard};
use flowstone_storage::settled::SettledReader;
use flowstone_storage::{Disk, Error, RealDisk, StateStore, layout};
use flowstone_wire::{Offset, PartitionId, ShardId};
use std::path::Path;
use std::sync::Arc;

/// Why nothing could be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The catalog is gone and its copy too, or something else is wrong with it.
    #[error("{0}")]
    Catalog(String),
    /// What storage says.
    #[error(transparent)]
    Storage(#[from] Error),
    /// What the disk says.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Repairs a data directory: what is derived is made again, what is lost becomes a gap that readers pass
/// over. Returns what was done and what is lost, a line each; nothing where all is well.
///
/// # Errors
/// [`RepairError`]; what was done so far stays and can be done again.
pub fn salvage(data: &Path, config: &Config) -> Result<Vec<String>, RepairError> {
    let identity = data_dir::read(data)?;
    let dir = DataDir::open(data, identity.shards)?;
    let mut done = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(data)?);
    let reserve = Arc::new(Reserve::open(disk.clone(), config.log.min_free_bytes)?);
    let catalog = repair_catalog(&dir, &reserve, &mut done)?;
    for id in (0..identity.shards).map(ShardId) {
        let (shard, mut files) = repair_shard(&disk, id, config, &reserve, &mut done)?;
        close_gaps(&shard, &files, &mut done)?;
        drain(shard, &mut files, &catalog)?;
    }
    Ok(done)
}

fn repair_catalog(
    dir: &DataDir,
    reserve: &Arc<Reserve>,
    done: &mut Vec<String>,
) -> Result<Arc<Catalog>, RepairError> {
    let path = dir.path.join("catalog.redb");
    let shards = dir.identity.shards;
    let why = match CatalogStore::open(&path, shards, reserve.clone()) {
        Ok(store) => return Ok(store.current()),
        Err(why) => why,
    };
    let rows = catalog_copy::read(&path)
        .map_err(|e| RepairError::Catalog(format!("{why}; its copy cannot be read: {e}")))?;
    if path.exists() {
        let kept = dir.path.join("damaged");
        std::fs::create_dir_all(&kept)?;
        std::fs::rename(&path, rebuild::free_name(&kept, "catalog.redb"))?;
    }
    catalog_store::make(&path, &rows).map_err(|e| RepairError::Catalog(e.to_string()))?;
    done.push(format!("the catalog was made again from its copy: {why}"));
    let store = CatalogStore::open(&path, shards, reserve.clone()).map_err(RepairError::Catalog)?;
    Ok(store.current())
}

fn repair_shard(
    disk: &Arc<dyn Disk>,
    id: ShardId,
    config: &Config,
    reserve: &Arc<Reserve>,
    done: &mut Vec<String>,
) -> Result<(Shard, ShardFiles), RepairError> {
    let dir = layout::shard_dir(id);
    let state = match StateStore::open_of_shard(&**disk, &dir) {
        Ok(state) => state,
        Err(e @ Error::State { .. }) => {
            let state = rebuild::state(&**disk, &dir)?;
            done.push(format!(
                "shard {id}: {e}: made again; group positions, task state and sequences of producers \
                 are lost up to LSN {}",
                state.applied()?
            ));
            state
        }
        Err(e) => return Err(e.into()),
    };
    let applied = state.applied()?;
    let (shard, start) = Shard::salvage(disk.clone(), &dir, id, config.shard(), &state)?;
    for hole in &start.recovered.holes {
        let more = if hole.last_lsn > applied {
            "; group positions, task state and sequences of producers in there are lost, too"
        } else {
            ""
        };
        done.push(format!("shard {id}: {hole}{more}"));
    }
    let files = ShardFiles {
        disk: disk.clone(),
        dir,
        state,
        mark: start.mark,
        reserve: reserve.clone(),
    };
    Ok((shard, files))
}

/// Stores a gap for every stretch of offsets that nothing has.
fn close_gaps(
    shard: &Shard,
    files: &ShardFiles,
    done: &mut Vec<String>,
) -> Result<(), RepairError> {
    let mut rows = Vec::new();
    for (partition, start, next) in shard.partitions() {
        for (from, to, what) in lost(shard, files, partition, (start, next)) {
            rows.push(gap_row(partition, from, to));
            let last = to.0.saturating_sub(1);
            done.push(format!(
                "partition {partition}: offsets {from} to {last} are lost and are passed over: {what}"
            ));
        }
    }
    if !rows.is_empty() {
        files.state.apply(files.state.applied()?, &rows)?;
    }
    Ok(())
}

/// The stretches of a partition that cannot be read and were not accepted before.
fn lost(
    shard: &Shard,
    files: &ShardFiles,
    partition: PartitionId,
    (start, next): (Offset, Offset),
) -> Vec<(Offset, Offset, String)> {
    let (mut at, mut all) = (start, Vec::new());
    while at < next {
        if let Some(end) = shard.gap_end(partition, at) {
            at = end;
            continue;
        }
        at = match shard.locate(partition, at) {
            Some(Where::Hot(slices)) => behind(&slices, at),
            Some(Where::Settled(segment)) => {
                let first = segment.id.first_offset;
                if segment.remote.is_some() {
                    // `flowstone tier verify` looks at what is in the tier only.
                    at = shard.settled_end(partition, first).unwrap_or(next);
                    continue;
                }
                let read = SettledReader::open(&*files.disk, &files.dir, segment.id);
                match read {
                    Ok(reader) => {
                        let end = reader.meta().next_offset;
                        let bad = reader.damaged_blocks().into_iter();
                        let accepted = |from: Offset, to: Offset| {
                            shard.gap_end(partition, from).is_some_and(|end| end >= to)
                        };
                        let bad = bad.filter(|(f, to)| *to > at && !accepted(*f, *to));
                        all.extend(bad.map(|(f, t)| (f.max(at), t, "a damaged block".into())));
                        end.max(at.plus(1))
                    }
                    Err(e) => {
                        let end = shard.settled_end(partition, first).unwrap_or(next);
                        all.push((at, end, e.to_string()));
                        end.max(at.plus(1))
                    }
                }
            }
            Some(Where::Lost(lost)) => {
                let to = lost.to.max(at.plus(1));
                all.push((at, to, lost.what));
                to
            }
            None => return all,
        };
    }
    all
}

fn behind(slices: &[bytes::Bytes], at: Offset) -> Offset {
    let mut end = at.plus(1);
    for slice in slices {
        let mut position = 0;
        while let Ok(header) = flowstone_wire::BatchHeader::decode(&slice[position..]) {
            end = end.max(header.next_offset());
            position += header.size as usize;
        }
    }
    end
}

/// Has the shard bring its state store up to date and stop in order.
fn drain(mut shard: Shard, files: &mut ShardFiles, catalog: &Catalog) -> Result<(), RepairError> {
    let clock = Clock::start();
    let topics = catalog.topics();
    let open = topics.flat_map(|topic| {
        let config = partition_config(&topic.settings);
        let here = topic.partitions.iter().filter(|p| p.shard == shard.id());
        here.map(move |p| Input::OpenPartition {
            partition: p.id,
            config: config.clone(),
        })
    });
    let mut inputs: std::collections::VecDeque<Input> = open.collect();
    inputs.extend([Input::Drain, Input::Turn]);
    let mut out = Outbox::default();
    while let Some(input) = inputs.pop_front() {
        shard.step(clock.now(), input, &mut out);
        for output in out.drain() {
            let answer = match output {
                Output::Sync(job) => Some(Input::Synced {
                    upto: job.upto,
                    result: job.run().map_err(|e| e.to_string()),
                }),
                Output::Fenced(why) => {
                    return Err(RepairError::Catalog(format!("shard {}: {why}", shard.id())));
                }
                other => match files.keep_up(other) {
                    Kept::Tell(done) => done.into_input().ok(),
                    Kept::Done => None,
                    Kept::Later(_) => {
                        return Err(Error::NoSpace {
                            path: files.dir.clone(),
                        }
                        .into());
                    }
                },
            };
            inputs.extend(answer);
        }
    }
    Ok(())
}
