//! `flowstone bench`: measures a broker beside raw figures of the machine.
//!
//! Without `--url` (and without FLOWSTONE_URL) a broker is started in this process, in a temporary
//! directory, and reached over loopback TCP.

use super::produce::AckLevel;
use super::{Failed, Outcome};
use crate::bench::{self, Figure, in_process, raw, tcp, us};
use crate::broker::Broker;
use comfy_table::{Table, presets};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// How much producers can send.
    Produce(Args),
    /// How fast a topic is read.
    Consume(Args),
    /// How long an acknowledgement takes.
    Latency(Args),
    /// How long it takes from append to a task in the same process. Needs no broker.
    Pipeline(Args),
}

#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The broker; without it one is started in this process.
    #[arg(long, env = "FLOWSTONE_URL")]
    url: Option<String>,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Producers, each with its own thread, connection and partition.
    #[arg(long, default_value_t = 1)]
    producers: u32,
    /// Partitions of each producer, which it writes to in turn.
    #[arg(long, default_value_t = 1)]
    partitions: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// When a record counts as sent.
    #[arg(long, value_enum, default_value_t = AckLevel::Durable)]
    acks: AckLevel,
    /// Records a second, for latency and pipeline; 0 sends one after the other.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 256 << 10)]
    batch: usize,
    /// Where files are made; without it a temporary directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The place to measure in, and the broker that was started for it, if one was.
struct Ground {
    // Dropped in this order: the broker before its directory.
    broker: Option<Broker>,
    url: String,
    dir: tempfile::TempDir,
}

impl Ground {
    fn new(args: &Args, with_broker: bool) -> Result<Self, Failed> {
        let dir = match &args.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir)?;
                tempfile::tempdir_in(dir)?
            }
            None => tempfile::tempdir()?,
        };
        let (broker, url) = match &args.url {
            Some(url) => (None, url.clone()),
            None if with_broker => {
                let (broker, url) =
                    bench::start_broker(dir.path()).map_err(|e| Failed::new(1, e.to_string()))?;
                (Some(broker), url)
            }
            None => (None, String::new()),
        };
        Ok(Self { broker, url, dir })
    }

    fn load(&self, args: &Args) -> tcp::Load {
        tcp::Load {
            url: self.url.clone(),
            topic: format!("bench-{}", std::process::id()),
            producers: args.producers.max(1),
            partitions: args.partitions.max(1),
            bytes: args.size,
            seconds: args.seconds,
            acks: args.acks.acks(),
            batch_bytes: args.batch,
        }
    }
}

pub(super) fn run(command: Command) -> Outcome {
    super::serve::log_to_stderr("warn");
    let (args, figures) = match command {
        Command::Produce(args) => (args.clone(), produce(&args)?),
        Command::Consume(args) => (args.clone(), consume(&args)?),
        Command::Latency(args) => (args.clone(), latency(&args)?),
        Command::Pipeline(args) => (args.clone(), pipeline(&args)?),
    };
    print(&figures, args.json);
    Ok(())
}

const MB: f64 = 1e6;

fn produce(args: &Args) -> Result<Vec<Figure>, Failed> {
    let ground = Ground::new(args, true)?;
    let done = tcp::produce(&ground.load(args))?;
    drop(ground.broker);
    let group = 8 << 20;
    let synced = raw::synced_bytes_per_s(ground.dir.path(), group, 1 << 30)? / MB;
    let name = format!(
        "produce, {} B, {} producer(s), acks {:?}",
        args.size, args.producers, args.acks
    );
    Ok(vec![
        Figure::new("raw: memcpy", raw::memcpy_bytes_per_s() / MB, "MB/s"),
        Figure::new(
            "raw: first touch of memory",
            raw::touch_bytes_per_s(256 << 20) / MB,
            "MB/s",
        ),
        Figure::new("raw: crc32", raw::crc_bytes_per_s() / MB, "MB/s"),
        Figure::new("raw: write 8 MiB + fdatasync", synced, "MB/s"),
        Figure::new(name.clone(), done.bytes_per_s() / MB, "MB/s").beside(synced),
        Figure::new(name, done.records_per_s(), "records/s"),
    ])
}

