//! The shard as a whole, under a driver that does everything at once unless it is told to wait.

mod compacted;
mod copies;
mod damage;
mod outbound;
mod tasks;
mod tier;

use super::{Parcel, Shard, ShardConfig, read_state};
use crate::input::{Input, Now, PartitionConfig, SinkPartition, TaskConfig, Ticket};
use crate::output::{Outbox, Output, Reply};
use flowstone_processor::{Context, Pipeline, PipelineOptions, ProcessError, Processor, Record};
use flowstone_storage::log::{SyncJob, allocate_spare};
use flowstone_storage::mark::{Mark, MarkState};
use flowstone_storage::settled::{
    RewriteJob, RewriteStep, SettleJob, SettleStep, SettledReader, Source, remove_orphans,
};
use flowstone_storage::sim_disk::Fate;
use flowstone_storage::{Disk, LogConfig, SimDisk, StateStore, layout};
use flowstone_wire::native::{Acks, GroupOffset, Place, ProduceAnswer, Visibility};
use flowstone_wire::{
    BatchBuilder, BatchHeader, CheckedBatch, Codec, ErrorCode, Failure, Offset, PartitionId,
    ProducerId, ShardId, batch, record,
};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

const A: PartitionId = PartitionId(PartitionId::FIRST_USER);
const B: PartitionId = PartitionId(PartitionId::FIRST_USER + 1);
const DLQ: PartitionId = PartitionId(PartitionId::FIRST_USER + 2);
const LATE: PartitionId = PartitionId(PartitionId::FIRST_USER + 3);
const CONFIG: ShardConfig = ShardConfig {
    log: LogConfig {
        segment_bytes: 2048,
        min_free_bytes: 0,
    },
    hot_bytes: 1 << 20,
    flush_us: 1000,
    pending_bytes: 64 << 10,
    materialize_bytes: 1 << 20,
    retain_every_us: 1000,
    compress: false,
    tier_after_ms: None,
};

type Answer = Result<Reply, Failure>;

/// A shard on a simulated disk.
struct Rig {
    disk: SimDisk,
    dir: PathBuf,
    config: ShardConfig,
    state: StateStore,
    mark: Mark,
    shard: Shard,
    now: Now,
    answers: BTreeMap<Ticket, Answer>,
    tickets: u64,
    /// Syncs wait here instead of being run.
    held_syncs: Option<Vec<SyncJob>>,
    partitions: Vec<(PartitionId, PartitionConfig)>,
    task: Option<TaskConfig>,
    /// On their way to another shard.
    parcels: VecDeque<Parcel>,
    reports: Vec<String>,
    /// Segments that were settled at once.
    settled_at_once: Vec<usize>,
    bucket: tier::Bucket,
    /// Tasks cannot read settled segments.
    cold_fails: bool,
}

impl Rig {
    fn new(config: ShardConfig) -> Self {
        let open = |p| (p, PartitionConfig::default());
        Self::open(
            SimDisk::default(),
            config,
            [A, B, DLQ, LATE].map(open).into(),
            None,
        )
    }

    fn open(
        disk: SimDisk,
        config: ShardConfig,
        partitions: Vec<(PartitionId, PartitionConfig)>,
        task: Option<TaskConfig>,
    ) -> Self {
        Self::try_open(disk, config, partitions, task).unwrap()
    }

