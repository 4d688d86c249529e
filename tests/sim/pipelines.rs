//! The pipelines of the simulation: counts by key, windows behind them, and a copy that starts late.
//!
//! ```text
//! source --> counts --> middle --> windows
//!        \-> copy
//! ```
//!
//! Values of the source are `{"id":"...","n":1,"do":"..."}`; `do` says how a record behaves.

use crate::world::{COPY, DLQ, LATE, MIDDLE, SOURCE, WINDOWS as WINDOWS_TOPIC};
use flowstone_core::input::{SinkPartition, TaskConfig};
use flowstone_processor::builtin::Window;
use flowstone_processor::{Context, Pipeline, PipelineOptions, ProcessError, Processor, Record};
use flowstone_wire::PartitionId;
use std::collections::BTreeMap;

/// Numbers of the pipelines.
pub(crate) const COUNTS: u32 = 1;
pub(crate) const WINDOWS: u32 = 2;
pub(crate) const COPIES: u32 = 3;

/// Length of a window.
pub(crate) const WINDOW_MS: i64 = 250;

/// What a record does to the stage that counts.
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
    state_bytes_max: 1 << 20,
};

/// The pipelines by their numbers.
pub(crate) fn all() -> BTreeMap<u32, TaskConfig> {
    let counts = Pipeline::chain("counts", "source").stage("count", || Box::<Count>::default());
    let window = Window {
        field: "n".into(),
        size_ms: WINDOW_MS,
        allowed_lateness_ms: 30,
    };
    let windows = Pipeline::chain("windows", "middle")
        .window(window)
        .to("windows-out");
    let copies = Pipeline::chain("copies", "source")
        .filter(|_| true)
        .to("copy");
    [
        (COUNTS, counts.to("middle"), SOURCE, MIDDLE),
        (WINDOWS, windows, MIDDLE, WINDOWS_TOPIC),
        (COPIES, copies, SOURCE, COPY),
    ]
    .into_iter()
    .map(|(id, chain, from, to)| {
        let pipeline = chain
            .options(OPTIONS)
            .build()
            .expect("the pipelines are well formed");
        let at = id as usize - 1;
        let config = TaskConfig {
            id,
            pipeline,
            inputs: from.into_iter().zip(0..).collect(),
            sinks: vec![local(&[DLQ[at]]), local(&[LATE[at]]), local(&to)],
        };
        (id, config)
    })
    .collect()
}

fn local(partitions: &[PartitionId]) -> Vec<SinkPartition> {
    partitions
        .iter()
        .map(|id| SinkPartition {
            id: *id,
            local: true,
        })
        .collect()
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
