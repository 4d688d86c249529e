//! The pipelines of the simulation: counts by key, windows behind them, a copy that starts late, and
//! what goes by another key to whatever shard has it.
//!
//! ```text
//! source --> counts --> middle --> windows
//!        |-> copy
//!        |-> spread (by another key) --> tally
//!        \-> doomed (a topic that is deleted)
//! ```
//!
//! Values of the source are `{"id":"...","n":1,"do":"..."}`; `do` says how a record behaves.

use crate::world;
use flowstone_core::input::{SinkPartition, TaskConfig};
use flowstone_processor::builtin::Window;
use flowstone_processor::{
    Chain, Context, Pipeline, PipelineOptions, ProcessError, Processor, Record,
};
use flowstone_wire::{PartitionId, ShardId};
use std::collections::BTreeMap;

/// Numbers of the pipelines.
pub(crate) const COUNTS: u32 = 1;
pub(crate) const WINDOWS: u32 = 2;
pub(crate) const COPIES: u32 = 3;
pub(crate) const SPREADS: u32 = 4;
pub(crate) const TALLIES: u32 = 5;
pub(crate) const DOOMED: u32 = 6;

/// Length of a window.
pub(crate) const WINDOW_MS: i64 = 250;

/// What a record does to a stage that counts.
pub(crate) const GOOD: &str = "good";
/// It fails at first in every process, then passes.
pub(crate) const FLAKY: &str = "flaky";
/// It fails whenever it is tried.
pub(crate) const STUBBORN: &str = "stubborn";
/// It is refused at once.
pub(crate) const BAD: &str = "bad";

const OPTIONS: PipelineOptions = PipelineOptions {
    max_attempts: 3,
    backoff_ms: 5,
    backoff_max_ms: 20,
    out_of_order_ms: 20,
    idle_ms: 1500,
    max_future_skew_ms: 60_000,
    // For a few keys only: the others are on the disk.
    state_bytes_max: 400,
};

/// A pipeline and its topics.
#[derive(Clone, Debug)]
pub(crate) struct Deployed {
    pipeline: Pipeline,
    inputs: Vec<PartitionId>,
    /// For each sink the partitions of its topic.
    sinks: Vec<Vec<PartitionId>>,
}

impl Deployed {
    /// Its task on a shard, if that has one of its inputs.
    pub(crate) fn task(
        &self,
        id: u32,
        shard: ShardId,
        shard_of: impl Fn(PartitionId) -> ShardId,
    ) -> Option<TaskConfig> {
        let inputs = self.inputs.iter().copied().zip(0..);
        let inputs: Vec<_> = inputs.filter(|(p, _)| shard_of(*p) == shard).collect();
        let sink = |id: &PartitionId| SinkPartition {
            id: *id,
            local: shard_of(*id) == shard,
        };
        let sinks = self.sinks.iter().map(|s| s.iter().map(sink).collect());
        (!inputs.is_empty()).then(|| TaskConfig {
            id,
            pipeline: self.pipeline.clone(),
            inputs,
            sources: Vec::new(),
            starts: BTreeMap::new(),
            sinks: sinks.collect(),
            share: 0..0,
        })
    }
}

/// The pipelines by their numbers.
pub(crate) fn all() -> BTreeMap<u32, Deployed> {
    use world::{COPY, MIDDLE, SOURCE, SPREAD, TALLY};
    let count = |name, from| Pipeline::chain(name, from).stage("count", || Box::<Count>::default());
    let window = Window {
        field: "n".into(),
        size_ms: WINDOW_MS,
        allowed_lateness_ms: 30,
    };
    let windows = Pipeline::chain("windows", "middle").window(window);
    let copies = Pipeline::chain("copies", "source").filter(|_| true);
    let spreads = Pipeline::chain("spreads", "source").stage("rekey", || Box::new(Rekey));
    let doomed = Pipeline::chain("doomed", "source").filter(|_| true);
    [
        (COUNTS, count("counts", "source"), &SOURCE[..], &MIDDLE[..]),
        (WINDOWS, windows, &MIDDLE, &world::WINDOWS),
        (COPIES, copies, &SOURCE, &COPY),
        (SPREADS, spreads, &SOURCE, &SPREAD),
        (TALLIES, count("tallies", "spread"), &SPREAD, &TALLY),
        (DOOMED, doomed, &SOURCE, &[world::DOOMED]),
    ]
    .into_iter()
    .map(|(id, chain, from, to)| (id, deployed(id, chain, from, to)))
    .collect()
}

fn deployed(id: u32, chain: Chain, from: &[PartitionId], to: &[PartitionId]) -> Deployed {
    let pipeline = chain
        .to("out")
        .options(OPTIONS)
        .build()
        .expect("the pipelines are well formed");
    let at = id as usize - 1;
    Deployed {
        pipeline,
        inputs: from.into(),
        sinks: vec![vec![world::DLQ[at]], vec![world::LATE[at]], to.into()],
    }
}

/// The key under which a record is spread.
pub(crate) fn spread_key(value: &str) -> String {
    format!("g{}", number(value, "n").unwrap_or_default() % 5)
}

/// Emits every record as it is, under another key.
struct Rekey;

impl Processor for Rekey {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let value = String::from_utf8_lossy(record.value.unwrap_or_default());
        let key = spread_key(&value);
        ctx.emit(
            record.timestamp,
            Some(key.as_bytes()),
            record.value,
            record.headers,
        );
        Ok(())
    }
}

/// Emits every record with how many of its key there were, as `{"id","n","do","count"}`.
#[derive(Default)]
struct Count {
    /// Flaky records that have failed in this process.
    failed: Vec<(PartitionId, u64)>,
}

impl Processor for Count {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let value = String::from_utf8_lossy(record.value.unwrap_or_default());
        let key = record.key.unwrap_or_default();
        let count = ctx
            .get(key)
            .map_or(0, |c| u64::from_le_bytes(c.try_into().expect("8 bytes")));
        // Changed before it fails, so that what is undone is seen in the counts.
        ctx.put(key, &(count + 1).to_le_bytes());
        let out = format!("{},\"count\":{}}}", value.trim_end_matches('}'), count + 1);
        ctx.emit(
            record.timestamp,
            record.key,
            Some(out.as_bytes()),
            record.headers,
        );
        let place = (record.partition, record.offset.0);
        match text(&value, "do") {
            FLAKY if !self.failed.contains(&place) => {
                self.failed.push(place);
                Err(ProcessError::Retry("flaky".into()))
            }
            STUBBORN => Err(ProcessError::Retry("stubborn".into())),
            BAD => Err(ProcessError::Reject("bad".into())),
            _ => Ok(()),
        }
    }
}

/// A text field of a flat JSON object without escapes.
pub(crate) fn text<'a>(json: &'a str, field: &str) -> &'a str {
    let from = json
        .split_once(&format!("\"{field}\":\""))
        .map_or("", |(_, rest)| rest);
    from.split('"').next().unwrap_or_default()
}

/// A number field of a flat JSON object.
pub(crate) fn number(json: &str, field: &str) -> Option<i64> {
    let (_, rest) = json.split_once(&format!("\"{field}\":"))?;
    rest.split([',', '}']).next()?.parse().ok()
}
