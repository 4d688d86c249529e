//! Durable produce with one, two and three copies, all nodes in this process. Each node has one core, as if that
//! were its machine, as far as there are cores; every copy costs the disk of this one machine as much as it
//! would cost another one's.

use flowstone::bench::{raw, tcp, us};
use flowstone::{Broker, Config};
use flowstone_client::{Acks, Client};
use flowstone_wire::native::ClusterChange;
use rustix::thread::{CpuSet, sched_setaffinity};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::error::Error;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

#[path = "../broker/peer/benches/wire"]
#[allow(dead_code, reason = "the bench of the wire has more parts")]
mod wire {
    pub(crate) mod calls;
    mod nodes;
    pub(crate) mod raw;
    pub(crate) mod setting;
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RUNS: usize = 3;
const SECONDS: f64 = 4.0;
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let copies = match std::env::args().skip(1).find(|a| !a.starts_with('-')) {
        Some(only) => vec![only.parse()?],
        None => vec![1, 2, 3],
    };
    let dir = tempfile::tempdir()?;
    let mut raws = Vec::new();
    let mut runs: Vec<Vec<Run>> = copies.iter().map(|_| Vec::new()).collect();
    for n in 0..RUNS {
        // Raw and whole in turn: the machine is not the same from minute to minute.
        raws.push(Raw::measure(dir.path())?);
        for (copies, runs) in copies.iter().zip(&mut runs) {
            let place = dir.path().join(format!("{n}-{copies}"));
            runs.push(run(&place, *copies)?);
            std::fs::remove_dir_all(&place)?;
        }
    }
    let raw = Raw {
        mb_s: median(&raws, |r| r.mb_s),
        trip_us: median(&raws, |r| r.trip_us),
        sync_us: median(&raws, |r| r.sync_us),
    };
    println!(
        "raw: quinn alone {:.0} MB/s; a call's round trip p50 {:.0} us; 4 KiB + fdatasync p50 {:.0} us",
        raw.mb_s, raw.trip_us, raw.sync_us
    );
    let mut alone = None;
    for (copies, runs) in copies.iter().zip(&runs) {
        tell(*copies, runs, &raw, &mut alone);
    }
    Ok(())
}

/// What the machine does without us.
struct Raw {
    mb_s: f64,
    trip_us: f64,
    sync_us: f64,
}

impl Raw {
    fn measure(dir: &Path) -> Result<Self, Failure> {
        let setting = wire::setting::setting();
        let text = |e: Box<dyn Error>| e.to_string();
        let (per_s, _) = wire::raw::throughput(&setting, dir).map_err(text)?;
        let trips = wire::calls::calls(&setting).map_err(text)?;
        let syncs = raw::fdatasync(dir, 4096, 2_000)?;
        Ok(Self {
            mb_s: per_s / 1e6,
            trip_us: trips[trips.len() / 2].as_secs_f64() * 1e6,
            sync_us: us(&syncs, 0.5),
        })
    }
}

fn tell(copies: usize, runs: &[Run], raw: &Raw, alone: &mut Option<f64>) {
    let (mb_s, p50) = (median(runs, |r| r.mb_s), median(runs, |r| r.p50_us));
    println!(
        "{copies} copies: 1 KiB, four producers {mb_s:.0} MB/s (x {:.2} of quinn), {:.2} s of CPU a GB; 128 B, one at a \
         time, p50 {p50:.0} us, p99 {:.0} us",
        mb_s / raw.mb_s,
        median(runs, |r| r.cpu_s_per_gb),
        median(runs, |r| r.p99_us),
    );
    println!(
        "  allocated: {:.2} bytes a byte, {:.1} times a MiB",
        median(runs, |r| r.allocated_per_byte),
        median(runs, |r| r.allocations_per_mib)
    );
    if let (1, None) = (copies, &alone) {
        *alone = Some(p50);
    } else if let Some(alone) = *alone {
        let added = p50 - alone;
        let least = raw.trip_us + raw.sync_us;
        println!(
            "  added p50 {added:.0} us, x {:.2} of round trip + fdatasync",
            added / least
        );
    }
}