    fn try_open(
        disk: SimDisk,
        config: ShardConfig,
        partitions: Vec<(PartitionId, PartitionConfig)>,
        task: Option<TaskConfig>,
    ) -> Result<Self, flowstone_storage::Error> {
        let (id, dir) = (ShardId(0), layout::shard_dir(ShardId(0)));
        let state = StateStore::open_of_shard(&disk, &dir)?;
        remove_orphans(&disk, &dir, &state)?;
        let (shard, start) = Shard::open(Arc::new(disk.clone()), &dir, id, config, &state)?;
        let mut rig = Self {
            disk,
            dir,
            config,
            state,
            mark: start.mark,
            shard,
            now: Now {
                unix_ms: 1_000_000,
                mono_us: 1,
            },
            answers: BTreeMap::new(),
            tickets: 0,
            held_syncs: None,
            partitions,
            task,
            parcels: VecDeque::new(),
            reports: Vec::new(),
            settled_at_once: Vec::new(),
            bucket: tier::Bucket::default(),
            cold_fails: false,
        };
        for (partition, config) in rig.partitions.clone() {
            rig.step(Input::OpenPartition { partition, config });
        }
        let mut out = Outbox::default();
        rig.shard.close_unknown(PartitionId(u32::MAX), &mut out);
        assert!(out.is_empty(), "every partition was opened");
        if let Some(task) = rig.task.clone() {
            rig.step(Input::StartTask(Box::new(task)));
        }
        rig.step(Input::Turn);
        Ok(rig)
    }

    /// The shard after the process was killed and started again.
    fn reopen(self) -> Self {
        let rig = Self::open(self.disk.kill(), self.config, self.partitions, self.task);
        let bucket = self.bucket;
        Self { bucket, ..rig }
    }

