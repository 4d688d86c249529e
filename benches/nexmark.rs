//! The queries of NEXMark, events a second and core, beside reading the same JSON and doing nothing with it.
//!
//! As in `sql`, a task takes batches that lie in memory and its deltas are dropped: no log, no disk, no network. Raw is
//! serde_json over the values of the records that the query reads, into structs that borrow their texts. Seconds are
//! processor time of the one thread, so that others on the machine take less from the figures. Events are the records
//! that are read: a query over bids reads 46 of 50 events of the benchmark. Every query that is planned is measured.
//!
//! `FLOWSTONE_BENCH_EVENTS` (200000) events, `FLOWSTONE_BENCH_RUNS` (3) runs, of which the median is printed; a name
//! as argument takes one query; `FLOWSTONE_BENCH_OUT=FILE` keeps the figures as JSON.

#[path = "../processor/sql/tests/sql/nexmark/generator.rs"]
#[allow(dead_code, reason = "it is a test's")]
mod generator;

use flowstone::bench::Figure;
use flowstone_processor::{Input, StepLimits, Task, TaskStats};
use flowstone_sql::{Planned, plan_file};
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::{
    BatchBuilder, BatchHeader, Codec, Epoch, Lsn, Offset, PartitionId, Stamp, record,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use std::borrow::Cow;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;

type Failure = Box<dyn Error>;

const SEED: u64 = 1;
/// 2017-07-15T00:00:00Z.
const FIRST_MS: i64 = 1_500_076_800_000;
/// The rate of the suite.
const EVENTS_PER_S: u64 = 10_000;
/// Events that are taken at a time, one batch of each topic.
const SLICE: usize = 4_000;
const TOPICS: [&str; 3] = ["person", "auction", "bid"];
/// The clock of the tasks, milliseconds since 1970; nothing is ahead of it.
const NOW_MS: i64 = 4_000_000_000_000;

fn main() -> Result<(), Failure> {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let number = |name: &str, default: usize| match std::env::var(name) {
        Ok(text) => text.parse().map_err(|e| format!("{name} = '{text}': {e}")),
        Err(_) => Ok(default),
    };
    let events = number("FLOWSTONE_BENCH_EVENTS", 200_000)?;
    let runs = number("FLOWSTONE_BENCH_RUNS", 3)?.max(1);
    let slices = slices(events)?;
    println!(
        "{:<12} {:>9} {:>12} {:>12} {:>7} {:>9} {:>8}",
        "query", "events", "events/s", "raw", "ratio", "results", "state"
    );
    let mut figures = Vec::new();
    for (name, planned) in queries()? {
        if wanted.as_ref().is_some_and(|w| *w != name) {
            continue;
        }
        let mut all = Vec::new();
        for _ in 0..runs {
            all.push(measure(&planned, &slices)?);
        }
        all.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
        let median = &all[all.len() / 2];
        println!("{}", median.line(&name));
        figures.push(
            Figure::new(format!("nexmark {name}"), median.rate, "events/s").beside(median.raw),
        );
    }
    if figures.is_empty() {
        return Err("there is no query of this name that is planned".into());
    }
    if let Ok(path) = std::env::var("FLOWSTONE_BENCH_OUT") {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// The queries that are planned, by number.
fn queries() -> Result<Vec<(String, Planned)>, Failure> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../processor/sql/tests/nexmark");
    let streams = std::fs::read_to_string(dir.join("streams.sql"))?;
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.extension().is_none_or(|e| e != "sql") || name == "streams" {
            continue;
        }
        if let Ok((_, mut planned)) =
            plan_file(&(streams.clone() + &std::fs::read_to_string(&path)?))
        {
            queries.push((name, planned.remove(0)));
        }
    }
    let number = |name: &str| -> u32 {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    };
    queries.sort_by_key(|(name, _)| (number(name), name.clone()));
    Ok(queries)
}

struct Batch {
    header: BatchHeader,
    body: Vec<u8>,
    records: u64,
}

impl Batch {
    /// Records of these values behind others.
    fn new(partition: PartitionId, base: u64, values: &[(i64, String)]) -> Result<Self, Failure> {
        let mut builder = BatchBuilder::new(Codec::None);
        for (timestamp, value) in values {
            if !builder.push(*timestamp, None, Some(value.as_bytes()), &[]) {
                return Err("a slice is more than fits in a batch".into());
            }
        }
        let stamp = Stamp {
            partition,
            base_offset: Offset(base),
            lsn: Lsn(base + 1),
            epoch: Epoch(1),
        };
        let (header, bytes) = builder.finish().stamp(stamp);
        let body = bytes[HEADER_BYTES..].to_vec();
        let records = values.len() as u64;
        Ok(Self {
            header,
            body,
            records,
        })
    }
}

/// The partition of a topic.
fn partition(topic: usize) -> PartitionId {
    PartitionId(PartitionId::FIRST_USER + topic as u32)
}

/// The events as batches: for each slice one of each topic.
fn slices(events: usize) -> Result<Vec<Vec<Batch>>, Failure> {
    let mut generator = generator::Generator::new(SEED, FIRST_MS, EVENTS_PER_S);
    let mut next = [0; TOPICS.len()];
    let mut slices = Vec::new();
    for start in (0..events).step_by(SLICE) {
        let mut values: [Vec<(i64, String)>; TOPICS.len()] = Default::default();
        for event in generator.by_ref().take(SLICE.min(events - start)) {
            let topic = TOPICS
                .iter()
                .position(|t| *t == event.topic())
                .unwrap_or_default();
            values[topic].push((event.date_time(), event.json().to_string()));
        }
        let mut slice = Vec::new();
        for (topic, values) in values.iter().enumerate() {
            slice.push(Batch::new(partition(topic), next[topic], values)?);
            next[topic] += values.len() as u64;
        }
        slices.push(slice);
    }
    Ok(slices)
}

/// Processor time of this thread, in seconds.
fn cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// One run of a query.
struct Run {
    /// Records that were read.
    events: u64,
    /// Of them a second.
    rate: f64,
    /// The same of reading JSON alone.
    raw: f64,
    stats: TaskStats,
    state_bytes: usize,
}

impl Run {
    fn ratio(&self) -> f64 {
        self.rate / self.raw
    }

    fn line(&self, name: &str) -> String {
        let state = format!("{:.1} MB", self.state_bytes as f64 / 1e6);
        let line = format!(
            "{name:<12} {:>9} {:>12.0} {:>12.0} {:>7.3} {:>9} {state:>8}",
            self.events,
            self.rate,
            self.raw,
            self.ratio(),
            self.stats.emitted
        );
        match self.stats.failed {
            0 => line,
            failed => format!("{line}  {failed} FAILED: what follows was left out"),
        }
    }
}

fn measure(planned: &Planned, slices: &[Vec<Batch>]) -> Result<Run, Failure> {
    let topics: Vec<usize> = planned
        .pipeline
        .sources()
        .iter()
        .filter_map(|source| TOPICS.iter().position(|t| t == source))
        .collect();
    let starts: Vec<(PartitionId, Offset)> =
        topics.iter().map(|t| (partition(*t), Offset(0))).collect();
    let mut task = Task::new(&planned.pipeline, &starts);
    for (source, topic) in topics.iter().enumerate() {
        task.set_source(partition(*topic), source as u16);
    }
    let start = cpu_s();
    for slice in slices {
        let input: Vec<Input<'_>> = topics
            .iter()
            .map(|t| &slice[*t])
            .filter(|b| b.records > 0)
            .map(|b| Input {
                partition: b.header.partition,
                header: b.header,
                body: &b.body,
            })
            .collect();
        while black_box(task.step(NOW_MS, &input, StepLimits::default())?).is_some() {}
        if task.stats().failed > 0 {
            break;
        }
    }
    let taken = cpu_s() - start;
    let stats = task.stats();
    Ok(Run {
        events: stats.processed,
        rate: stats.processed as f64 / taken,
        raw: raw(slices, &topics)?,
        stats,
        state_bytes: task.state_bytes(),
    })
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "reading them is what is measured")]
struct Person<'a> {
    id: i64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    email: Cow<'a, str>,
    credit_card: Cow<'a, str>,
    city: Cow<'a, str>,
    state: Cow<'a, str>,
    date_time: i64,
    extra: Cow<'a, str>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "reading them is what is measured")]
