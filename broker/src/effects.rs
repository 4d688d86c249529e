//! The files of a shard that its driver writes, and what comes back from work done elsewhere.

use crate::reserve::Reserve;
use crate::tiering::TierResult;
use flowstone_core::input::{ReplicaInput, TierFound};
use flowstone_core::output::TierJob;
use flowstone_core::replica::Promise;
use flowstone_core::{Input, Output, Reply, Ticket};
use flowstone_processor::{Found, Wanted};
use flowstone_storage::disk::remove_if_there;
use flowstone_storage::mark::{Mark, ReplicaMark};
use flowstone_storage::settled::{Rewritten, SegmentId, SettledMeta, Tiered};
use flowstone_storage::state::Change;
use flowstone_storage::{Disk, DiskFile, Error, StateStore, layout, log};
use flowstone_wire::{Failure, Lsn, Offset, PartitionId};
use std::path::PathBuf;
use std::sync::Arc;

/// What a driver holds of a shard beside the shard.
#[derive(Debug)]
pub(crate) struct ShardFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) state: StateStore,
    pub(crate) mark: Mark,
    pub(crate) reserve: Arc<Reserve>,
}

/// What came of work that an output asked for.
#[derive(Debug)]
pub(crate) enum Done {
    Reply {
        ticket: Ticket,
        result: Result<Reply, Failure>,
    },
    Spare(Result<Arc<dyn DiskFile>, Error>),
    Synced {
        upto: Lsn,
        result: Result<(), String>,
    },
    Materialized {
        upto: Lsn,
        result: Result<(), String>,
    },
    Settled(Result<(Vec<SettledMeta>, Lsn), Error>),
    Rewritten(Result<Rewritten, Error>),
    Replica(ReplicaInput),
    Tiered {
        partition: PartitionId,
        start: Offset,
        result: TierResult,
    },
    FoundInTier {
        partition: PartitionId,
        result: Result<TierFound, String>,
    },
    TaskBatches {
        id: u32,
        partition: PartitionId,
        result: Result<Vec<bytes::Bytes>, String>,
    },
    StateRead {
        id: u32,
        result: Result<Vec<Found>, String>,
    },
    ReadGone {
        read: Box<Output>,
        why: String,
    },
}

impl Done {
    /// A job for the tier failed.
    pub(crate) fn not_tiered(job: &TierJob, why: String) -> Self {
        Self::Tiered {
            partition: job.partition,
            start: job.start,
            result: Err(why),
        }
    }

    /// The input for the shard; a reply is not one.
    pub(crate) fn into_input(self) -> Result<Input, (Ticket, Result<Reply, Failure>)> {
        Ok(match self {
            Self::Reply { ticket, result } => return Err((ticket, result)),
            Self::Spare(result) => Input::Spare(result),
            Self::Synced { upto, result } => Input::Synced { upto, result },
            Self::Materialized { upto, result } => Input::Materialized { upto, result },
            Self::Settled(result) => Input::Settled(result),
            Self::Rewritten(result) => Input::Rewritten(result),
            Self::Replica(input) => Input::Replica(input),
            Self::Tiered {
                partition,
                start,
                result,
            } => Input::Tiered {
                partition,
                start,
                result,
            },
            Self::FoundInTier { partition, result } => Input::FoundInTier { partition, result },
            Self::StateRead { id, result } => Input::StateRead { id, result },
            Self::ReadGone { read, why } => Input::ReadGone { read, why },
            Self::TaskBatches {
                id,
                partition,
                result,
            } => Input::TaskBatches {
                id,
                partition,
                result,
            },
        })
    }
}

/// What became of upkeep.
#[derive(Debug)]
pub(crate) enum Kept {
    /// It is done; the shard must be told.
    Tell(Done),
    /// It is done.
    Done,
    /// There was no room: it is to be tried again.
    Later(Output),
}

impl ShardFiles {
    /// Reads what a task has missed of its state.
    pub(crate) fn read_state(&self, id: u32, wanted: &[Wanted]) -> Done {
        let found = flowstone_core::shard::read_state(&self.state, id, wanted);
        Done::StateRead {
            id,
            result: found.map_err(|e| e.to_string()),
        }
    }