    /// The shard after a power cut that lost everything unsynced.
    fn power_cut(self) -> Self {
        let cut = self.disk.crash(|_| Fate::Lost, 0);
        let rig = Self::open(cut, self.config, self.partitions, self.task);
        let bucket = self.bucket;
        Self { bucket, ..rig }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let (mut out, mut steps) = (Outbox::default(), 0);
        while let Some(input) = inputs.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "the shard does not come to rest");
            self.shard.step(self.now, input, &mut out);
            for output in out.drain() {
                if let Some(answer) = self.perform(output) {
                    inputs.extend([answer, Input::Turn]);
                }
            }
        }
    }

    fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Reply { ticket, result } => {
                assert!(
                    self.answers.insert(ticket, result).is_none(),
                    "answered twice"
                );
            }
            Output::Sync(job) => match &mut self.held_syncs {
                Some(held) => held.push(job),
                None => return Some(synced(&job)),
            },
            Output::AllocateSpare(disk, dir, config) => {
                return Some(Input::Spare(allocate_spare(&*disk, &dir, config)));
            }
            Output::Materialize {
                changes,
                upto,
                clean,
            } => {
                let applied = self.state.apply(upto, &changes);
                let result = applied.and_then(|()| self.mark.advance(upto, clean));
                return Some(Input::Materialized {
                    upto,
                    result: result.map_err(|e| e.to_string()),
                });
            }
            Output::Mark(durable) => {
                // It is only a hint: a disk that refuses is met again.
                let _ = self.mark.advance(durable, false);
            }
            Output::Settle(input) => {
                self.settled_at_once.push(input.segments.len());
                let mut job = SettleJob::new(Arc::new(self.disk.clone()), &self.dir, input);
                let (metas, upto) = loop {
                    if let SettleStep::Done(metas, upto) = job.step().unwrap() {
                        break (metas, upto);
                    }
                };
                self.state.commit_settled(Some(upto), &metas, &[]).unwrap();
                return Some(Input::Settled(Ok((metas, upto))));
            }
            Output::DropSettled(gone) => {
                self.state.commit_settled(None, &[], &gone).unwrap();
                for id in gone {
                    let path = layout::settled_path(&self.dir, id);
                    // One that is in the tier only has none.
                    let _ = self.disk.remove(&path);
                }
            }
            Output::Rewrite(input) => {
                let mut job = RewriteJob::new(Arc::new(self.disk.clone()), &self.dir, input);
                let done = loop {
                    if let RewriteStep::Done(done) = job.step().unwrap() {
                        break done;
                    }
                };
                let (added, removed) = (&done.added, &done.removed);
                self.state.commit_settled(None, added, removed).unwrap();
                return Some(Input::Rewritten(Ok(done)));
            }
            Output::RemoveFiles(paths) => {
                paths.iter().for_each(|path| drop(self.disk.remove(path)));
            }
            Output::ReadSettled {
                ticket,
                segment,
                offset,
                max_bytes,
                bounds,
            } => {
                let read = self
                    .open_settled(segment)
                    .and_then(|r| r.read(offset, max_bytes as usize));
                let answer = match read {
                    Ok((slices, _)) => Ok(Reply::Fetched(bounds, slices)),
                    Err(e) => Err(Failure::new(ErrorCode::Damaged, e.to_string())),
                };
                self.answers.insert(ticket, answer);
            }
            Output::FindSettledTime {
                ticket,
                segment,
                timestamp,
            } => {
                let found = self.reader(segment).find_time(timestamp).unwrap().unwrap();
                self.answers.insert(ticket, Ok(Reply::Found(found)));
            }
            Output::ReadForTask {
                id,
                segment,
                offset,
            } => {
                let result = match self.cold_fails {
                    true => Err("it cannot be read".into()),
                    false => self
                        .reader(segment)
                        .read(offset, 1 << 20)
                        .map_err(|e| e.to_string()),
                };
                let (partition, result) = (segment.id.partition, result.map(|(slices, _)| slices));
                return Some(Input::TaskBatches {
                    id,
                    partition,
                    result,
                });
            }
            Output::ReadState { id, wanted } => {
                let result = read_state(&self.state, id, &wanted).map_err(|e| e.to_string());
                return Some(Input::StateRead { id, result });
            }
            Output::Tier(job) => return Some(self.bring_up(job)),
            Output::ForgetLocal(notes) => self.forget(&notes),
            Output::Carry(parcel) => self.parcels.push_back(parcel),
            Output::Report(text) => self.reports.push(text),
            Output::Fenced(_) | Output::Drained => {}
            other => unreachable!("it is the only copy: {other:?}"),
        }
        None
    }

    fn open_settled(&self, source: Source) -> Result<SettledReader, flowstone_storage::Error> {
        let disk = match source.remote {
            Some(_) => &self.bucket.disk,
            None => &self.disk,
        };
        SettledReader::open(disk, &self.dir, source.id)
    }

    fn reader(&self, source: Source) -> SettledReader {
        self.open_settled(source).unwrap()
    }

    fn ask(&mut self, make: impl FnOnce(Ticket) -> Input) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.step(make(ticket));
        ticket
    }

    /// Asks, takes a turn, and gives the answer.
    fn get(&mut self, make: impl FnOnce(Ticket) -> Input) -> Answer {
        let ticket = self.ask(make);
        self.step(Input::Turn);
        self.answers.remove(&ticket).expect("it was answered")
    }

    fn produce(&mut self, batch: CheckedBatch, acks: Acks) -> Result<ProduceAnswer, Failure> {
        let answer = self.get(|ticket| send(Some(ticket), A, batch, acks))?;
        let Reply::Produced(answer) = answer else {
            panic!("{answer:?}")
        };
        Ok(answer)
    }

    /// Values of a partition from an offset on, as a reader sees them.
    fn values(&mut self, partition: PartitionId, mut offset: Offset) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let reply = self
                .get(|ticket| fetch(ticket, partition, offset, 0))
                .unwrap();
            let Reply::Fetched(_, slices) = reply else {
                panic!("{reply:?}")
            };
            if slices.is_empty() {
                return all;
            }
            for (header, values) in slices.iter().flat_map(values_of) {
                all.extend(values);
                offset = header.next_offset();
            }
        }
    }

    /// Leaves so many bytes free.
    fn fill_disk(&mut self, free_bytes: u64) {
        self.disk.set_capacity(Some(u64::MAX / 2));
        let used = u64::MAX / 2 - self.disk.free_bytes().unwrap();
        self.disk.set_capacity(Some(used + free_bytes));
    }

    fn advance(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.unix_ms += (us / 1000) as i64;
        self.step(Input::Tick);
    }

    /// Runs the syncs that wait.
    fn run_syncs(&mut self) {
        for job in self.held_syncs.take().unwrap_or_default() {
            self.step(synced(&job));
            self.step(Input::Turn);
        }
    }
}

fn synced(job: &SyncJob) -> Input {
    Input::Synced {
        upto: job.upto,
        result: job.run().map_err(|e| e.to_string()),
    }
}

