//! The files of a shard that its driver writes, and what comes back from work done elsewhere.

use flowstone_core::{Input, Output, Reply, Ticket};
use flowstone_storage::disk::remove_if_there;
use flowstone_storage::mark::{Mark, MarkState};
use flowstone_storage::settled::{Rewritten, SegmentId, SettledMeta};
use flowstone_storage::{Disk, DiskFile, Error, StateStore, layout, log};
use flowstone_wire::{Failure, Lsn, PartitionId};
use std::path::PathBuf;
use std::sync::Arc;

/// What a driver holds of a shard beside the shard.
#[derive(Debug)]
pub(crate) struct ShardFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) state: StateStore,
    pub(crate) mark: Mark,
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
    TaskBatches {
        id: u32,
        partition: PartitionId,
        result: Result<Vec<bytes::Bytes>, String>,
    },
}

impl Done {
    /// The input for the shard; a reply is not one.
    pub(crate) fn into_input(self) -> Result<Input, (Ticket, Result<Reply, Failure>)> {
        Ok(match self {
            Self::Reply { ticket, result } => return Err((ticket, result)),
            Self::Spare(result) => Input::Spare(result),
            Self::Synced { upto, result } => Input::Synced { upto, result },
            Self::Materialized { upto, result } => Input::Materialized { upto, result },
            Self::Settled(result) => Input::Settled(result),
            Self::Rewritten(result) => Input::Rewritten(result),
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

impl ShardFiles {
    /// Does upkeep that may wait for the disk. Returns what the shard must be told.
    pub(crate) fn keep_up(&mut self, output: Output) -> Option<Done> {
        match output {
            Output::AllocateSpare(disk, dir, config) => {
                Some(Done::Spare(log::allocate_spare(&*disk, &dir, config)))
            }
            Output::Materialize {
                changes,
                upto,
                clean,
            } => {
                let result = self.state.apply(upto, &changes).and_then(|()| {
                    let state = MarkState {
                        durable: upto.max(self.mark.state().durable),
                        clean,
                        ..self.mark.state()
                    };
                    self.mark.store(state)
                });
                Some(Done::Materialized {
                    upto,
                    result: result.map_err(|e| e.to_string()),
                })
            }
            Output::Mark(durable) => {
                let durable = durable.max(self.mark.state().durable);
                let state = MarkState {
                    durable,
                    ..self.mark.state()
                };
                if let Err(e) = self.mark.store(state) {
                    // The other slot still holds; a disk that is broken shows with the next sync.
                    tracing::warn!("{e}");
                }
                None
            }
            Output::RemoveFiles(paths) => {
                for path in paths {
                    if let Err(e) = remove_if_there(&*self.disk, &path) {
                        // A start finds and releases it again.
                        tracing::warn!("{e}");
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// Takes settled segments out of the manifest, then removes their files.
    pub(crate) fn drop_settled(&self, segments: &[SegmentId]) -> Result<(), Error> {
        self.state.commit_settled(None, &[], segments)?;
        for id in segments {
            remove_if_there(&*self.disk, &layout::settled_path(&self.dir, *id))?;
        }
        Ok(())
    }
}
