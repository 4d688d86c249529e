//! A shard and what its driver holds beside it, and the work that its outputs ask for.

use crate::planted::{Plant, PlantedDisk, forget_rows};
use crate::rng::Rng;
use crate::world::World;
use flowstone_core::output::TierJob;
use flowstone_core::{Input, Outbox, Output, Parcel, Reply, Shard, Ticket};
use flowstone_processor::Wanted;
use flowstone_storage::disk::create_dir_durably;
use flowstone_storage::log::{LogConfig, SyncJob, allocate_spare};
use flowstone_storage::mark::Mark;
use flowstone_storage::settled::{
    RewriteJob, RewriteStep, SegmentId, SettleJob, SettleStep, SettledReader, Source, Tiered,
    remove_orphans,
};
use flowstone_storage::state::Change;
use flowstone_storage::{Disk, Error, SimDisk, StateStore, layout};
use flowstone_wire::native::FetchAnswer;
use flowstone_wire::{ErrorCode, Failure, Lsn, Offset, ShardId};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Work that may take its time.
pub(crate) enum Job {
    Sync(SyncJob),
    Spare(Arc<dyn Disk>, PathBuf, LogConfig),
    Materialize {
        changes: Vec<Change>,
        upto: Lsn,
        clean: bool,
    },
    Mark(Lsn),
    Settle(Box<SettleJob>, Vec<PathBuf>),
    DropSettled(Vec<SegmentId>),
    Rewrite(Box<RewriteJob>),
    RemoveFiles(Vec<PathBuf>),
    Tier(TierJob),
    /// The bucket has it; the manifest does not know yet.
    Tiered(TierJob, Vec<(SegmentId, Tiered)>),
    ForgetLocal(Vec<(SegmentId, Tiered)>),
    Read {
        ticket: Ticket,
        segment: Source,
        offset: Offset,
        max_bytes: u32,
        bounds: FetchAnswer,
    },
    FindTime {
        ticket: Ticket,
        segment: Source,
        timestamp: i64,
    },
    ReadForTask {
        id: u32,
        segment: Source,
        offset: Offset,
    },
    ReadState {
        id: u32,
        wanted: Vec<Wanted>,
    },
}

/// Jobs of one lane are done one after the other; lanes do not wait for each other. What a reader was sent
/// to may be gone when it gets there.
pub(crate) const LANES: usize = 8;

impl Job {
    pub(crate) fn lane(&self) -> usize {
        match self {
            Self::Sync(_) => 0,
            Self::Spare(..) => 1,
            Self::Materialize { .. } | Self::Mark(_) => 2,
            Self::Settle(..) | Self::Rewrite(_) => 3,
            Self::RemoveFiles(_) => 4,
            Self::Tier(_) | Self::Tiered(..) => 6,
            Self::DropSettled(_) | Self::ForgetLocal(_) => 7,
            Self::Read { .. }
            | Self::FindTime { .. }
            | Self::ReadForTask { .. }
            | Self::ReadState { .. } => 5,
        }
    }
}

/// What came of a job.
pub(crate) enum Done {
    /// Nobody waits for it.
    Nothing,
    /// There is more to do: the job goes on.
    More(Job),
    Input(Input),
    Reply(Ticket, Result<Reply, Failure>),
}

/// What is not a job.
pub(crate) enum Told {
    Reply(Ticket, Result<Reply, Failure>),
    Carry(Parcel),
    Report(String),
    Fenced(String),
    Drained,
}

pub(crate) struct Host {
    pub(crate) shard: Shard,
    pub(crate) out: Outbox,
    pub(crate) lanes: [VecDeque<Job>; LANES],
    pub(crate) turn_due: bool,
    /// When the last tick was.
    pub(crate) ticked_us: u64,
    pub(crate) drained: bool,
    /// Decides how long its work takes.
    pub(crate) rng: Rng,
    pub(crate) disk: Arc<dyn Disk>,
    /// Files by the names that they have here; it forgets nothing.
    pub(crate) bucket: SimDisk,
    pub(crate) dir: PathBuf,
    pub(crate) state: StateStore,
    mark: Mark,
    pub(crate) plant: Option<Plant>,
    /// Planted bugs that happen once have not happened yet.
    armed: bool,
}

