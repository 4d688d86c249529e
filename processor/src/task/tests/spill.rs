//! A state that is larger than its memory: same results, same state, whatever was let go and when.

use crate::rig::{Batch, Event, by};
use crate::task::{Found, LeftOut, Wanted};
use crate::{
    DeltaState, NodeRef, Pipeline, PipelineOptions, ProcessError, StepLimits, Task, TimeKind, Timer,
};
use flowstone_wire::{Offset, PartitionId};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Change = (Vec<u8>, Option<Vec<u8>>);
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
type Output = (u16, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Counts by key, forgets at times, scans what begins alike, and sets and cancels timers of both kinds; a stage
/// behind it remembers what it saw without looking first.
fn pipeline(state_bytes_max: usize, stages: usize) -> Pipeline {
    let first = by(|event, ctx| {
        let (key, time_ms) = match event {
            Event::Record(record) => {
                let key = record.key.unwrap_or_default().to_vec();
                let count = ctx.get(&key).map_or(0, |v| v[0]);
                let timer = |kind, after: i64| Timer {
                    kind,
                    at_ms: record.timestamp + after,
                    key: key.clone(),
                };
                match count % 4 {
                    0 => ctx.set_timer(timer(TimeKind::Event, 40)),
                    1 => ctx.set_timer(timer(TimeKind::Processing, 300)),
                    2 => ctx.cancel_timer(timer(TimeKind::Event, 40)),
                    _ => ctx.delete(&key),
                }
                if count % 4 != 3 {
                    ctx.put(&key, &[count + 1]);
                }
                let other = [&key[..1], b"0"].concat();
                match record.timestamp % 11 {
                    // Without looking first, and more than once.
                    0 => {
                        ctx.put(&other, &[7]);
                        ctx.delete(&other);
                    }
                    1 => {
                        ctx.delete(&other);
                        ctx.put(&other, &[8]);
                    }
                    2 => {
                        ctx.set_timer(timer(TimeKind::Event, 60));
                        ctx.cancel_timer(timer(TimeKind::Event, 60));
                    }
                    3 => {
                        ctx.put(&other, &[9]);
                        ctx.delete(&other);
                        ctx.cancel_timer(timer(TimeKind::Event, 40));
                        return Err(ProcessError::Reject("all of it is undone".into()));
                    }
                    _ => {}
                }
                ctx.forward(record);
                (key, record.timestamp)
            }
            Event::Timer(timer) => {
                let key = timer.key.clone();
                if timer.kind == TimeKind::Processing {
                    ctx.delete(&key);
                }
                (key, timer.at_ms)
            }
        };
        if time_ms % 3 != 0 {
            let count = ctx.get(&key).map(<[u8]>::to_vec);
            ctx.emit(time_ms, Some(&key), count.as_deref(), &[]);
            return Ok(());
        }
        let like = &key[..key.len().min(1)];
        let entries: Vec<u8> = ctx.scan(like).map(|(_, v)| v[0]).collect();
        let next = ctx.scan_from(like, &key).next().map(|(k, _)| k.to_vec());
        ctx.emit(time_ms, next.as_deref(), Some(&entries), &[]);
        Ok(())
    });
    let second = by(|event, ctx| {
        if let Event::Record(record) = event {
            ctx.put(record.key.unwrap_or_default(), &[record.timestamp as u8]);
        }
        Ok(())
    });
    let mut b = Pipeline::new("spills").unwrap();
    b.source("in").options(PipelineOptions {
        state_bytes_max,
        out_of_order_ms: 50,
        ..PipelineOptions::default()
    });
    let first = b.add(NodeRef::INPUT, "first", first);
    b.sink(first, "out");
    if stages > 1 {
        b.add(first, "second", second);
    }
    b.build().unwrap()
}

/// A task with a store that follows it as that of a shard does.
struct Shelf {
    pipeline: Pipeline,
    task: Task,
    store: Entries,
    /// Changes that were taken and are not in the store yet.
    taken: Option<Vec<Change>>,
    /// Deltas since changes were taken, and those before them that are not in the store.
    deltas: Vec<Vec<u8>>,
    deltas_taken: usize,
    outputs: Vec<Output>,
    asked: usize,
}

impl Shelf {
    fn new(pipeline: &Pipeline, partitions: &[(PartitionId, Offset)]) -> Self {
        let mut task = Task::new(pipeline, partitions);
        task.spill();
        Self {
            pipeline: pipeline.clone(),
            task,
            store: Entries::new(),
            taken: None,
            deltas: Vec::new(),
            deltas_taken: 0,
            outputs: Vec::new(),
            asked: 0,
        }
    }

    fn take(&mut self) {
        if self.taken.is_none() {
            self.taken = Some(self.task.take_dirty());
            self.deltas_taken = self.deltas.len();
        }
    }

    fn store(&mut self) {
        for (key, value) in self.taken.take().into_iter().flatten() {
            match value {
                Some(value) => drop(self.store.insert(key, value)),
                None => drop(self.store.remove(&key)),
            }
        }
        self.deltas.drain(..std::mem::take(&mut self.deltas_taken));
        self.task.stored();
    }

    fn find(&self, wanted: &Wanted, most: usize) -> Found {
        let range = self.store.range(wanted.from.clone()..wanted.to.clone());
        let whole = wanted.most == usize::MAX;
        let most = if whole {
            usize::MAX
        } else {
            most.min(wanted.most)
        };
        let entries = range.clone().take(most);
        Found {
            entries: entries.map(|(k, v)| (k.clone(), v.clone())).collect(),
            complete: range.count() <= most,
        }
    }

    /// One step; says whether there is more to do.
    fn step(&mut self, now_ms: i64, log: &[Batch], limits: StepLimits, most: usize) -> bool {
        if !self.task.has_room() {
            self.take();
            self.store();
            self.take();
            self.store();
            assert!(self.task.has_room(), "what is stored can be let go");
        }
        let input: Vec<_> = log.iter().map(Batch::input).collect();
        let delta = self.task.step(now_ms, &input, limits).unwrap();
        if let Some(delta) = &delta {
            let mut bytes = Vec::new();
            delta.state.encode(&mut bytes);
            self.deltas.push(bytes);
            let own = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
            let outputs = delta.outputs.iter();
            let outputs = outputs.map(|o| (o.sink.0, o.timestamp, own(o.key), own(o.value)));
            self.outputs.extend(outputs);
        }
        let wanted = self.task.wanted();
        self.asked += wanted.len();
        let found: Vec<Found> = wanted.iter().map(|w| self.find(w, most)).collect();
        // Some of what was asked for may be left for later.
        let given = found.len().min(most.max(1));
        self.task.admit(&found[..given]).unwrap();
        delta.is_some() || !wanted.is_empty()
    }

    /// The process dies. The next one loads some entries and leaves the others out.
    fn crash(&mut self, loaded: usize) {
        let mut left_out = LeftOut::default();
        let mut state = 0;
        let entries: Vec<_> = self
            .store
            .iter()
            .filter(|(key, value)| {
                state += usize::from(matches!(key[0], b's' | b't'));
                state <= loaded || !left_out.note(key, value)
            })
            .collect();
        self.task = Task::load(&self.pipeline, entries).unwrap();
        self.task.leave_out(&left_out);
        for partition in 0..2 {
            self.task.add_partition(PartitionId(partition), Offset(0));
        }
        for bytes in &self.deltas {
            self.task.apply(&DeltaState::decode(bytes).unwrap());
        }
        self.taken = None;
        self.deltas_taken = 0;
    }

    /// All of the state, wherever it is.
    fn all(&mut self) -> Entries {
        for _ in 0..2 {
            self.take();
            self.store();
        }
        let live: Entries = self.task.snapshot().into_iter().collect();
        for (key, value) in &live {
            assert_eq!(self.store.get(key), Some(value), "memory and store differ");
        }
        self.store.clone()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Send(u32, Vec<(i64, u8)>),
    Step(usize),
    Take,
    Store,
    Crash(usize),
}

fn event() -> impl Strategy<Value = Act> {
    let records = prop::collection::vec((0i64..400, 0u8..40), 1..12);
    prop_oneof![
        4 => (0u32..2, records).prop_map(|(p, r)| Act::Send(p, r)),
        6 => (1usize..5).prop_map(Act::Step),
        2 => Just(Act::Take),
        2 => Just(Act::Store),
        1 => (0usize..30).prop_map(Act::Crash),
    ]
}

fn key_of(n: u8) -> String {
    format!("{}{}", char::from(b'a' + n % 3), n / 3)
}

const LIMITS: StepLimits = StepLimits {
    max_records: 5,
    max_output_bytes: 1 << 20,
};

/// Runs the events on a task with so much memory. The clock moves with records only, so that timers of
/// both kinds fire at the same places whatever was asked for in between.
fn run(events: &[Act], (state_bytes_max, stages): (usize, usize)) -> (Shelf, Entries) {
    let starts: Vec<_> = [0, 1].map(|p| (PartitionId(p), Offset(0))).into();
    let mut shelf = Shelf::new(&pipeline(state_bytes_max, stages), &starts);
    let (mut log, mut next) = (Vec::new(), [0u64; 2]);
    let mut now_ms = 1_000;
    for event in events {
        match event {
            Act::Send(partition, records) => {
                while shelf.step(now_ms, &log, LIMITS, 3) {}
                now_ms += 35;
                let keys: Vec<String> = records.iter().map(|(_, k)| key_of(*k)).collect();
                let records: Vec<_> = records
                    .iter()
                    .zip(&keys)
                    .map(|((at, _), key)| (*at, Some(&key[..]), Some("v")))
                    .collect();
                let at = &mut next[*partition as usize];
                log.push(Batch::new(*partition, *at, &records));
                *at += records.len() as u64;
            }
            Act::Step(most) => drop(shelf.step(now_ms, &log, LIMITS, *most)),
            Act::Take => shelf.take(),
            Act::Store => shelf.store(),
            Act::Crash(loaded) => shelf.crash(*loaded),
        }
    }
    for _ in 0..40 {
        while shelf.step(now_ms, &log, LIMITS, 3) {}
        now_ms += 35;
    }
    let all = shelf.all();
    (shelf, all)
}

proptest! {
    #[test]
    fn what_was_let_go_shows_in_nothing(events in prop::collection::vec(event(), 1..60)) {
        for stages in [1, 2] {
            let (whole, state) = run(&events, (usize::MAX, stages));
            for bytes in [200, 900] {
                let (small, small_state) = run(&events, (bytes, stages));
                prop_assert_eq!(&small.outputs, &whole.outputs);
                prop_assert_eq!(&small_state, &state);
            }
        }
    }
}

#[test]
fn memory_stays_within_its_limit_and_entries_are_asked_for() {
    let keys = (0..6u64).flat_map(|_| 0..40u8);
    let records: Vec<_> = keys.map(|k| (5, k)).collect();
    let events = [Act::Send(0, records)];
    let (mut small, state) = run(&events, (1_000, 2));
    assert!(state.len() > 60, "{}", state.len());
    assert!(small.asked > 100, "{}", small.asked);
    assert!(small.task.has_room() && small.task.state_bytes() <= 1_000);
    assert!(small.task.spilled_bytes() > 0);
    let (whole, all) = run(&events, (usize::MAX, 2));
    assert_eq!((whole.asked, whole.task.spilled_bytes()), (0, 0));
    assert_eq!(state, all);
    assert_eq!(whole.outputs, small.outputs);
}
