//! Whole paths beside raw figures of the same machine, from the same run: the table of the README.
//!
//! Latencies are histograms, not means, so this is a plain program and not criterion's loop. With
//! `FLOWSTONE_BENCH_OUT=FILE` the figures are written there as JSON.

use flowstone::bench::{self, Figure, in_process, raw, tcp, us};
use flowstone_client::Acks;
use std::error::Error;
use std::path::Path;

const MB: f64 = 1e6;
/// What a run of some seconds writes to the page cache, settling included.
const TOUCHED_BYTES: usize = 6 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo bench hands over its own flags; a name filters.
    let filter = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .unwrap_or_default();
    let runs = std::env::var("FLOWSTONE_BENCH_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    let dir = tempfile::tempdir()?;
    let mut figures = Vec::new();
    type Part = fn(&Path) -> Result<Vec<Figure>, Box<dyn Error>>;
    let parts: [(&str, Part); 6] = [
        ("in-process", in_process_paths),
        ("ack-latency", ack_latency),
        ("durable-throughput", durable_throughput),
        ("written-throughput", written_throughput),
        ("small-records", small_records),
        ("consume", consume),
    ];
    for (name, part) in parts.iter().filter(|(name, _)| name.contains(&filter)) {
        let mut all = Vec::new();
        for _ in 0..runs {
            all.push(part(dir.path())?);
        }
        for figure in medians(&all) {
            println!("{name}: {}", line(&figure));
            figures.push(figure);
        }
    }
    if let Ok(path) = std::env::var("FLOWSTONE_BENCH_OUT") {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// Of every figure the median run, by its ratio where it has one.
fn medians(runs: &[Vec<Figure>]) -> Vec<Figure> {
    let of = |i: usize| {
        let mut same: Vec<&Figure> = runs.iter().map(|r| &r[i]).collect();
        same.sort_by(|a, b| {
            a.ratio
                .unwrap_or(a.value)
                .total_cmp(&b.ratio.unwrap_or(b.value))
        });
        same[same.len() / 2].clone()
    };
    (0..runs[0].len()).map(of).collect()
}

fn line(f: &Figure) -> String {
    let mut line = format!("{:<44} {:>10.2} {}", f.name, f.value, f.unit);
    if let (Some(raw), Some(ratio)) = (f.raw, f.ratio) {
        line += &format!("   raw {raw:.2}, ratio {ratio:.2}");
    }
    if let Some(target) = f.target {
        line += &format!("   target {target:.2}");
    }
    line
}

fn in_process_paths(dir: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let run = tempfile::tempdir_in(dir)?;
    let taken = in_process::run(run.path(), 128, 200_000, 50_000)?;
    let write = raw::write(run.path(), 200, 200_000)?;
    let raw_write = us(&write, 0.5);
    Ok(vec![
        Figure::new("append 128 B to task, p50", us(&taken.to_task, 0.5), "us")
            .beside(raw_write)
            .target(0.3),
        Figure::new("append 128 B to task, p99", us(&taken.to_task, 0.99), "us").target(2.0),
        Figure::new(
            "append to output written, p50",
            us(&taken.to_output, 0.5),
            "us",
        )
        .beside(raw_write)
        .target(1.5),
        Figure::new(
            "append to output written, p99",
            us(&taken.to_output, 0.99),
            "us",
        )
        .target(6.0),
    ])
}

fn load(url: &str, topic: &str, producers: u32, bytes: usize, acks: Acks) -> tcp::Load {
    let (url, topic) = (url.to_string(), topic.to_string());
    tcp::Load {
        url,
        topic,
        producers,
        partitions: 1,
        bytes,
        seconds: 3.0,
        acks,
        batch_bytes: 256 << 10,
    }
}

fn ack_latency(dir: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let run = tempfile::tempdir_in(dir)?;
    let (broker, url) = bench::start_broker(run.path())?;
    let written = tcp::latency(&load(&url, "written", 1, 128, Acks::Written), 0)?;
    let durable = tcp::latency(&load(&url, "durable", 1, 128, Acks::Durable), 0)?;
    drop(broker);
    let echo = raw::tcp_echo(128, 20_000)?;
    let sync = raw::fdatasync(run.path(), 256, 2_000)?;
    let (raw_echo, raw_sync) = (us(&echo, 0.5), us(&sync, 0.5));
    Ok(vec![
        Figure::new("TCP ack written 128 B, p50", us(&written, 0.5), "us")
            .beside(raw_echo)
            .target(2.0 * raw_echo),
        Figure::new("TCP ack written 128 B, p99", us(&written, 0.99), "us").beside(us(&echo, 0.99)),
        Figure::new("TCP ack durable 128 B, p50", us(&durable, 0.5), "us")
            .beside(raw_sync)
            .target(raw_sync + 50.0),
        Figure::new("TCP ack durable 128 B, p99", us(&durable, 0.99), "us").beside(us(&sync, 0.99)),
    ])
}

fn throughput(
    dir: &Path,
    producers: u32,
    bytes: usize,
    acks: Acks,
) -> Result<(tcp::Throughput, f64), Box<dyn Error>> {
    let run = tempfile::tempdir_in(dir)?;
    raw::touch_bytes_per_s(TOUCHED_BYTES);
    let (broker, url) = bench::start_broker(run.path())?;
    let done = tcp::produce(&load(&url, "t", producers, bytes, acks))?;
    drop(broker);
    Ok((
        done,
        raw::synced_bytes_per_s(run.path(), 4 << 20, 1 << 30)? / MB,
    ))
}

fn durable_throughput(dir: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let (done, raw) = throughput(dir, 4, 1024, Acks::Durable)?;
    let value = done.bytes_per_s() / MB;
    Ok(vec![
        Figure::new("durable, 1 KiB, 4 producers", value, "MB/s")
            .beside(raw)
            .target(600.0),
    ])
}

fn written_throughput(dir: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let touch = raw::touch_bytes_per_s(1 << 30) / MB;
    let (one, raw) = throughput(dir, 1, 1024, Acks::Written)?;
    let (four, _) = throughput(dir, 4, 1024, Acks::Written)?;
    Ok(vec![
        Figure::new("raw: first touch of memory", touch, "MB/s"),
        Figure::new("written, 1 KiB, 1 producer", one.bytes_per_s() / MB, "MB/s")
            .beside(raw)
            .target(800.0),
        Figure::new(
            "written, 1 KiB, 4 producers",
            four.bytes_per_s() / MB,
            "MB/s",
        )
        .beside(raw)
        .target(1400.0),
    ])
}

fn small_records(dir: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let (done, _) = throughput(dir, 1, 128, Acks::Written)?;
    let value = done.records_per_s() / 1e6;
    Ok(vec![
        Figure::new("written, 128 B, 1 producer", value, "M records/s").target(4.0),
    ])
}

fn consume(dir: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let run = tempfile::tempdir_in(dir)?;
    let (broker, url) = bench::start_broker(run.path())?;
    tcp::produce(&load(&url, "t", 1, 1024, Acks::Written))?;
    let done = tcp::consume(&url, &["t".to_owned()])?;
    drop(broker);
    let memcpy = raw::memcpy_bytes_per_s() / MB;
    let value = done.bytes_per_s() / MB;
    Ok(vec![
        Figure::new("consume, 1 KiB", value, "MB/s")
            .beside(memcpy)
            .target(2000.0),
    ])
}