impl Host {
    /// Opens a shard on what the disk has, as the broker does.
    pub(crate) fn start(
        disk: &SimDisk,
        id: ShardId,
        world: &World,
        plant: Option<Plant>,
        rng: Rng,
    ) -> Result<(Self, String), Error> {
        let dir = layout::shard_dir(id);
        let disk: Arc<dyn Disk> = Arc::new(PlantedDisk {
            disk: disk.clone(),
            plant,
        });
        let io = |source| Error::Io {
            action: "create",
            path: dir.clone(),
            source,
        };
        create_dir_durably(&*disk, &dir).map_err(io)?;
        let state = StateStore::open_of_shard(&*disk, &dir)?;
        forget_rows(&state, plant)?;
        remove_orphans(&*disk, &dir, &state)?;
        let (shard, start) = Shard::open(disk.clone(), &dir, id, world.config, &state)?;
        let rows = start.recovered.rows;
        let host = Self {
            shard,
            out: Outbox::default(),
            lanes: Default::default(),
            turn_due: false,
            ticked_us: 0,
            drained: false,
            rng,
            disk,
            bucket: world.bucket.clone(),
            dir,
            state,
            mark: start.mark,
            plant,
            armed: true,
        };
        Ok((host, rows))
    }

    /// Batches for other shards that its state store holds.
    pub(crate) fn stored_parcels(&self) -> Result<usize, Error> {
        let mut count = 0;
        self.state.load(&mut |key, _| {
            count += usize::from(key.first() == Some(&b'x'));
        })?;
        Ok(count)
    }

