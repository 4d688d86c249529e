//! How long producers wait while the tier works: alone, during uploads, and during cold reads.
//!
//! An open-loop producer at a tenth and at half of what it can send at most, durable acks, in windows that
//! follow one another; the times of all runs count together, since a disk that stalls for 30 ms does so in some windows and not
//! in others. A directory in memory, and
//! an S3 server in a process of its own, stand for a bucket elsewhere. What would run elsewhere, the
//! server and the readers, gives way to the broker; the producer does not.

#[path = "../storage/tier/tests/it/s3_server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "it is a test's"
)]
mod s3_server;

use flowstone::bench::{Times, raw, tcp, times, us};
use flowstone::config::Compression;
use flowstone::tiering::TierConfig;
use flowstone::{Broker, Config};
use flowstone_client::{Acks, Client, TierStatus, TopicSettings};
use flowstone_tier::{Credentials, Keys, Secret, Settings};
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

const OLD: &str = "old";
const BACKLOG_BYTES: u64 = 1 << 30;
const WINDOW_S: f64 = 3.0;
const RUNS: usize = 5;
/// Percent of what the producer can send at most.
const LOADS: [u64; 2] = [10, 50];
const READERS: usize = 2;
const RECORD_BYTES: usize = 128;
const SERVE: &str = "--serve-s3";
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|a| a == SERVE) {
        return serve(Path::new(args.get(at + 1).ok_or("where?")?));
    }
    let filter = args.iter().find(|a| !a.starts_with('-'));
    let dir = tempfile::tempdir()?;
    let whole = prepare(&dir.path().join("whole"))?;
    for name in ["directory", "S3"] {
        if filter.is_some_and(|f| !name.eq_ignore_ascii_case(f)) {
            continue;
        }
        for percent in LOADS {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(run(name, percent, &whole, &dir.path().join("data"))?);
            }
            tell(&format!("{name}, {percent} %"), &runs);
        }
    }
    let sync = raw::fdatasync(dir.path(), 4096, 2_000)?;
    println!("raw: 4 KiB + fdatasync, p99 {:.0} us", us(&sync, 0.99));
    Ok(())
}

/// What came of the windows of one run.
struct Run {
    per_s: u64,
    alone: Times,
    upload: Times,
    cold: Times,
    upload_mb_s: f64,
    cold_mb_s: f64,
}

fn tell(name: &str, runs: &[Run]) {
    let median = |of: &dyn Fn(&Run) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let rate = median(&|r| r.per_s as f64);
    let alone = together(runs, |r| &r.alone);
    let (p50, p99) = (us(&alone, 0.5), us(&alone, 0.99));
    println!(
        "{name}: {rate:.0} records/s of {RECORD_BYTES} B; alone p50 {p50:.0} us, p99 {p99:.0} us"
    );
    type Of = fn(&Run) -> (&Times, f64);
    let windows: [(&str, Of); 2] = [
        ("upload", |r| (&r.upload, r.upload_mb_s)),
        ("cold reads", |r| (&r.cold, r.cold_mb_s)),
    ];
    for (what, of) in windows {
        let times = together(runs, |r| of(r).0);
        let each: Vec<String> = runs
            .iter()
            .map(|r| format!("{:.2}", us(of(r).0, 0.99) / us(&r.alone, 0.99)))
            .collect();
        println!(
            "{name}, {what} at {:.0} MB/s: p50 {:.0} us, p99 {:.0} us, p99 x {:.2}; by run {}",
            median(&|r| of(r).1),
            us(&times, 0.5),
            us(&times, 0.99),
            us(&times, 0.99) / p99,
            each.join(" ")
        );
    }
}

fn together(runs: &[Run], of: impl Fn(&Run) -> &Times) -> Times {
    let mut all = times();
    for run in runs {
        all.add(of(run)).expect("the same bounds");
    }
    all
}

fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.node.data = data.into();
    config.node.native = "127.0.0.1:0".into();
    config.node.http = String::new();
    config.log.segment_bytes = 64 << 20;
    // What the windows send stays hot: it is the old topic that is uploaded and read.
    config.log.hot_bytes = 16 << 30;
    config.settle.compression = Compression::None;
    config
}

fn start(config: Config) -> Result<(Broker, String), Failure> {
    let broker = Broker::start(config)?;
    let address = broker.native_address().ok_or("it has no door")?;
    Ok((broker, format!("tcp://{address}")))
}

