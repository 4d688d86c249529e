//! The background thread of a worker: everything of its shards that may wait for a device, but the
//! group commit.
//!
//! Reads go before upkeep: a reader waits for them.

use crate::cluster::Sending;
use crate::cluster::{self, Copies};
use crate::cold_read::{ColdRead, Sorted, no_tier};
use crate::effects::{Done, Kept, ShardFiles};
use crate::tiering::{TierResult, Tiering};
use flowstone_core::Output;
use flowstone_core::input::ReplicaInput;
use flowstone_core::output::TierJob;
use flowstone_core::replica::{Header, LogId};
use flowstone_storage::settled::{
    RewriteJob, RewriteStep, SegmentId, SettleJob, SettleStep, SettledMeta, SettledReader, Tiered,
};
use flowstone_storage::snapshot::TailPiece;
use flowstone_storage::{Error, StateStore};
use flowstone_tier::Scope;
use flowstone_wire::{Lsn, PartitionId, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

/// Open settled segments that are kept.
const READERS_MAX: usize = 256;
/// What found no room is tried again this much later.
const RETRY: Duration = Duration::from_secs(1);

/// Takes a shard that was opened again, or why it was not.
pub(crate) type TellOpened =
    Box<dyn Fn(ShardId, Result<Box<flowstone_core::Shard>, String>) + Send>;
/// Tells a shard what came of its work.
pub(crate) type TellDone = Arc<dyn Fn(ShardId, Done) + Send + Sync>;

/// Work for the thread.
pub(crate) enum Job {
    /// An output of this shard.
    Shard(ShardId, Output),
    /// The tier is done with a job.
    Tiered(ShardId, TierJob, TierResult),
    /// Finish upkeep that is due and end.
    Stop,
}

/// Rewriting of what was stored, in progress.
enum Work {
    Settle(Box<SettleJob>),
    Rewrite(Box<RewriteJob>),
}

pub(crate) struct Background {
    files: BTreeMap<ShardId, ShardFiles>,
    jobs: Receiver<Job>,
    /// For what comes back to this thread.
    back: Sender<Job>,
    done: TellDone,
    tier: Option<Arc<Tiering>>,
    copies: Option<Arc<Copies>>,
    /// Snapshots that are being sent of shards.
    sending: Vec<(ShardId, Sending)>,
    /// Takes a shard that was opened again.
    opened: TellOpened,
    readers: BTreeMap<(ShardId, SegmentId), SettledReader>,
    readers_max: usize,
    upkeep: VecDeque<(ShardId, Output)>,
    /// One at a time: the rate is the node's.
    work: Option<(ShardId, Work)>,
    /// Settling and rewriting that wait for their turn.
    waiting_work: VecDeque<(ShardId, Output)>,
    /// What is tried again, and when.
    later: VecDeque<(Instant, ShardId, Output)>,
    rate_bytes_per_s: u64,
    /// Settling may go on at this time.
    settle_at: Instant,
}

impl Background {
    pub(crate) fn new(
        files: BTreeMap<ShardId, ShardFiles>,
        (back, jobs): (Sender<Job>, Receiver<Job>),
        rate_bytes_per_s: u64,
        workers: usize,
        done: TellDone,
        tier: Option<Arc<Tiering>>,
        (copies, opened): (Option<Arc<Copies>>, TellOpened),
    ) -> Self {
        Self {
            files,
            jobs,
            back,
            done,
            tier,
            copies,
            sending: Vec::new(),
            opened,
            readers: BTreeMap::new(),
            readers_max: crate::file_limit::settled(workers, READERS_MAX),
            upkeep: VecDeque::new(),
            work: None,
            waiting_work: VecDeque::new(),
            later: VecDeque::new(),
            rate_bytes_per_s,
            settle_at: Instant::now(),
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        loop {
            match self.next_job() {
                Next::Job(Job::Stop) => return,
                Next::Job(Job::Shard(shard, output)) => self.take(shard, output),
                Next::Job(Job::Tiered(shard, job, result)) => self.note_copies(shard, job, result),
                Next::Idle => self.work(),
            }
        }
    }

    fn next_job(&mut self) -> Next {
        while self
            .later
            .front()
            .is_some_and(|(at, ..)| *at <= Instant::now())
        {
            self.upkeep.extend(
                self.later
                    .pop_front()
                    .map(|(_, shard, output)| (shard, output)),
            );
        }
        let due = match (&self.work, self.waiting_work.is_empty()) {
            _ if !self.upkeep.is_empty() => Some(Instant::now()),
            (Some(_), _) => Some(self.settle_at),
            (None, false) => Some(Instant::now()),
            (None, true) => None,
        };
        let due = due
            .into_iter()
            .chain(self.later.front().map(|(at, ..)| *at))
            .min();
        let Some(due) = due else {
            return Next::Job(self.jobs.recv().unwrap_or(Job::Stop));
        };
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return match self.jobs.try_recv() {
                Ok(job) => Next::Job(job),
                Err(TryRecvError::Empty) => Next::Idle,
                Err(TryRecvError::Disconnected) => Next::Job(Job::Stop),
            };
        }
        match self.jobs.recv_timeout(wait) {
            Ok(job) => Next::Job(job),
            Err(RecvTimeoutError::Timeout) => Next::Idle,
            Err(RecvTimeoutError::Disconnected) => Next::Job(Job::Stop),
        }
    }

    /// Reads at once, queues the rest.
    fn take(&mut self, shard: ShardId, output: Output) {
        match ColdRead::of(output) {
            Sorted::Read(read) if read.source.remote.is_some() => self.read_remote(shard, read),
            Sorted::Read(read) => {
                let segment = read.source.id;
                let done = read.run(self.reader(shard, segment));
                (self.done)(shard, done);
            }
            Sorted::Other(Output::ReadState { id, wanted }) => {
                if let Some(files) = self.files.get(&shard) {
                    (self.done)(shard, files.read_state(id, &wanted));
                }
            }
            Sorted::Other(Output::Tier(job)) => self.bring_up(shard, job),
            Sorted::Other(Output::LookIntoTier(partition)) => self.look(shard, partition),
            // Another leader waits for it.
            Sorted::Other(first @ Output::Persist(_)) => self.upkeep.push_front((shard, first)),
            Sorted::Other(other) => self.upkeep.push_back((shard, other)),
        }
    }

    /// The tier takes its time: others read it.
    fn read_remote(&self, shard: ShardId, read: ColdRead) {
        let done = self.done.clone();
        match &self.tier {
            Some(tier) => tier.read(read, move |result| done(shard, result)),
            None => done(shard, read.run(Err(no_tier()))),
        }
    }

    fn bring_up(&self, shard: ShardId, job: TierJob) {
        let Some(tier) = &self.tier else {
            let done = Done::not_tiered(&job, "there is no tier".into());
            return (self.done)(shard, done);
        };
        let Some(files) = self.files.get(&shard) else {
            let done = Done::not_tiered(&job, "the shard is closed".into());
            return (self.done)(shard, done);
        };
        let (disk, dir, back) = (files.disk.clone(), files.dir.clone(), self.back.clone());
        let leads = (Scope::Shard(shard), u64::from(job.term.0));
        tier.bring_up(disk, dir, leads, job, move |job, result| {
            // A thread that is gone has nobody who would be told.
            let _ = back.send(Job::Tiered(shard, job, result));
        });
    }

    fn look(&self, shard: ShardId, partition: PartitionId) {
        let done = self.done.clone();
        let tell = move |result| done(shard, Done::FoundInTier { partition, result });
        match &self.tier {
            Some(tier) => tier.look(partition, tell),
            None => tell(Err("there is no tier".into())),
        }
    }

    /// Notes what the tier has, and tells the shard.
    fn note_copies(&mut self, shard: ShardId, job: TierJob, result: TierResult) {
        let noted = result.and_then(|copies| {
            let change = |state: &StateStore| state.commit_tiered(&copies);
            match self.change_state(shard, change) {
                Ok(()) => Ok(copies),
                Err(e) => Err(e.to_string()),
            }
        });
        (self.done)(
            shard,
            Done::Tiered {
                partition: job.partition,
                start: job.start,
                result: noted,
            },
        );
    }

    fn forget_local(&mut self, shard: ShardId, notes: &[(SegmentId, Tiered)]) {
        let gone = notes.iter().map(|(id, _)| *id);
        let what = "local copies of what is in the tier are removed at the next start";
        self.let_go(shard, gone, what, |files| files.forget_local(notes));
    }

    fn adopt(
        &mut self,
        shard: ShardId,
        dropped: &[SegmentId],
        put: &[(SettledMeta, Option<Tiered>)],
    ) {
        let what = "what the tier has is taken over at the next start";
        let gone = dropped.iter().copied();
        self.let_go(shard, gone, what, |files| files.adopt(dropped, put));
    }

    fn drop_settled(&mut self, shard: ShardId, segments: &[SegmentId]) {
        let what = "expired segments are removed at the next start";
        let gone = segments.iter().copied();
        self.let_go(shard, gone, what, |files| files.drop_settled(segments));
    }

    /// Lets go of files; `what` is told where that fails.
    fn let_go(
        &mut self,
        shard: ShardId,
        gone: impl Iterator<Item = SegmentId>,
        what: &str,
        change: impl FnOnce(&mut ShardFiles) -> Result<(), Error>,
    ) {
        for id in gone {
            self.readers.remove(&(shard, id));
        }
        if let Some(files) = self.files.get_mut(&shard)
            && let Err(e) = change(files)
        {
            tracing::warn!(shard = shard.0, "{what}: {e}");
        }
    }

    fn reader(&mut self, shard: ShardId, segment: SegmentId) -> Result<&SettledReader, Error> {
        if !self.readers.contains_key(&(shard, segment)) {
            if self.readers.len() >= self.readers_max {
                self.readers.pop_first();
            }
            let files = self.files.get(&shard).ok_or_else(is_closed)?;
            let reader = SettledReader::open(&*files.disk, &files.dir, segment)?;
            self.readers.insert((shard, segment), reader);
        }
        Ok(&self.readers[&(shard, segment)])
    }

    fn work(&mut self) {
        if let Some((shard, output)) = self.upkeep.pop_front() {
            return self.keep_up(shard, output);
        }
        if self.work.is_none()
            && let Some((shard, output)) = self.waiting_work.pop_front()
        {
            self.start(shard, output);
        }
        if self.settle_at > Instant::now() {
            return;
        }
        let Some((shard, work)) = self.work.take() else {
            return;
        };
        let (bytes, work) = match work {
            Work::Settle(job) => self.settle(shard, job),
            Work::Rewrite(job) => self.rewrite(shard, job),
        };
        let nanos = bytes.saturating_mul(1_000_000_000) / self.rate_bytes_per_s.max(1);
        // Not from now: time that the step itself took counts.
        self.settle_at += Duration::from_nanos(nanos);
        self.work = work.map(|work| (shard, work));
    }

    /// A step of settling: the bytes that were read, and what is left.
    fn settle(&mut self, shard: ShardId, mut job: Box<SettleJob>) -> (u64, Option<Work>) {
        let lost = job.lost().len();
        let step = job.step();
        for lost in &job.lost()[lost..] {
            tracing::error!(shard = shard.0, "settling: {lost}");
        }
        let result = match step {
            Ok(SettleStep::More(bytes)) => {
                let paced_bytes = if job.hurries() { 0 } else { bytes };
                return (paced_bytes, Some(Work::Settle(job)));
            }
            Ok(SettleStep::Done(metas, upto)) => self.commit_settled(shard, metas, upto),
            Err(e) => {
                job.abandon();
                Err(e)
            }
        };
        (self.done)(shard, Done::Settled(result));
        (0, None)
    }

    /// A step of rewriting.
    fn rewrite(&mut self, shard: ShardId, mut job: Box<RewriteJob>) -> (u64, Option<Work>) {
        let result = match job.step() {
            Ok(RewriteStep::More(bytes)) => return (bytes, Some(Work::Rewrite(job))),
            Ok(RewriteStep::Done(done)) => {
                let (added, removed) = (&done.added, &done.removed);
                let committed =
                    self.change_state(shard, |state| state.commit_settled(None, added, removed));
                committed.map(|()| done)
            }
            Err(e) => {
                job.abandon();
                Err(e)
            }
        };
        (self.done)(shard, Done::Rewritten(result));
        (0, None)
    }

    fn commit_settled(
        &mut self,
        shard: ShardId,
        metas: Vec<SettledMeta>,
        upto: Lsn,
    ) -> Result<(Vec<SettledMeta>, Lsn), Error> {
        self.change_state(shard, |state| state.commit_settled(Some(upto), &metas, &[]))?;
        Ok((metas, upto))
    }

    fn change_state(
        &mut self,
        shard: ShardId,
        change: impl Fn(&StateStore) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.files.get_mut(&shard) {
            Some(files) => files.change_state(change),
            None => Ok(()),
        }
    }

    fn keep_up(&mut self, shard: ShardId, output: Output) {
        match output {
            output @ (Output::Settle(_) | Output::Rewrite(_)) => {
                self.waiting_work.push_back((shard, output));
            }
            Output::DropSettled(segments) => self.drop_settled(shard, &segments),
            Output::ForgetLocal(notes) => self.forget_local(shard, &notes),
            Output::Adopt { dropped, put } => self.adopt(shard, &dropped, &put),
            Output::Reopen => self.open_again(shard, None),
            Output::Install(last) => self.open_again(shard, Some(last)),
            Output::SendSnapshot {
                header,
                least,
                committed,
                tail,
            } => self.send_snapshot(shard, header, &(least..=committed), tail),
            other => {
                let Some(files) = self.files.get_mut(&shard) else {
                    return;
                };
                match files.keep_up(other) {
                    Kept::Tell(done) => (self.done)(shard, done),
                    Kept::Done => {}
                    Kept::Later(output) => {
                        tracing::warn!(
                            shard = shard.0,
                            "no room for the state store; trying again"
                        );
                        let at = Instant::now() + RETRY;
                        self.later.push_back((at, shard, output));
                    }
                }
            }
        }
    }

    fn start(&mut self, shard: ShardId, output: Output) {
        let Some(files) = self.files.get(&shard) else {
            return;
        };
        let disk = files.disk.clone();
        let work = match output {
            Output::Settle(input) => {
                Work::Settle(Box::new(SettleJob::new(disk, &files.dir, input)))
            }
            Output::Rewrite(input) => {
                Work::Rewrite(Box::new(RewriteJob::new(disk, &files.dir, input)))
            }
            _ => return,
        };
        self.work = Some((shard, work));
        self.settle_at = Instant::now();
    }

    /// Opens a shard again, which is dropped and of which nothing is under way.
    fn open_again(&mut self, shard: ShardId, snapshot: Option<LogId>) {
        let Some(copies) = self.copies.clone() else {
            return;
        };
        self.files.remove(&shard);
        self.readers.retain(|(of, _), _| *of != shard);
        self.sending.retain(|(of, sending)| {
            if *of == shard {
                cluster::end(sending);
            }
            *of != shard
        });
        let installed = snapshot.map_or(Ok(()), |last| copies.install(shard, last));
        let opened = installed.and_then(|()| copies.open(shard));
        let result = opened.map(|(opened, files)| {
            self.files.insert(shard, files);
            Box::new(opened)
        });
        (self.opened)(shard, result.map_err(|e| e.to_string()));
    }

    fn send_snapshot(
        &mut self,
        shard: ShardId,
        header: Header,
        useful: &RangeInclusive<Lsn>,
        tail: Vec<TailPiece>,
    ) {
        let (tell, to) = (self.done.clone(), header.to);
        let done = Box::new(move || tell(shard, Done::Replica(ReplicaInput::SnapshotSent(to))));
        let (Some(copies), Some(files)) = (&self.copies, self.files.get(&shard)) else {
            return done();
        };
        let sending = copies.send_snapshot(files, header, (useful, tail), done);
        self.sending.retain(|(_, s)| !cluster::is_over(s));
        self.sending.extend(sending.map(|s| (shard, s)));
    }
}

fn is_closed() -> Error {
    Error::Io {
        action: "read",
        path: "a shard".into(),
        source: std::io::Error::other("it is closed"),
    }
}

enum Next {
    Job(Job),
    Idle,
}