fn consume(args: &Args) -> Result<Vec<Figure>, Failed> {
    let ground = Ground::new(args, true)?;
    let load = ground.load(args);
    tcp::produce(&load)?;
    let done = tcp::consume(&ground.url, &load.topics())?;
    let name = format!("consume, {} B", args.size);
    Ok(vec![
        Figure::new("raw: memcpy", raw::memcpy_bytes_per_s() / MB, "MB/s"),
        Figure::new(name.clone(), done.bytes_per_s() / MB, "MB/s"),
        Figure::new(name, done.records_per_s(), "records/s"),
    ])
}

fn latency(args: &Args) -> Result<Vec<Figure>, Failed> {
    let ground = Ground::new(args, true)?;
    let before = raw::device_written_bytes(ground.dir.path());
    let taken = tcp::latency(&ground.load(args), args.rate)?;
    let after = raw::device_written_bytes(ground.dir.path());
    drop(ground.broker);
    let echo = raw::tcp_echo(args.size, 20_000)?;
    let sync = raw::fdatasync(ground.dir.path(), 4096, 2_000)?;
    let mut figures = Vec::new();
    if let (Some(before), Some(after)) = (before, after) {
        let acked = taken.len() as f64 * args.size as f64;
        let ratio = after.saturating_sub(before) as f64 / acked;
        figures.push(Figure::new("device bytes per byte of value", ratio, "x"));
    }
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        figures.push(Figure::new(
            format!("raw: TCP echo {name}"),
            us(&echo, q),
            "us",
        ));
        figures.push(Figure::new(
            format!("raw: 4 KiB + fdatasync {name}"),
            us(&sync, q),
            "us",
        ));
        let held = if args.acks == AckLevel::Durable {
            &sync
        } else {
            &echo
        };
        let figure = Figure::new(
            format!(
                "ack {:?} at {}/s, {} B, {name}",
                args.acks, args.rate, args.size
            ),
            us(&taken, q),
            "us",
        );
        figures.push(figure.beside(us(held, q)));
    }
    Ok(figures)
}

fn pipeline(args: &Args) -> Result<Vec<Figure>, Failed> {
    let ground = Ground::new(args, false)?;
    let count = match args.rate {
        0 => 200_000,
        rate => (rate as f64 * args.seconds) as u64,
    };
    let taken = in_process::run(ground.dir.path(), args.size, count, args.rate)
        .map_err(|e| Failed::new(1, e.to_string()))?;
    let write = raw::write(ground.dir.path(), args.size, 100_000)?;
    let sync = raw::fdatasync(ground.dir.path(), 4096, 2_000)?;
    let mut figures = Vec::new();
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let raw_write = us(&write, q);
        figures.push(Figure::new(
            format!("raw: write {} B {name}", args.size),
            raw_write,
            "us",
        ));
        figures.push(Figure::new(
            format!("raw: 4 KiB + fdatasync {name}"),
            us(&sync, q),
            "us",
        ));
        figures.push(Figure::new(
            format!("append to task {name}"),
            us(&taken.to_task, q),
            "us",
        ));
        let output = Figure::new(
            format!("append to output written {name}"),
            us(&taken.to_output, q),
            "us",
        );
        figures.push(output.beside(raw_write));
        let durable = Figure::new(
            format!("append to durable {name}"),
            us(&taken.to_durable, q),
            "us",
        );
        figures.push(durable.beside(us(&sync, q)));
    }
    Ok(figures)
}

fn print(figures: &[Figure], json: bool) {
    if json {
        println!("{}", serde_json::json!(figures));
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["FIGURE", "VALUE", "UNIT", "RAW", "RATIO"]);
    for f in figures {
        let show = |v: f64| {
            if v >= 1000.0 {
                format!("{v:.0}")
            } else {
                format!("{v:.2}")
            }
        };
        table.add_row([
            f.name.clone(),
            show(f.value),
            f.unit.to_string(),
            f.raw.map_or("-".into(), show),
            f.ratio.map_or("-".into(), |r| format!("{r:.2}")),
        ]);
    }
    println!("{table}");
}