fn values_of(slice: &bytes::Bytes) -> Vec<(BatchHeader, Vec<String>)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < slice.len() {
        let (header, body) = batch::records(&slice.slice(at..)).unwrap();
        let value = |r: record::RecordView<'_>| String::from_utf8(r.value.unwrap().into()).unwrap();
        all.push((
            header,
            record::walk(&header, &body)
                .map(|r| value(r.unwrap()))
                .collect(),
        ));
        at += header.size as usize;
    }
    all
}

fn plain(value: &str, timestamp: i64) -> CheckedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    assert!(builder.push(timestamp, Some(b"k"), Some(value.as_bytes()), &[]));
    builder.finish()
}

fn of_producer(epoch: u16, sequence: u32) -> CheckedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    assert!(builder.push(1, None, Some(format!("{epoch}.{sequence}").as_bytes()), &[]));
    builder.set_producer(ProducerId(7), epoch, sequence);
    builder.finish()
}

fn send(ticket: Option<Ticket>, partition: PartitionId, batch: CheckedBatch, acks: Acks) -> Input {
    Input::Produce {
        ticket,
        partition,
        batch,
        acks,
    }
}

fn fetch(ticket: Ticket, partition: PartitionId, offset: Offset, wait_ms: u32) -> Input {
    Input::Fetch {
        ticket,
        partition,
        offset,
        max_bytes: 1 << 20,
        wait_ms,
    }
}

fn code(result: Result<ProduceAnswer, Failure>) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn a_retry_is_answered_with_the_offset_of_the_first_time() {
    let mut rig = Rig::new(CONFIG);
    for sequence in 0..9 {
        let answer = rig
            .produce(of_producer(1, sequence), Acks::Durable)
            .unwrap();
        assert_eq!(
            answer,
            ProduceAnswer {
                base_offset: Offset(sequence.into()),
                duplicate: false
            }
        );
    }
    let mut rig = rig.power_cut();
    for sequence in 4..9 {
        let answer = rig
            .produce(of_producer(1, sequence), Acks::Durable)
            .unwrap();
        assert_eq!(
            answer,
            ProduceAnswer {
                base_offset: Offset(sequence.into()),
                duplicate: true
            }
        );
    }
    let gap = rig.produce(of_producer(1, 11), Acks::Durable);
    assert_eq!(code(gap), ErrorCode::OutOfOrderSequence);
    rig.produce(of_producer(2, 0), Acks::Durable).unwrap();
    assert_eq!(
        code(rig.produce(of_producer(1, 9), Acks::Durable)),
        ErrorCode::ProducerFenced
    );
    assert_eq!(
        code(rig.produce(of_producer(3, 4), Acks::None)),
        ErrorCode::OutOfOrderSequence
    );
    assert_eq!(rig.values(A, Offset(8)), ["1.8", "2.0"]);
    let mut other = Rig::new(CONFIG);
    assert_eq!(
        code(other.produce(of_producer(1, 5), Acks::None)),
        ErrorCode::UnknownProducer
    );
}

#[test]
fn acks_come_when_their_level_is_reached_and_in_order() {
    let mut rig = Rig::new(CONFIG);
    rig.held_syncs = Some(Vec::new());
    let levels = [Acks::Durable, Acks::Written, Acks::None, Acks::Durable];
    let tickets: Vec<Ticket> = levels
        .map(|acks| rig.ask(|ticket| send(Some(ticket), A, plain("x", 1), acks)))
        .into();
    let answered = |rig: &Rig| {
        tickets
            .iter()
            .map(|t| rig.answers.contains_key(t))
            .collect::<Vec<_>>()
    };
    assert_eq!(answered(&rig), [false, false, true, false]);
    rig.step(Input::Turn);
    assert_eq!(answered(&rig), [false, true, true, false]);
    rig.run_syncs();
    assert_eq!(answered(&rig), [true; 4]);
}

