//! A test rig: a task on a small log, with a replica and a store that must agree after every step.

use crate::{Context, Record, Timer};
use crate::{DeltaState, Input, Pipeline, ProcessError, Processor, StepLimits, Task};
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::compress::Codec;
use flowstone_wire::{
    BatchBuilder, BatchHeader, Epoch, Failure, Header, Lsn, Offset, PartitionId, Stamp,
};
use std::collections::BTreeMap;

/// A record for the log: time, key, value.
pub(crate) type Rec<'a> = (i64, Option<&'a str>, Option<&'a str>);

/// A batch of the log.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) body: Vec<u8>,
}

impl Batch {
    pub(crate) fn new(partition: u32, base_offset: u64, records: &[Rec<'_>]) -> Self {
        Self::with_headers(partition, base_offset, records, &[])
    }

    pub(crate) fn with_headers(
        partition: u32,
        base_offset: u64,
        records: &[Rec<'_>],
        headers: &[Header<'_>],
    ) -> Self {
        let mut builder = BatchBuilder::new(Codec::None);
        for (timestamp, key, value) in records {
            let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
            assert!(builder.push(*timestamp, key, value, headers));
        }
        let stamp = Stamp {
            partition: PartitionId(partition),
            base_offset: Offset(base_offset),
            lsn: Lsn(base_offset + 1),
            epoch: Epoch(1),
        };
        let (header, bytes) = builder.finish().stamp(stamp);
        Self {
            header,
            body: bytes[HEADER_BYTES..].to_vec(),
        }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            partition: self.header.partition,
            header: self.header,
            body: &self.body,
        }
    }
}

/// A record that came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Out {
    pub(crate) sink: String,
    pub(crate) partition: u32,
    pub(crate) key_changed: bool,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
}

/// A task with its log, its replica and its store.
pub(crate) struct Rig {
    pub(crate) task: Task,
    pub(crate) log: Vec<Batch>,
    pub(crate) outs: Vec<Out>,
    pub(crate) limits: StepLimits,
    pub(crate) now_ms: i64,
    replica: Task,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    next: BTreeMap<u32, u64>,
}

impl Rig {
    pub(crate) fn new(pipeline: &Pipeline, partitions: &[u32]) -> Self {
        let starts: Vec<_> = partitions
            .iter()
            .map(|p| (PartitionId(*p), Offset(0)))
            .collect();
        Self {
            task: Task::new(pipeline, &starts),
            replica: Task::new(pipeline, &[]),
            log: Vec::new(),
            outs: Vec::new(),
            limits: StepLimits::default(),
            now_ms: 1_000_000,
            store: BTreeMap::new(),
            next: BTreeMap::new(),
        }
    }

    /// Appends one batch to the log of a partition.
    pub(crate) fn send(&mut self, partition: u32, records: &[Rec<'_>]) {
        let next = self.next.entry(partition).or_default();
        self.log.push(Batch::new(partition, *next, records));
        *next += records.len() as u64;
    }

    /// One step over the whole log; says whether there was a delta. Checks replay and store.
    pub(crate) fn step(&mut self) -> Result<bool, Failure> {
        let input: Vec<_> = self.log.iter().map(Batch::input).collect();
        let before_ms = self.task.watermark();
        let delta = self.task.step(self.now_ms, &input, self.limits)?;
        assert!(self.task.watermark() >= before_ms, "watermark went back");
        for (key, value) in self.task.take_dirty() {
            match value {
                Some(value) => drop(self.store.insert(key, value)),
                None => drop(self.store.remove(&key)),
            }
        }
        let Some(delta) = delta else {
            self.check();
            return Ok(false);
        };
        assert!(!delta.state.is_empty());
        let mut bytes = Vec::new();
        delta.state.encode(&mut bytes);
        self.replica.apply(&DeltaState::decode(&bytes).unwrap());
        self.check();
        let sinks = self.task.pipeline().sinks().to_vec();
        let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
        self.outs.extend(delta.outputs.iter().map(|out| {
            Out {
                sink: sinks[out.sink.index()].clone(),
                partition: out.partition.0,
                key_changed: out.key_changed,
                timestamp: out.timestamp,
                key: text(out.key),
                value: text(out.value),
                headers: out
                    .headers()
                    .map(|h| {
                        (
                            text(Some(h.name)).unwrap(),
                            text(h.value).unwrap_or_default(),
                        )
                    })
                    .collect(),
            }
        }));
        Ok(true)
    }

    /// Live task, replayed task, stored entries and a task loaded from them are one.
    fn check(&mut self) {
        let live: BTreeMap<_, _> = self.task.snapshot().into_iter().collect();
        let replayed: BTreeMap<_, _> = self.replica.snapshot().into_iter().collect();
        assert_eq!(live, replayed, "replay");
        assert_eq!(live, self.store, "store");
        let loaded = Task::load(self.task.pipeline(), &self.store).unwrap();
        let loaded_entries: BTreeMap<_, _> = loaded.snapshot().into_iter().collect();
        assert_eq!(live, loaded_entries, "load");
        for other in [&self.replica, &loaded] {
            assert_eq!(other.state_bytes(), self.task.state_bytes());
            assert_eq!(other.watermark(), self.task.watermark());
        }
    }

    /// Puts the replica, or a task loaded from the store, in the place of the live task.
    pub(crate) fn fail_over(&mut self, from_store: bool) {
        let pipeline = self.task.pipeline().clone();
        let successor = Task::load(&pipeline, &self.store).unwrap();
        self.task = if from_store {
            successor
        } else {
            std::mem::replace(&mut self.replica, successor)
        };
        self.task.take_dirty();
        self.replica = Task::load(&pipeline, &self.store).unwrap();
    }

    /// Steps until there is nothing more to do at this time.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step().unwrap() {
                return;
            }
        }
        panic!("the task does not come to rest");
    }

    /// Sets the clock and runs.
    pub(crate) fn run_at(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.run();
    }

    /// Values that came out at a sink so far.
    pub(crate) fn values<'r>(&'r self, sink: &'r str) -> Vec<&'r str> {
        self.at(sink)
            .map(|out| out.value.as_deref().unwrap_or("-"))
            .collect()
    }

    /// What came out at a sink so far.
    pub(crate) fn at<'r>(&'r self, sink: &'r str) -> impl Iterator<Item = &'r Out> {
        self.outs.iter().filter(move |out| out.sink == sink)
    }
}

/// A processor made of a closure that gets either a record or a timer.
pub(crate) struct By<F>(pub(crate) F);

/// What a [`By`] gets.
pub(crate) enum Event<'e, 'r> {
    Record(&'e Record<'r>),
    Timer(&'e Timer),
}

impl<F> Processor for By<F>
where
    F: FnMut(Event<'_, '_>, &mut Context<'_>) -> Result<(), ProcessError> + Send,
{
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        (self.0)(Event::Record(record), ctx)
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        (self.0)(Event::Timer(timer), ctx)
    }
}

/// The factory of a [`By`].
pub(crate) fn by<F>(act: F) -> impl Fn() -> Box<dyn Processor> + Send + Sync + 'static
where
    F: Fn(Event<'_, '_>, &mut Context<'_>) -> Result<(), ProcessError>
        + Clone
        + Send
        + Sync
        + 'static,
{
    move || Box::new(By(act.clone()))
}
