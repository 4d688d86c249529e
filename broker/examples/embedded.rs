//! An engine in this process: no socket, no other thread on the way from append to task.
//!
//! `cargo run --release -p flowstone --example embedded`

use flowstone::Engine;
use flowstone::processor::Pipeline;
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// When the task saw the last record, in nanoseconds since the start.
static SEEN_NS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let start = Instant::now();
    let mut engine = Engine::open(dir.path())?;
    let ticks = engine.topic("ticks", 1)?;
    let pipeline = Pipeline::chain("large", "ticks")
        .filter(move |record| {
            SEEN_NS.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            record.value.is_some_and(|v| v[0] > 127)
        })
        .to("large-ticks")
        .build()?;
    engine.deploy(&pipeline)?;
    let mut latency = Histogram::<u64>::new(3)?;
    for n in 0..200_000u32 {
        let sent = start.elapsed().as_nanos() as u64;
        engine.append(&ticks, None, &[n as u8; 128])?;
        latency.record(SEEN_NS.load(Ordering::Relaxed).saturating_sub(sent))?;
        engine.poll();
    }
    engine.wait_durable()?;
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        println!(
            "append to task {name}: {:.2} us",
            latency.value_at_quantile(q) as f64 / 1000.0
        );
    }
    Ok(())
}
