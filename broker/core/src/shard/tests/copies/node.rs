//! One copy: a shard with its disk, and the work that is under way for it.

use super::bucket::Bucket;
use crate::input::{Input, Now, PartitionConfig, ReplicaInput, TaskConfig};
use crate::output::{Outbox, Output};
use crate::replica::{Asked, Envelope, Limits, Message, Report};
use crate::shard::{ReplicaOptions, Shard, ShardConfig, read_state, snapshot_id};
use crate::{Reply, Ticket};
use bytes::Bytes;
use flowstone_storage::log::allocate_spare;
use flowstone_storage::mark::{Mark, ReplicaMark};
use flowstone_storage::settled::{SettleJob, SettleStep, SettledReader, Source, remove_orphans};
use flowstone_storage::snapshot::{Outgoing, Part, finish_install};
use flowstone_storage::{SimDisk, StateStore, layout};
use flowstone_wire::{Failure, Incarnation, NodeId, PartitionId, ShardId};
use std::sync::Arc;

/// What a step of a shard leads to, outside.
pub(super) enum Effect {
    Answer(Ticket, Result<Reply, Failure>),
    Send(Envelope, Vec<Bytes>),
    Ask(Asked),
    Report(Report),
    /// To be run later, in the order of their queue: 0 is the syncs', 1 the rest's.
    Work(usize, Work),
    /// Asked of the bucket.
    Bucket(Output),
    Reopen,
    Install,
    Fenced(String),
    /// Nothing, but a word to the operator.
    Told,
}

#[allow(
    clippy::large_enum_variant,
    reason = "there are few, and they live shortly"
)]
pub(super) enum Work {
    Do(Output),
    /// It was killed, or is to be opened again.
    Open,
    /// The snapshot that has come takes the place of what there is.
    Install,
}

/// What came of work.
pub(super) enum Done {
    Input(Input),
    Answer(Ticket, Result<Reply, Failure>),
    Snapshot(Envelope, Vec<Part>),
    Nothing,
}

/// A copy of the shard that runs.
pub(super) struct Live {
    pub(super) shard: Shard,
    pub(super) state: StateStore,
    mark: Mark,
}

pub(super) struct Setup {
    pub(super) config: ShardConfig,
    pub(super) partitions: Vec<PartitionId>,
    pub(super) settings: PartitionConfig,
    pub(super) uneven_bytes: u64,
    pub(super) task: TaskConfig,
}

impl Setup {
    /// Segments may end elsewhere on each node.
    fn config_of(&self, node: NodeId) -> ShardConfig {
        let mut config = self.config;
        config.log.segment_bytes += u64::from(node.0) * self.uneven_bytes;
        config
    }
}

impl Live {
    pub(super) fn open(disk: &SimDisk, node: NodeId, life: u64, setup: &Setup) -> Self {
        let (id, dir) = (ShardId(0), layout::shard_dir(ShardId(0)));
        finish_install(disk, &dir).unwrap();
        let state = StateStore::open_of_shard(disk, &dir).unwrap();
        remove_orphans(disk, &dir, &state).unwrap();
        let options = ReplicaOptions {
            node,
            fresh_life: Incarnation(life),
            limits: Limits::default(),
        };
        let disk = Arc::new(disk.clone());
        let opened = Shard::open_replica(disk, &dir, id, setup.config_of(node), &state, options);
        let (shard, start) = opened.unwrap();
        Self {
            shard,
            state,
            mark: start.mark,
        }
    }

    /// What the catalog knows, as a start tells it.
    pub(super) fn introduce(&mut self, now: Now, setup: &Setup) -> Vec<Effect> {
        let mut all = Vec::new();
        for partition in &setup.partitions {
            let (partition, config) = (*partition, setup.settings.clone());
            all.extend(self.step(now, Input::OpenPartition { partition, config }));
        }
        self.shard
            .close_unknown(PartitionId(u32::MAX), &mut Outbox::default());
        all.extend(self.step(now, Input::StartTask(Box::new(setup.task.clone()))));
        all.extend(self.step(now, Input::Tick));
        all
    }