#[test]
fn a_long_poll_wakes_on_commit_and_ends_with_its_time() {
    let mut rig = Rig::new(CONFIG);
    rig.held_syncs = Some(Vec::new());
    let poll = rig.ask(|ticket| fetch(ticket, A, Offset(0), 50));
    rig.ask(|ticket| send(Some(ticket), A, plain("x", 1), Acks::None));
    rig.step(Input::Turn);
    assert!(
        !rig.answers.contains_key(&poll),
        "what is not durable is not shown"
    );
    rig.run_syncs();
    let Some(Ok(Reply::Fetched(bounds, slices))) = rig.answers.remove(&poll) else {
        panic!()
    };
    assert_eq!((bounds.end, slices.len()), (Offset(1), 1));
    let poll = rig.ask(|ticket| fetch(ticket, A, Offset(1), 50));
    rig.advance(49_999);
    assert!(!rig.answers.contains_key(&poll));
    rig.advance(1);
    let Some(Ok(Reply::Fetched(_, slices))) = rig.answers.remove(&poll) else {
        panic!()
    };
    assert!(slices.is_empty());
}

#[test]
fn too_much_that_waits_for_the_disk_is_refused() {
    let mut rig = Rig::new(ShardConfig {
        pending_bytes: 500,
        ..CONFIG
    });
    rig.held_syncs = Some(Vec::new());
    let value = "x".repeat(300);
    rig.ask(|ticket| send(Some(ticket), A, plain(&value, 1), Acks::Durable));
    rig.step(Input::Turn);
    assert_eq!(
        code(rig.produce(plain(&value, 1), Acks::Durable)),
        ErrorCode::Busy
    );
    rig.run_syncs();
    rig.produce(plain(&value, 1), Acks::Durable).unwrap();
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_resumes() {
    let log = LogConfig {
        min_free_bytes: 1 << 20,
        ..CONFIG.log
    };
    let mut rig = Rig::new(ShardConfig { log, ..CONFIG });
    rig.fill_disk(1 << 20);
    let mut sent = 0;
    let refused = loop {
        match rig.produce(plain(&format!("{sent}"), 1), Acks::Durable) {
            Ok(_) => sent += 1,
            Err(failure) => break failure,
        }
    };
    assert_eq!(refused.code, ErrorCode::DiskFull);
    assert_eq!(rig.values(A, Offset(0)).len(), sent);
    rig.disk.set_capacity(None);
    rig.produce(plain("more", 1), Acks::Durable).unwrap();
    assert_eq!(rig.values(A, Offset(sent as u64)), ["more"]);
}

#[test]
fn what_a_roll_writes_is_answered_and_seen() {
    let log = LogConfig {
        min_free_bytes: 1 << 20,
        ..CONFIG.log
    };
    let mut rig = Rig::new(ShardConfig { log, ..CONFIG });
    let written = PartitionConfig {
        visibility: Visibility::Written,
        ..PartitionConfig::default()
    };
    rig.step(Input::OpenPartition {
        partition: B,
        config: written,
    });
    rig.fill_disk(1 << 20);
    while rig
        .produce(plain(&"x".repeat(800), 1), Acks::Durable)
        .is_ok()
    {}
    // There is room for the small one; the large one rolls, which writes the small one.
    rig.disk.set_capacity(None);
    let poll = rig.ask(|ticket| fetch(ticket, B, Offset(0), 1000));
    let small = rig.ask(|ticket| send(Some(ticket), B, plain("x", 1), Acks::Written));
    let large = rig.ask(|ticket| send(Some(ticket), A, plain(&"x".repeat(800), 1), Acks::Written));
    rig.step(Input::Turn);
    assert!(rig.answers.contains_key(&small) && rig.answers.contains_key(&large));
    assert!(
        rig.answers.contains_key(&poll),
        "a reader of written records sees them"
    );
}

#[test]
fn what_a_refused_roll_writes_is_answered() {
    let log = LogConfig {
        min_free_bytes: 1 << 20,
        ..CONFIG.log
    };
    let mut rig = Rig::new(ShardConfig { log, ..CONFIG });
    rig.fill_disk(1 << 20);
    while rig
        .produce(plain(&"x".repeat(800), 1), Acks::Durable)
        .is_ok()
    {}
    let small = rig.ask(|ticket| send(Some(ticket), A, plain("x", 1), Acks::Written));
    let large = rig.ask(|ticket| send(Some(ticket), A, plain(&"x".repeat(800), 1), Acks::Written));
    rig.step(Input::Turn);
    assert!(matches!(rig.answers[&large], Err(ref f) if f.code == ErrorCode::DiskFull));
    assert!(
        matches!(rig.answers.get(&small), Some(Ok(_))),
        "{:?}",
        rig.answers
    );
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    let mut rig = Rig::new(CONFIG);
    rig.produce(plain("safe", 1), Acks::Durable).unwrap();
    rig.disk.fail_syncs(true);
    assert_eq!(
        code(rig.produce(plain("lost", 1), Acks::Durable)),
        ErrorCode::ShardFenced
    );
    rig.disk.fail_syncs(false);
    for acks in [Acks::None, Acks::Written, Acks::Durable] {
        assert_eq!(
            code(rig.produce(plain("late", 1), acks)),
            ErrorCode::ShardFenced
        );
    }
    assert_eq!(rig.values(A, Offset(0)), ["safe"]);
    // A process that starts without the machine having restarted sees the disk, not the page cache:
    // what it believes, and writes behind, survives the next power cut.
    let mut rig = rig.reopen();
    assert_eq!(rig.values(A, Offset(0)), ["safe"]);
    rig.produce(plain("new", 1), Acks::Durable).unwrap();
    assert_eq!(rig.power_cut().values(A, Offset(0)), ["safe", "new"]);
}

#[test]
fn a_time_is_found_in_settled_and_in_hot_records() {
    let mut rig = Rig::new(ShardConfig {
        hot_bytes: 2048,
        ..CONFIG
    });
    for i in 0..80 {
        rig.produce(
            plain(&format!("{i}-{}", "x".repeat(60)), 1000 + i * 10),
            Acks::Durable,
        )
        .unwrap();
    }
    assert!(
        rig.shard.log().first_lsn().0 > 20,
        "the oldest segments were settled and removed"
    );
    for i in [0, 1, 15, 40, 78, 79] {
        let found = rig.get(|ticket| {
            let place = Place::Time(1000 + i * 10);
            Input::FindOffset {
                ticket,
                partition: A,
                place,
            }
        });
        let Ok(Reply::Found(offset)) = found else {
            panic!("{found:?}")
        };
        assert!(
            offset.0 as i64 <= i,
            "the record {i} is not before {offset}"
        );
        let first = rig.values(A, offset);
        assert!(first.iter().any(|v| v.starts_with(&format!("{i}-"))));
    }
    let end = rig.get(|ticket| Input::FindOffset {
        ticket,
        partition: A,
        place: Place::Time(9000),
    });
    assert_eq!(end, Ok(Reply::Found(Offset(80))));
    assert_eq!(rig.power_cut().values(A, Offset(0)).len(), 80);
}

#[test]
fn small_files_are_settled_from_several_segments_at_once() {
    let hot_bytes = 6 * 2048;
    let mut rig = Rig::new(ShardConfig {
        hot_bytes,
        ..CONFIG
    });
    for i in 0..400 {
        rig.produce(plain(&"x".repeat(100), i), Acks::Durable)
            .unwrap();
        let hot = rig.shard.log().sealed_bytes();
        assert!(hot <= hot_bytes + 2048, "the hot log is bounded: {hot}");
    }
    assert!(rig.settled_at_once.len() > 3);
    assert!(
        rig.settled_at_once.iter().all(|n| *n == 3),
        "half of the hot log each time: {:?}",
        rig.settled_at_once
    );
}

#[test]
fn retention_moves_the_start_by_bytes_and_by_time() {
    for by_time in [false, true] {
        let mut rig = Rig::new(ShardConfig {
            hot_bytes: 2048,
            ..CONFIG
        });
        let config = PartitionConfig {
            retention_bytes: (!by_time).then_some(3000),
            retention_ms: by_time.then_some(500),
            ..PartitionConfig::default()
        };
        rig.partitions[0].1 = config.clone();
        rig.step(Input::OpenPartition {
            partition: A,
            config,
        });
        for i in 0..120 {
            rig.produce(plain(&format!("{i}"), rig.now.unix_ms), Acks::Durable)
                .unwrap();
            rig.advance(20_000);
        }
        let place = Place::Start;
        let find = |ticket| Input::FindOffset {
            ticket,
            partition: A,
            place,
        };
        let Ok(Reply::Found(start)) = rig.get(find) else {
            panic!()
        };
        assert!((1..119).contains(&start.0), "{start}");
        let kept: Vec<String> = (start.0..120).map(|i| i.to_string()).collect();
        assert_eq!(rig.values(A, start), kept);
        let before = rig.get(|ticket| fetch(ticket, A, Offset(0), 0));
        assert_eq!(before.unwrap_err().code, ErrorCode::OffsetOutOfRange);
        let mut rig = rig.power_cut();
        rig.advance(1);
        let Ok(Reply::Found(again)) = rig.get(find) else {
            panic!()
        };
        assert_eq!(rig.values(A, again).last(), kept.last());
    }
}

#[test]
fn group_positions_survive() {
    let mut rig = Rig::new(CONFIG);
    rig.produce(plain("x", 1), Acks::Durable).unwrap();
    let position = |offset| GroupOffset {
        partition: A,
        offset: Offset(offset),
        note: "n".into(),
    };
    let commit = |ticket, offset| {
        let offsets = vec![position(offset)];
        Input::CommitOffsets {
            ticket,
            group: "g".into(),
            offsets,
        }
    };
    assert_eq!(rig.get(|ticket| commit(ticket, 1)), Ok(Reply::Committed));
    assert_eq!(
        rig.get(|t| commit(t, 2)).unwrap_err().code,
        ErrorCode::OffsetOutOfRange
    );
    let read = |ticket| Input::ReadOffsets {
        ticket,
        group: "g".into(),
        partitions: vec![],
    };
    let mut rig = rig.power_cut();
    assert_eq!(rig.get(read), Ok(Reply::Offsets(vec![position(1)])));
    // One that is not on the disk yet is not told.
    rig.held_syncs = Some(Vec::new());
    let later = rig.ask(|ticket| commit(ticket, 0));
    rig.step(Input::Turn);
    let early = rig.ask(read);
    rig.step(Input::Turn);
    assert!(!rig.answers.contains_key(&later) && !rig.answers.contains_key(&early));
    rig.run_syncs();
    assert_eq!(rig.answers[&early], Ok(Reply::Offsets(vec![position(0)])));
    rig.step(Input::Drain);
    rig.step(Input::Turn);
    let mut rig = rig.reopen();
    assert_eq!(rig.get(read), Ok(Reply::Offsets(vec![position(0)])));
    assert_eq!(
        rig.get(|ticket| Input::ListGroups { ticket }),
        Ok(Reply::Groups(vec!["g".into()]))
    );
}

/// Numbers the records that it has seen; rejects "bad".
struct Numbers;

impl Processor for Numbers {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        if record.value == Some(b"bad") {
            return Err(ProcessError::Reject("it is bad".into()));
        }
        let number = ctx.get(b"n").map_or(0, |n| n[0]) + 1;
        ctx.put(b"n", &[number]);
        ctx.emit(
            record.timestamp,
            record.key,
            Some(number.to_string().as_bytes()),
            record.headers,
        );
        Ok(())
    }
}

/// Counts what comes in at A into B.
fn numbers(sink: PartitionId) -> TaskConfig {
    let options = PipelineOptions {
        max_attempts: 1,
        ..PipelineOptions::default()
    };
    let chain = Pipeline::chain("numbers", "a")
        .stage("n", || Box::new(Numbers))
        .to("b");
    let local = |id| vec![SinkPartition { id, local: true }];
    TaskConfig {
        id: 1,
        pipeline: chain.options(options).build().unwrap(),
        inputs: vec![(A, 0)],
        sources: Vec::new(),
        starts: Default::default(),
        sinks: vec![local(DLQ), local(LATE), local(sink)],
        share: 0..0,
    }
}