    /// Sorts an output into what is told and what is to be done.
    pub(crate) fn sort(&self, output: Output) -> Result<Told, Job> {
        Err(match output {
            Output::Reply { ticket, result } => return Ok(Told::Reply(ticket, result)),
            Output::Report(text) => return Ok(Told::Report(text)),
            Output::Fenced(reason) => return Ok(Told::Fenced(reason)),
            Output::Drained => return Ok(Told::Drained),
            Output::Carry(parcel) => return Ok(Told::Carry(parcel)),
            Output::Sync(job) => Job::Sync(job),
            Output::AllocateSpare(disk, dir, config) => Job::Spare(disk, dir, config),
            Output::Materialize {
                changes,
                upto,
                clean,
            } => Job::Materialize {
                changes,
                upto,
                clean,
            },
            Output::Mark(durable) => Job::Mark(durable),
            Output::Settle(input) => {
                let paths = input.segments.iter().map(|(s, _)| s.path.clone()).collect();
                Job::Settle(
                    Box::new(SettleJob::new(self.disk.clone(), &self.dir, input)),
                    paths,
                )
            }
            Output::DropSettled(segments) => Job::DropSettled(segments),
            Output::Rewrite(input) => Job::Rewrite(Box::new(RewriteJob::new(
                self.disk.clone(),
                &self.dir,
                input,
            ))),
            Output::RemoveFiles(paths) => Job::RemoveFiles(paths),
            Output::ReadState { id, wanted } => Job::ReadState { id, wanted },
            Output::Tier(job) => Job::Tier(job),
            Output::ForgetLocal(notes) => Job::ForgetLocal(notes),
            Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            } => Job::Read {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            },
            Output::FindSettledTime {
                ticket,
                segment,
                timestamp,
            } => Job::FindTime {
                ticket,
                segment,
                timestamp,
            },
            Output::ReadForTask {
                id,
                segment,
                offset,
            } => Job::ReadForTask {
                id,
                segment,
                offset,
            },
            other @ (Output::ToPeer { .. }
            | Output::Persist(_)
            | Output::Cut(_)
            | Output::SendSnapshot { .. }
            | Output::AskCatalog(_)
            | Output::ReplicaReport(_)
            | Output::LookIntoTier(_)
            | Output::Adopt { .. }
            | Output::Reopen
            | Output::Install(_)) => unreachable!("every shard is its only copy: {other:?}"),
        })
    }

    /// Does a job, or a step of it.
    pub(crate) fn work(&mut self, job: Job) -> Done {
        match job {
            Job::Sync(job) => Done::Input(Input::Synced {
                upto: job.upto,
                result: self.sync(&job),
            }),
            Job::Spare(disk, dir, config) => {
                Done::Input(Input::Spare(allocate_spare(&*disk, &dir, config)))
            }
            Job::Materialize {
                changes,
                upto,
                clean,
            } => {
                let result = self
                    .materialize(&changes, upto, clean)
                    .map_err(|e| e.to_string());
                Done::Input(Input::Materialized { upto, result })
            }
            Job::Mark(durable) => {
                // The other slot still holds.
                let _ = self.mark.advance(durable, false);
                Done::Nothing
            }
            Job::Settle(job, paths) => self.settle(job, paths),
            Job::Rewrite(job) => self.rewrite(job),
            Job::DropSettled(segments) => {
                // What is not removed now is removed by the next start.
                let _ = self.drop_settled(&segments);
                Done::Nothing
            }
            Job::RemoveFiles(paths) => {
                self.remove(&paths);
                Done::Nothing
            }
            Job::ReadState { id, wanted } => {
                let found = flowstone_core::shard::read_state(&self.state, id, &wanted);
                let result = found.map_err(|e| e.to_string());
                Done::Input(Input::StateRead { id, result })
            }
            Job::Tier(job) => self.copy(job),
            Job::Tiered(job, notes) => self.note_copies(&job, notes),
            Job::ForgetLocal(notes) => {
                // What is not removed now is removed by the next start.
                let _ = self.forget(&notes);
                Done::Nothing
            }
            Job::Read {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            } => {
                let read = self
                    .reader(segment)
                    .and_then(|r| r.read(offset, max_bytes as usize));
                let asked = Output::ReadSettled {
                    ticket,
                    segment,
                    offset,
                    max_bytes,
                    bounds,
                };
                let read = read.map(|(slices, _)| Reply::Fetched(bounds, slices));
                reply(ticket, read, asked)
            }
            Job::FindTime {
                ticket,
                segment,
                timestamp,
            } => {
                let find =
                    |r: SettledReader| Ok(r.find_time(timestamp)?.unwrap_or(r.meta().next_offset));
                let asked = Output::FindSettledTime {
                    ticket,
                    segment,
                    timestamp,
                };
                let found = self.reader(segment).and_then(find).map(Reply::Found);
                reply(ticket, found, asked)
            }
            Job::ReadForTask {
                id,
                segment,
                offset,
            } => {
                if self.plant == Some(Plant::LoseTaskRead) && std::mem::take(&mut self.armed) {
                    return Done::Nothing;
                }
                let read = self.reader(segment).and_then(|r| r.read(offset, 2000));
                let result = read.map(|(slices, _)| slices).map_err(|e| e.to_string());
                Done::Input(Input::TaskBatches {
                    id,
                    partition: segment.id.partition,
                    result,
                })
            }
        }
    }

    fn sync(&self, job: &SyncJob) -> Result<(), String> {
        if self.plant == Some(Plant::SyncWithoutSyncing) {
            return Ok(());
        }
        match job.run() {
            Err(_) if self.plant == Some(Plant::SyncAgainAfterError) => Ok(()),
            result => result.map_err(|e| e.to_string()),
        }
    }

    fn materialize(&mut self, changes: &[Change], upto: Lsn, clean: bool) -> Result<(), Error> {
        if self.plant == Some(Plant::MaterializeNothing) {
            return Ok(());
        }
        self.state.apply(upto, changes)?;
        self.mark.advance(upto, clean)
    }

    fn settle(&mut self, mut job: Box<SettleJob>, paths: Vec<PathBuf>) -> Done {
        let result = match job.step() {
            Ok(SettleStep::More(_)) => return Done::More(Job::Settle(job, paths)),
            Ok(SettleStep::Done(metas, upto)) => {
                let committed = match self.plant {
                    Some(Plant::SkipManifest) => Ok(()),
                    _ => self.state.commit_settled(Some(upto), &metas, &[]),
                };
                committed.map(|()| (metas, upto))
            }
            Err(e) => Err(e),
        };
        if self.plant == Some(Plant::RemoveTooEarly) && result.is_ok() {
            self.remove(&paths);
        }
        Done::Input(Input::Settled(result))
    }

    fn rewrite(&self, mut job: Box<RewriteJob>) -> Done {
        let result = match job.step() {
            Ok(RewriteStep::More(_)) => return Done::More(Job::Rewrite(job)),
            Ok(RewriteStep::Done(done)) => {
                let committed = self.state.commit_settled(None, &done.added, &done.removed);
                committed.map(|()| done)
            }
            Err(e) => Err(e),
        };
        Done::Input(Input::Rewritten(result))
    }

    fn drop_settled(&self, segments: &[SegmentId]) -> Result<(), Error> {
        self.state.commit_settled(None, &[], segments)?;
        let paths: Vec<PathBuf> = segments
            .iter()
            .map(|id| layout::settled_path(&self.dir, *id))
            .collect();
        self.remove(&paths);
        Ok(())
    }

    fn remove(&self, paths: &[PathBuf]) {
        // What cannot be removed is found again by the next start.
        paths.iter().for_each(|path| drop(self.disk.remove(path)));
    }

    fn reader(&self, source: Source) -> Result<SettledReader, Error> {
        let disk: &dyn Disk = match source.remote {
            Some(_) => &self.bucket,
            None => &*self.disk,
        };
        SettledReader::open(disk, &self.dir, source.id)
    }
}

fn reply(ticket: Ticket, result: Result<Reply, Error>, asked: Output) -> Done {
    if let Err(e) = &result
        && e.is_gone()
    {
        let (read, why) = (Box::new(asked), e.to_string());
        return Done::Input(Input::ReadGone { read, why });
    }
    let damaged = |e: Error| Failure::new(ErrorCode::Damaged, e.to_string());
    Done::Reply(ticket, result.map_err(damaged))
}