    /// Does upkeep that may wait for the disk.
    pub(crate) fn keep_up(&mut self, output: Output) -> Kept {
        match output {
            Output::AllocateSpare(disk, dir, config) => {
                Kept::Tell(Done::Spare(log::allocate_spare(&*disk, &dir, config)))
            }
            Output::Materialize {
                changes,
                upto,
                clean,
            } => self.materialize(changes, upto, clean),
            Output::Mark(durable) => {
                if let Err(e) = self.mark.advance(durable, false) {
                    // The other slot still holds; a disk that is broken shows with the next sync.
                    tracing::warn!("{e}");
                }
                Kept::Done
            }
            Output::Persist(promise) => Kept::Tell(Done::Replica(self.persist(promise))),
            Output::Cut(job) => {
                let cut = job.run(&mut self.mark);
                Kept::Tell(Done::Replica(ReplicaInput::Cut(cut)))
            }
            Output::RemoveFiles(paths) => {
                for path in paths {
                    if let Err(e) = remove_if_there(&*self.disk, &path) {
                        // A start finds and releases it again.
                        tracing::warn!("{e}");
                    }
                }
                self.reserve.take();
                Kept::Done
            }
            _ => Kept::Done,
        }
    }

    fn persist(&mut self, promise: Promise) -> ReplicaInput {
        let kept = self.mark.keep(ReplicaMark {
            promised: promise.epoch,
            leader: (promise.leader.node, promise.leader.incarnation),
            ..self.mark.state().replica
        });
        ReplicaInput::Persisted {
            epoch: promise.epoch,
            result: kept.map_err(|e| e.to_string()),
        }
    }

    fn materialize(&mut self, changes: Vec<Change>, upto: Lsn, clean: bool) -> Kept {
        let applied = self.change_state(|state| state.apply(upto, &changes));
        let result = match applied {
            // The log has all of it. A stop does not wait for room: the next start reads the log.
            Err(Error::NoSpace { .. }) if !clean => {
                return Kept::Later(Output::Materialize {
                    changes,
                    upto,
                    clean,
                });
            }
            Err(e) => Err(e),
            Ok(()) => self.mark.advance(upto, clean),
        };
        self.reserve.take();
        Kept::Tell(Done::Materialized {
            upto,
            result: result.map_err(|e| e.to_string()),
        })
    }

    /// Changes the state store, with the reserve's help where there is no room.
    ///
    /// # Errors
    /// What storage says; after [`Error::NoSpace`] the store can be changed again.
    pub(crate) fn change_state(
        &mut self,
        change: impl Fn(&StateStore) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self {
            state,
            disk,
            reserve,
            ..
        } = self;
        reserve.help(|| match change(state) {
            Err(e @ Error::NoSpace { .. }) => {
                // redb takes nothing more after an error.
                state.reopen(&**disk)?;
                Err(e)
            }
            other => other,
        })
    }

    /// Puts these rows in instead of those, whose files it then removes.
    pub(crate) fn adopt(
        &mut self,
        dropped: &[SegmentId],
        put: &[(SettledMeta, Option<Tiered>)],
    ) -> Result<(), Error> {
        self.change_state(|state| state.commit_adopted(dropped, put))?;
        self.remove_settled(dropped.iter().copied())
    }

    /// Notes that these are in the tier only, then removes their local files.
    pub(crate) fn forget_local(&mut self, notes: &[(SegmentId, Tiered)]) -> Result<(), Error> {
        self.change_state(|state| state.commit_tiered(notes))?;
        self.remove_settled(notes.iter().map(|(id, _)| *id))
    }

    /// Takes settled segments out of the manifest, then removes their files.
    pub(crate) fn drop_settled(&mut self, segments: &[SegmentId]) -> Result<(), Error> {
        self.change_state(|state| state.commit_settled(None, &[], segments))?;
        self.remove_settled(segments.iter().copied())
    }

    fn remove_settled(&mut self, ids: impl Iterator<Item = SegmentId>) -> Result<(), Error> {
        for id in ids {
            remove_if_there(&*self.disk, &layout::settled_path(&self.dir, id))?;
        }
        self.reserve.take();
        Ok(())
    }
}
