//! A planned pipeline on a log in memory, cut into steps and killed as a test wants it.

use flowstone_processor::{
    DeltaState, Found, Input, LeftOut, PartStats, Pipeline, StepLimits, Task, TaskStats, Wanted,
};
use flowstone_sql::Planned;
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::{
    BatchBuilder, BatchHeader, Codec, Epoch, Header, Lsn, Offset, PartitionId, Stamp,
};
use std::collections::BTreeMap;

/// A record to be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Record {
    pub(crate) fn of(value: impl Into<String>) -> Self {
        Self {
            value: Some(value.into().into_bytes()),
            ..Self::default()
        }
    }
}

/// A record that came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Out {
    pub(crate) topic: String,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    /// The value as it is, which may be no text.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
}

struct Batch {
    header: BatchHeader,
    body: Vec<u8>,
}

/// What went to an exchange, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Exchanged {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

pub(crate) struct Rig {
    pipeline: Pipeline,
    pub(crate) task: Task,
    batches: Vec<Batch>,
    next: BTreeMap<u32, u64>,
    sources: BTreeMap<u32, u16>,
    /// What the task has done since the store was brought up to date.
    deltas: Vec<Vec<u8>>,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How often the task had to be told of its own state.
    pub(crate) asked: usize,
    pub(crate) outs: Vec<Out>,
    pub(crate) exchanged: Vec<Exchanged>,
    pub(crate) limits: StepLimits,
    pub(crate) now_ms: i64,
}

impl Rig {
    /// A rig whose input partitions belong to these sources.
    pub(crate) fn new(planned: &Planned, partitions: &[(u32, u16)]) -> Self {
        Self::of(&planned.pipeline, partitions)
    }

    pub(crate) fn of(pipeline: &Pipeline, partitions: &[(u32, u16)]) -> Self {
        let starts: Vec<_> = partitions
            .iter()
            .map(|(p, _)| (PartitionId(*p), Offset(0)))
            .collect();
        let mut rig = Self {
            task: Task::new(pipeline, &starts),
            pipeline: pipeline.clone(),
            batches: Vec::new(),
            next: BTreeMap::new(),
            sources: partitions.iter().copied().collect(),
            deltas: Vec::new(),
            store: BTreeMap::new(),
            asked: 0,
            outs: Vec::new(),
            exchanged: Vec::new(),
            limits: StepLimits::default(),
            now_ms: 4_000_000_000_000,
        };
        rig.task.spill();
        rig.set_sources();
        rig
    }

    /// Brings the store up to date.
    fn keep(&mut self) {
        for (key, value) in self.task.take_dirty() {
            match value {
                Some(value) => drop(self.store.insert(key, value)),
                None => drop(self.store.remove(&key)),
            }
        }
        self.deltas.clear();
        self.task.stored();
    }

    fn find(&self, wanted: &Wanted) -> Found {
        let range = self.store.range(wanted.from.clone()..wanted.to.clone());
        let entries = range.clone().take(wanted.most);
        Found {
            entries: entries.map(|(k, v)| (k.clone(), v.clone())).collect(),
            complete: range.count() <= wanted.most,
        }
    }

    fn set_sources(&mut self) {
        for (partition, source) in &self.sources {
            self.task.set_source(PartitionId(*partition), *source);
        }
    }

    /// Appends records as one batch.
    pub(crate) fn send(&mut self, partition: u32, records: &[Record]) {
        let mut builder = BatchBuilder::new(Codec::None);
        for r in records {
            let headers: Vec<Header<'_>> = r
                .headers
                .iter()
                .map(|(name, value)| Header {
                    name: name.as_bytes(),
                    value: Some(value.as_bytes()),
                })
                .collect();
            let key = r.key.as_deref().map(str::as_bytes);
            assert!(builder.push(r.timestamp, key, r.value.as_deref(), &headers));
        }
        self.append(partition, builder);
    }

    /// The same of what came out of an exchange.
    pub(crate) fn send_exchanged(&mut self, partition: u32, records: &[Exchanged]) {
        let mut builder = BatchBuilder::new(Codec::None);
        for r in records {
            assert!(builder.push(r.timestamp, r.key.as_deref(), r.value.as_deref(), &[]));
        }
        self.append(partition, builder);
    }