struct Run {
    mb_s: f64,
    cpu_s_per_gb: f64,
    /// Of the whole process: producers, and all nodes.
    allocations_per_mib: f64,
    allocated_per_byte: f64,
    p50_us: f64,
    p99_us: f64,
}

fn median<T>(runs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut all: Vec<f64> = runs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Seconds of all threads of this process, the kernel's work for them included.
fn cpu_s() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn run(place: &Path, copies: usize) -> Result<Run, Failure> {
    let nodes = cluster(place, copies)?;
    let url = url_of(&nodes[0])?;
    let load = |topic: &str, producers, bytes| tcp::Load {
        url: url.clone(),
        topic: topic.into(),
        producers,
        partitions: 1,
        bytes,
        seconds: SECONDS,
        acks: Acks::Durable,
        batch_bytes: 256 << 10,
    };
    let (before, allocated) = (cpu_s(), Region::new(ALLOCATOR));
    let throughput = tcp::produce(&load("many", 4, 1024))?;
    let (bytes, allocated) = (throughput.bytes as f64, allocated.change());
    let cpu_s_per_gb = (cpu_s() - before) / (bytes / 1e9);
    let times = tcp::latency(&load("one", 1, 128), 0)?;
    Ok(Run {
        mb_s: throughput.bytes_per_s() / 1e6,
        cpu_s_per_gb,
        allocations_per_mib: allocated.allocations as f64 / (bytes / 1_048_576.0),
        allocated_per_byte: allocated.bytes_allocated as f64 / bytes,
        p50_us: us(&times, 0.5),
        p99_us: us(&times, 0.99),
    })
}

fn url_of(broker: &Broker) -> Result<String, Failure> {
    let address = broker.native_address().ok_or("it has no door")?;
    Ok(format!("tcp://{address}"))
}

/// So many nodes, each with a copy; one that takes no others where there is one.
fn cluster(place: &Path, copies: usize) -> Result<Vec<Broker>, Failure> {
    let first = config(place, 1, copies > 1)?;
    let mut nodes = vec![start_on_core(first, 1)?];
    let url = url_of(&nodes[0])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(Client::connect(&url))?;
    for n in 2..=copies {
        let token = runtime.block_on(client.join_token(false, 60))?;
        let config = config(place, n, true)?;
        Broker::join(&config, &token)?;
        nodes.push(start_on_core(config, n)?);
    }
    if copies > 1 {
        let change = ClusterChange::SetCopies {
            group: None,
            copies: Some(u8::try_from(copies)?),
        };
        runtime.block_on(client.change_cluster(change))?;
        runtime.block_on(all_there(&client, copies))?;
    }
    Ok(nodes)
}

/// Starts a node whose threads all run on one core.
fn start_on_core(config: Config, n: usize) -> Result<Broker, Failure> {
    let cores = std::thread::available_parallelism()?.get();
    let started = std::thread::spawn(move || -> Result<Broker, Failure> {
        let mut core = CpuSet::new();
        core.set((n - 1) % cores);
        // What a thread starts runs where it does.
        sched_setaffinity(None, &core)?;
        Ok(Broker::start(config)?)
    });
    started.join().map_err(|_| "a node panicked at its start")?
}

async fn all_there(client: &Client, copies: usize) -> Result<(), Failure> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let status = client.cluster().await?;
        if status
            .shards
            .iter()
            .all(|s| s.is_active && s.members.len() == copies)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the copies do not come".into())
}

fn config(place: &Path, n: usize, takes_others: bool) -> Result<Config, Failure> {
    let mut config = Config::default();
    config.node.data = place.join(n.to_string());
    config.node.native = "127.0.0.1:0".into();
    config.node.http = String::new();
    config.node.workers = 1;
    config.node.shards = 1;
    if takes_others {
        let free = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        config.cluster.peer = free.to_string();
    }
    Ok(config)
}