fn load(url: &str, topic: &str, bytes: usize, seconds: f64) -> tcp::Load {
    tcp::Load {
        url: url.into(),
        topic: topic.into(),
        producers: 1,
        partitions: 1,
        bytes,
        seconds,
        acks: Acks::Durable,
        batch_bytes: 256 << 10,
    }
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(future)
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > end {
            return Err(format!("{what}: not in time").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A data directory with a topic all of which is settled, but what no segment was full of.
fn prepare(data: &Path) -> Result<PathBuf, Failure> {
    let mut config = config(data);
    config.log.hot_bytes = 0;
    config.settle.rate_bytes_per_s = 1 << 30;
    let (broker, url) = start(config)?;
    let settings = TopicSettings {
        local_retention_bytes: Some(0),
        ..TopicSettings::default()
    };
    block_on(async {
        let client = Client::connect(&url).await?;
        client.create_topic(OLD, 1, settings).await?;
        Ok(())
    })?;
    let mut sent = 0;
    while sent < BACKLOG_BYTES {
        sent += tcp::produce(&load(&url, OLD, 1024, 0.2))?.bytes;
    }
    let wanted = BACKLOG_BYTES / (64 << 20) - 2;
    until("it is settled", || {
        let status = block_on(async { Ok(Client::connect(&url).await?.describe(OLD).await?) })?;
        Ok(u64::from(status.partitions[0].settled_segments) >= wanted)
    })?;
    drop(broker);
    Ok(data.into())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

fn tier_of(url: &str) -> Result<TierStatus, Failure> {
    let status = block_on(async { Ok(Client::connect(url).await?.tier().await?) })?;
    status.ok_or_else(|| "it has a tier".into())
}

/// How long each record of a window at this rate waited.
fn window(url: &str, topic: &str, per_s: u64) -> Result<Times, Failure> {
    Ok(tcp::latency(
        &load(url, topic, RECORD_BYTES, WINDOW_S),
        per_s,
    )?)
}

/// What this producer can send: it is given far more to do than that, and is late by the end.
fn most(url: &str) -> Result<u64, Failure> {
    const PER_S: u64 = 3_000_000;
    let times = tcp::latency(&load(url, "most", RECORD_BYTES, 1.0), PER_S)?;
    let late_s = times.max() as f64 / 1e9;
    Ok((PER_S as f64 / (1.0 + late_s)) as u64)
}

fn run(name: &str, percent: u64, whole: &Path, data: &Path) -> Result<Run, Failure> {
    if data.exists() {
        std::fs::remove_dir_all(data)?;
    }
    copy(whole, data)?;
    // Bytes that still wait for the disk would be the first window's.
    rustix::fs::sync();
    let (broker, url) = start(config(data))?;
    let per_s = most(&url)? * percent / 100;
    let alone = window(&url, "alone", per_s)?;
    drop(broker);

    let bucket = tempfile::tempdir_in("/dev/shm")?;
    let place = Place::start(name, bucket.path())?;
    let mut with_tier = config(data);
    with_tier.tier = Some(place.config());
    let (broker, url) = start(with_tier)?;
    let begun = Instant::now();
    let upload = window(&url, "uploading", per_s)?;
    let during = tier_of(&url)?;
    let upload_mb_s = during.up_bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    if during.waiting_bytes == 0 {
        println!("{name}: the upload was over before the window was");
    }
    until("the old topic is there only", || {
        let s = tier_of(&url)?;
        Ok(s.waiting_bytes == 0 && s.remote_bytes > BACKLOG_BYTES / 10 * 8)
    })?;
    let before = tier_of(&url)?.down_bytes;
    let readers = Readers::start(&url);
    let begun = Instant::now();
    let cold = window(&url, "reading", per_s)?;
    let read = tier_of(&url)?.down_bytes - before;
    let cold_mb_s = read as f64 / begun.elapsed().as_secs_f64() / 1e6;
    readers.stop()?;
    drop(broker);
    Ok(Run {
        per_s,
        alone,
        upload,
        cold,
        upload_mb_s,
        cold_mb_s,
    })
}

/// Consumers that read the old topic from its beginning again and again.
struct Readers {
    over: Arc<AtomicBool>,
    batches: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), Failure>>>,
}

impl Readers {
    fn start(url: &str) -> Self {
        let (over, batches) = (Arc::default(), Arc::<AtomicU64>::default());
        let one = |_| {
            let (url, over, batches) = (url.to_string(), Arc::clone(&over), Arc::clone(&batches));
            std::thread::spawn(move || {
                give_way();
                block_on(read_on(&url, &over, &batches))
            })
        };
        let threads = (0..READERS).map(one).collect();
        Self {
            over,
            batches,
            threads,
        }
    }

    fn stop(self) -> Result<(), Failure> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a reader panicked")??;
        }
        match self.batches.load(Ordering::Relaxed) {
            0 => Err("nothing was read".into()),
            _ => Ok(()),
        }
    }
}

async fn read_on(url: &str, over: &AtomicBool, batches: &AtomicU64) -> Result<(), Failure> {
    let client = Client::connect(url).await?;
    while !over.load(Ordering::Relaxed) {
        let mut consumer = client.consumer(OLD).open().await?;
        let end = client.describe(OLD).await?.partitions[0].committed;
        while !over.load(Ordering::Relaxed) && consumer.position(0).is_ok_and(|at| at < end) {
            consumer.next_batch().await?;
            batches.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// As if it were elsewhere.
fn give_way() {
    // Where it is not allowed the figures are the worse ones.
    let _ = setpriority_process(Some(gettid()), 19);
}

/// A bucket.
struct Place {
    settings: Settings,
    server: Option<Child>,
}

impl Place {
    fn start(name: &str, root: &Path) -> Result<Self, Failure> {
        if name == "directory" {
            let settings = Settings::at(format!("file://{}", root.display()));
            return Ok(Self {
                settings,
                server: None,
            });
        }
        let mut server = Command::new(std::env::current_exe()?)
            .arg(SERVE)
            .arg(root)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let said = server.stdout.take().ok_or("it says where it is")?;
        BufReader::new(said).read_line(&mut address)?;
        let keys = Keys {
            access_key_id: s3_server::KEY.into(),
            secret_access_key: Secret::new(s3_server::SECRET),
            session_token: None,
        };
        let settings = Settings {
            endpoint: Some(format!("http://{}", address.trim())),
            credentials: Credentials::Given(keys),
            ..Settings::at(format!("s3://{}/tier", s3_server::BUCKET))
        };
        Ok(Self {
            settings,
            server: Some(server),
        })
    }

    /// The least cache: nothing is read twice from it.
    fn config(&self) -> TierConfig {
        let store = Settings {
            cache_bytes: 8 * self.settings.chunk_bytes,
            ..self.settings.clone()
        };
        TierConfig {
            store,
            upload_after_ms: 0,
            prices: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It may have ended already.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn serve(root: &Path) -> Result<(), Failure> {
    give_way();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(give_way)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let address = s3_server::start(root, s3_server::Manners::Honest).await;
        println!("{address}");
        std::future::pending().await
    })
}