    fn append(&mut self, partition: u32, builder: BatchBuilder) {
        let count = u64::from(builder.count());
        let next = self.next.entry(partition).or_default();
        let stamp = Stamp {
            partition: PartitionId(partition),
            base_offset: Offset(*next),
            lsn: Lsn(*next + 1),
            epoch: Epoch(1),
        };
        *next += count;
        let (header, bytes) = builder.finish().stamp(stamp);
        let body = bytes[HEADER_BYTES..].to_vec();
        self.batches.push(Batch { header, body });
    }

    /// One step over all that was sent; says whether it did something.
    pub(crate) fn step(&mut self) -> bool {
        if !self.task.has_room() {
            self.keep();
            assert!(self.task.has_room(), "what is stored can be let go");
        }
        let mut did = self.compute();
        while !self.task.wanted().is_empty() {
            let wanted = self.task.wanted();
            let found: Vec<Found> = wanted.iter().map(|w| self.find(w)).collect();
            self.asked += found.len();
            self.task.admit(&found).unwrap();
            did |= self.compute();
        }
        did
    }

    fn compute(&mut self) -> bool {
        let input: Vec<Input<'_>> = self
            .batches
            .iter()
            .map(|b| Input {
                partition: b.header.partition,
                header: b.header,
                body: &b.body,
            })
            .collect();
        let Some(delta) = self.task.step(self.now_ms, &input, self.limits).unwrap() else {
            return false;
        };
        let mut bytes = Vec::new();
        delta.state.encode(&mut bytes);
        self.deltas.push(bytes);
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        for out in delta.outputs.iter() {
            if Some(out.sink) == self.pipeline.exchange() {
                self.exchanged.push(Exchanged {
                    timestamp: out.timestamp,
                    key: out.key.map(<[u8]>::to_vec),
                    value: out.value.map(<[u8]>::to_vec),
                });
                continue;
            }
            let headers = out
                .headers()
                .map(|h| (text(h.name), h.value.map(text).unwrap_or_default()));
            self.outs.push(Out {
                topic: self.pipeline.sinks()[out.sink.index()].clone(),
                timestamp: out.timestamp,
                key: out.key.map(text),
                value: out.value.map(text),
                bytes: out.value.map(<[u8]>::to_vec),
                headers: headers.collect(),
            });
        }
        self.check_operators();
        true
    }

    /// What is said of the operators adds up to what is said of the task.
    fn check_operators(&self) {
        let (parts, stats) = (self.task.parts(), self.task.stats());
        let sum = |of: fn(&PartStats) -> u64| parts.iter().map(|p| of(&p.stats)).sum::<u64>();
        assert_eq!(sum(|s| s.late), stats.late, "late, {parts:?}");
        assert_eq!(sum(|s| s.failed), stats.failed, "failed, {parts:?}");
        let state_bytes: usize = parts.iter().map(|p| p.state_bytes).sum();
        assert_eq!(state_bytes, self.task.state_bytes(), "state, {parts:?}");
        if self.pipeline.exchange().is_none() {
            let last = parts.last().map_or(0, |p| p.stats.rows_out);
            assert_eq!(last, stats.emitted, "given out, {parts:?}");
        }
    }

    /// Steps until nothing is left to do.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// The process dies: all that is left is what was appended, and what was stored, of which no state is loaded.
    pub(crate) fn crash(&mut self) {
        let mut left_out = LeftOut::default();
        let all = self.store.iter();
        let loaded: Vec<_> = all.filter(|(k, v)| !left_out.note(k, v)).collect();
        self.task = Task::load(&self.pipeline, loaded).unwrap();
        self.task.leave_out(&left_out);
        for bytes in &self.deltas {
            self.task.apply(&DeltaState::decode(bytes).unwrap());
        }
        self.set_sources();
    }

    pub(crate) fn stats(&self) -> TaskStats {
        self.task.stats()
    }

    /// The values of the records of a topic.
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let of = self.outs.iter().filter(|o| o.topic == topic);
        of.map(|o| o.value.clone().unwrap_or_else(|| "(none)".into()))
            .collect()
    }
}

/// The pipelines of a text that must be right.
pub(crate) fn plan(text: &str) -> Vec<Planned> {
    match flowstone_sql::plan_file(text) {
        Ok((_, planned)) => planned,
        Err(error) => panic!("{error}\n{text}"),
    }
}