struct Auction<'a> {
    id: i64,
    #[serde(borrow)]
    item_name: Cow<'a, str>,
    description: Cow<'a, str>,
    initial_bid: i64,
    reserve: i64,
    date_time: i64,
    expires: i64,
    seller: i64,
    category: i64,
    extra: Cow<'a, str>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "reading them is what is measured")]
struct Bid<'a> {
    auction: i64,
    bidder: i64,
    price: i64,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    url: Cow<'a, str>,
    date_time: i64,
    extra: Cow<'a, str>,
}

/// Records a second when their JSON is read and nothing else is done.
fn raw(slices: &[Vec<Batch>], topics: &[usize]) -> Result<f64, Failure> {
    let start = cpu_s();
    let mut count = 0_u64;
    for slice in slices {
        for topic in topics {
            let batch = &slice[*topic];
            for view in record::walk(&batch.header, &batch.body) {
                let value = view?.value.unwrap_or_default();
                match topic {
                    0 => drop(black_box(serde_json::from_slice::<Person<'_>>(value)?)),
                    1 => drop(black_box(serde_json::from_slice::<Auction<'_>>(value)?)),
                    _ => drop(black_box(serde_json::from_slice::<Bid<'_>>(value)?)),
                }
                count += 1;
            }
        }
    }
    Ok(count as f64 / (cpu_s() - start))
}
