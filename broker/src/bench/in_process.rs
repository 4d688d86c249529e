//! The path without a socket: append to task, and on to a written output.

use super::{Times, note, times};
use crate::broker::StartError;
use crate::engine::Engine;
use flowstone_processor::Pipeline;
use flowstone_wire::Failure;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What was measured.
pub struct InProcess {
    /// From the call of append until the task saw the record.
    pub to_task: Times,
    /// From the call of append until the task's output was in the page cache.
    pub to_output: Times,
    /// From the call of append until the record was on the disk.
    pub to_durable: Times,
}

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It does not take a record.
    #[error(transparent)]
    Append(#[from] Failure),
}

/// Appends `count` records of `bytes`, `per_s` a second (0: one after the other), to an engine in
/// `dir` whose task hands every record on.
///
/// # Errors
/// [`Error`].
pub fn run(dir: &Path, bytes: usize, count: u64, per_s: u64) -> Result<InProcess, Error> {
    let start = Instant::now();
    let seen_ns = Arc::new(AtomicU64::new(0));
    let seen = seen_ns.clone();
    let mut engine = Engine::open(dir.join("engine"))?;
    let topic = engine.topic("in", 1)?;
    let pipeline = Pipeline::chain("through", "in")
        .filter(move |_| {
            seen.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            true
        })
        .to("out")
        .build()?;
    engine.deploy(&pipeline)?;
    let value = vec![7u8; bytes];
    let mut result = InProcess {
        to_task: times(),
        to_output: times(),
        to_durable: times(),
    };
    let mut undurable = std::collections::VecDeque::new();
    let begin = start.elapsed();
    for n in 0..count {
        let due = begin
            + Duration::from_nanos(
                n.saturating_mul(1_000_000_000)
                    .checked_div(per_s)
                    .unwrap_or(0),
            );
        while start.elapsed() < due {
            engine.poll();
            settle(&engine, start, &mut undurable, &mut result.to_durable);
        }
        let sent = if per_s == 0 { start.elapsed() } else { due };
        let appended = engine.append(&topic, None, &value)?;
        note(&mut result.to_output, start.elapsed().saturating_sub(sent));
        let seen = Duration::from_nanos(seen_ns.load(Ordering::Relaxed));
        note(&mut result.to_task, seen.saturating_sub(sent));
        undurable.push_back((appended.lsn, sent));
        engine.poll();
        settle(&engine, start, &mut undurable, &mut result.to_durable);
    }
    engine.wait_durable()?;
    settle(&engine, start, &mut undurable, &mut result.to_durable);
    Ok(result)
}

/// Notes the records that have become durable.
fn settle(
    engine: &Engine,
    start: Instant,
    undurable: &mut std::collections::VecDeque<(flowstone_wire::Lsn, Duration)>,
    times: &mut Times,
) {
    let durable = engine.durable();
    while let Some((lsn, sent)) = undurable.front() {
        if *lsn > durable {
            return;
        }
        note(times, start.elapsed().saturating_sub(*sent));
        undurable.pop_front();
    }
}
