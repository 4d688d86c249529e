//! The background thread of a worker: everything of its shards that may wait for a device, but the
//! group commit.
//!
//! Reads go before upkeep: a reader waits for them.

use crate::effects::{Done, ShardFiles};
use flowstone_core::output::SegmentId;
use flowstone_core::{Output, Reply, Ticket};
use flowstone_storage::Error;
use flowstone_storage::settled::{SettleInput, SettleJob, SettleStep, SettledMeta, SettledReader};
use flowstone_wire::{ErrorCode, Failure, Lsn, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// Open settled segments that are kept.
const READERS_MAX: usize = 256;
/// Bytes a task is given from a settled segment at once.
const TASK_READ_BYTES: usize = 1 << 20;

/// Work for the thread.
pub(crate) enum Job {
    /// An output of this shard.
    Shard(ShardId, Output),
    /// Finish upkeep that is due and end.
    Stop,
}

/// A settling in progress.
struct Settling {
    shard: ShardId,
    job: SettleJob,
}

pub(crate) struct Background {
    files: BTreeMap<ShardId, ShardFiles>,
    jobs: Receiver<Job>,
    done: Box<dyn Fn(ShardId, Done) + Send>,
    readers: BTreeMap<(ShardId, SegmentId), SettledReader>,
    upkeep: VecDeque<(ShardId, Output)>,
    settling: Option<Settling>,
    rate_bytes_per_s: u64,
    /// Settling may go on at this time.
    settle_at: Instant,
}

impl Background {
    pub(crate) fn new(
        files: BTreeMap<ShardId, ShardFiles>,
        jobs: Receiver<Job>,
        rate_bytes_per_s: u64,
        done: Box<dyn Fn(ShardId, Done) + Send>,
    ) -> Self {
        Self {
            files,
            jobs,
            done,
            readers: BTreeMap::new(),
            upkeep: VecDeque::new(),
            settling: None,
            rate_bytes_per_s,
            settle_at: Instant::now(),
        }
    }

    /// Works until it is told to stop or the worker is gone.
    pub(crate) fn run(mut self) {
        loop {
            match self.next_job() {
                Next::Job(Job::Stop) | Next::Gone => return,
                Next::Job(Job::Shard(shard, output)) => self.take(shard, output),
                Next::Idle => self.work(),
            }
        }
    }

    fn next_job(&mut self) -> Next {
        let busy = !self.upkeep.is_empty();
        if !busy && self.settling.is_none() {
            return self.jobs.recv().map_or(Next::Gone, Next::Job);
        }
        let wait = self.settle_at.saturating_duration_since(Instant::now());
        if busy || wait.is_zero() {
            return match self.jobs.try_recv() {
                Ok(job) => Next::Job(job),
                Err(TryRecvError::Empty) => Next::Idle,
                Err(TryRecvError::Disconnected) => Next::Gone,
            };
        }
        match self.jobs.recv_timeout(wait) {
            Ok(job) => Next::Job(job),
            Err(RecvTimeoutError::Timeout) => Next::Idle,
            Err(RecvTimeoutError::Disconnected) => Next::Gone,
        }
    }

    /// Reads at once, queues the rest.
    fn take(&mut self, shard: ShardId, output: Output) {
        match output {
            Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            } => {
                let read = self.reader(shard, segment);
                let result = read.and_then(|r| r.read(offset, max_bytes as usize));
                let reply = result.map(|(slices, _)| Reply::Fetched(bounds, slices));
                self.reply(shard, ticket, reply);
            }
            Output::FindSettledTime {
                ticket,
                segment,
                timestamp,
            } => {
                let read = self.reader(shard, segment);
                let found =
                    read.and_then(|r| Ok(r.find_time(timestamp)?.unwrap_or(r.meta().next_offset)));
                self.reply(shard, ticket, found.map(Reply::Found));
            }
            Output::ReadForTask {
                id,
                segment,
                offset,
            } => {
                let read = self.reader(shard, segment);
                let result = read.and_then(|r| r.read(offset, TASK_READ_BYTES));
                let result = result.map(|(slices, _)| slices).map_err(|e| e.to_string());
                let partition = segment.partition;
                (self.done)(
                    shard,
                    Done::TaskBatches {
                        id,
                        partition,
                        result,
                    },
                );
            }
            other => self.upkeep.push_back((shard, other)),
        }
    }

    fn reply(&self, shard: ShardId, ticket: Ticket, result: Result<Reply, Error>) {
        let result = result.map_err(|e| Failure::new(ErrorCode::Damaged, e.to_string()));
        (self.done)(shard, Done::Reply { ticket, result });
    }

    fn reader(&mut self, shard: ShardId, segment: SegmentId) -> Result<&SettledReader, Error> {
        if !self.readers.contains_key(&(shard, segment)) {
            if self.readers.len() >= READERS_MAX {
                self.readers.pop_first();
            }
            let files = &self.files[&shard];
            let (partition, first) = (segment.partition, segment.first_offset);
            let reader = SettledReader::open(&*files.disk, &files.dir, partition, first)?;
            self.readers.insert((shard, segment), reader);
        }
        Ok(&self.readers[&(shard, segment)])
    }

    fn work(&mut self) {
        if let Some((shard, output)) = self.upkeep.pop_front() {
            return self.keep_up(shard, output);
        }
        if let Some(mut settling) = self.settling.take() {
            match settling.job.step() {
                Ok(SettleStep::More(bytes)) => {
                    let nanos = bytes.saturating_mul(1_000_000_000) / self.rate_bytes_per_s.max(1);
                    // Not from now: time that the step itself took counts.
                    self.settle_at += Duration::from_nanos(nanos);
                    self.settling = Some(settling);
                }
                Ok(SettleStep::Done(metas, upto)) => {
                    let result = self.commit_settled(settling.shard, metas, upto);
                    (self.done)(settling.shard, Done::Settled(result));
                }
                Err(e) => (self.done)(settling.shard, Done::Settled(Err(e))),
            }
        }
    }

    fn commit_settled(
        &self,
        shard: ShardId,
        metas: Vec<SettledMeta>,
        upto: Lsn,
    ) -> Result<(Vec<SettledMeta>, Lsn), Error> {
        self.files[&shard]
            .state
            .commit_settled(Some(upto), &metas, &[])?;
        Ok((metas, upto))
    }

    fn keep_up(&mut self, shard: ShardId, output: Output) {
        match output {
            Output::Settle(input) => self.start_settling(shard, input),
            Output::DropSettled(segments) => self.drop_settled(shard, &segments),
            other => {
                let Some(files) = self.files.get_mut(&shard) else {
                    return;
                };
                if let Some(done) = files.keep_up(other) {
                    (self.done)(shard, done);
                }
            }
        }
    }

    fn start_settling(&mut self, shard: ShardId, input: SettleInput) {
        if self.settling.is_some() {
            // One at a time: the rate is the node's.
            return self.upkeep.push_back((shard, Output::Settle(input)));
        }
        let files = &self.files[&shard];
        let job = SettleJob::new(files.disk.clone(), &files.dir, input);
        self.settling = Some(Settling { shard, job });
        self.settle_at = Instant::now();
    }

    fn drop_settled(
        &mut self,
        shard: ShardId,
        segments: &[(flowstone_wire::PartitionId, flowstone_wire::Offset)],
    ) {
        for (partition, first_offset) in segments {
            let segment = SegmentId {
                partition: *partition,
                first_offset: *first_offset,
            };
            self.readers.remove(&(shard, segment));
        }
        if let Err(e) = self.files[&shard].drop_settled(segments) {
            tracing::warn!(
                shard = shard.0,
                "expired segments are removed at the next start: {e}"
            );
        }
    }
}

enum Next {
    Job(Job),
    Idle,
    Gone,
}