    pub(super) fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Outbox::default();
        self.shard.step(now, input, &mut out);
        out.drain().map(effect).collect()
    }

    /// Runs work that a step has asked for, and gives the input that answers it.
    pub(super) fn work(&mut self, disk: &SimDisk, bucket: &Bucket, work: Output) -> Done {
        let text = |e: flowstone_storage::Error| e.to_string();
        let dir = layout::shard_dir(ShardId(0));
        Done::Input(match work {
            Output::Sync(job) => Input::Synced {
                upto: job.upto,
                result: job.run().map_err(|e| e.to_string()),
            },
            Output::AllocateSpare(disk, dir, config) => {
                Input::Spare(allocate_spare(&*disk, &dir, config))
            }
            Output::Materialize {
                changes,
                upto,
                clean,
            } => {
                let applied = self.state.apply(upto, &changes);
                let result = applied
                    .and_then(|()| self.mark.advance(upto, clean))
                    .map_err(text);
                Input::Materialized { upto, result }
            }
            Output::Mark(durable) => {
                self.mark.advance(durable, false).unwrap();
                return Done::Nothing;
            }
            Output::Persist(promise) => {
                let kept = ReplicaMark {
                    promised: promise.epoch,
                    leader: (promise.leader.node, promise.leader.incarnation),
                    ..self.mark.state().replica
                };
                let (epoch, result) = (promise.epoch, self.mark.keep(kept).map_err(text));
                Input::Replica(ReplicaInput::Persisted { epoch, result })
            }
            Output::Cut(job) => Input::Replica(ReplicaInput::Cut(job.run(&mut self.mark))),
            Output::Settle(input) => {
                let mut job = SettleJob::new(Arc::new(disk.clone()), &dir, input);
                let (metas, upto) = loop {
                    if let SettleStep::Done(metas, upto) = job.step().unwrap() {
                        break (metas, upto);
                    }
                };
                self.state.commit_settled(Some(upto), &metas, &[]).unwrap();
                Input::Settled(Ok((metas, upto)))
            }
            Output::RemoveFiles(paths) => {
                use flowstone_storage::Disk;
                paths.iter().for_each(|path| drop(disk.remove(path)));
                return Done::Nothing;
            }
            Output::SendSnapshot {
                header,
                least,
                committed,
                tail,
            } => {
                let shared = Arc::new(disk.clone());
                let mut out = Outgoing::begin(shared, &dir, &self.state, tail).unwrap();
                let last = snapshot_id(out.picture()).unwrap();
                assert!(
                    (least..=committed).contains(&last.lsn),
                    "{last} is of no use"
                );
                let mut parts = Vec::new();
                // A segment that was replaced since makes it useless, and another one is asked for.
                while let Ok(Some(part)) = out.next_part() {
                    parts.push(part);
                }
                let message = Message::Snapshot { last };
                return Done::Snapshot(Envelope { header, message }, parts);
            }
            Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            } => {
                let (slices, _) = match reader(disk, bucket, segment) {
                    Ok(reader) => reader.read(offset, max_bytes as usize).unwrap(),
                    Err(why) => {
                        let read = Box::new(Output::ReadSettled {
                            ticket,
                            segment,
                            offset,
                            max_bytes,
                            bounds,
                        });
                        return Done::Input(Input::ReadGone { read, why });
                    }
                };
                return Done::Answer(ticket, Ok(Reply::Fetched(bounds, slices)));
            }
            Output::ReadForTask {
                id,
                segment,
                offset,
            } => {
                let read = |reader: SettledReader| reader.read(offset, 1 << 20).unwrap().0;
                Input::TaskBatches {
                    id,
                    partition: segment.id.partition,
                    result: reader(disk, bucket, segment).map(read),
                }
            }
            Output::ReadState { id, wanted } => {
                let result = read_state(&self.state, id, &wanted).map_err(text);
                Input::StateRead { id, result }
            }
            gone @ (Output::Adopt { .. } | Output::ForgetLocal(_) | Output::DropSettled(_)) => {
                return self.let_go(disk, gone);
            }
            other => panic!("{other:?}"),
        })
    }
}

/// A settled segment, or that it is not there any more.
fn reader(disk: &SimDisk, bucket: &Bucket, segment: Source) -> Result<SettledReader, String> {
    match segment.remote {
        Some(copy) => bucket.open(segment.id, copy.epoch),
        None => SettledReader::open(disk, &layout::shard_dir(ShardId(0)), segment.id)
            .map_err(|e| e.to_string()),
    }
}

fn effect(output: Output) -> Effect {
    match output {
        Output::Reply { ticket, result } => Effect::Answer(ticket, result),
        Output::ToPeer { envelope, bodies } => Effect::Send(envelope, bodies),
        Output::AskCatalog(asked) => Effect::Ask(asked),
        Output::ReplicaReport(report) => Effect::Report(*report),
        Output::Sync(_) => Effect::Work(0, Work::Do(output)),
        Output::Reopen => Effect::Reopen,
        Output::Install(_) => Effect::Install,
        Output::Fenced(why) => Effect::Fenced(why),
        Output::Tier(_) | Output::LookIntoTier(_) => Effect::Bucket(output),
        // A leader that was not the last one, or a file that went meanwhile: it is tried again.
        Output::Report(what) if what.starts_with("the tier") => Effect::Told,
        Output::Report(what) => panic!("{what}"),
        Output::Drained | Output::Carry(_) => unreachable!("{output:?}"),
        work => Effect::Work(1, Work::Do(work)),
    }
}
