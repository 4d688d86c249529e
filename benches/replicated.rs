//! Durable produce with one, two and three copies, all nodes in this process. Each node has one core, as if that
//! were its machine, as far as there are cores; every copy costs the disk of this one machine as much as it
//! would cost another one's.

use flowstone::bench::{raw, tcp, us};
use flowstone::{Broker, Config};
use flowstone_client::{Acks, Client};
use flowstone_wire::native::ClusterChange;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::error::Error;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

const RUNS: usize = 3;
const SECONDS: f64 = 4.0;
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let mut runs: [Vec<Run>; 3] = Default::default();
    for n in 0..RUNS {
        for copies in 1..=3 {
            let place = dir.path().join(format!("{n}-{copies}"));
            runs[copies - 1].push(run(&place, copies)?);
            std::fs::remove_dir_all(&place)?;
        }
    }
    let alone = (median(&runs[0], |r| r.mb_s), median(&runs[0], |r| r.p50_us));
    for (copies, runs) in (1..).zip(&runs) {
        let (mb_s, p50) = (median(runs, |r| r.mb_s), median(runs, |r| r.p50_us));
        println!(
            "{copies} copies: 1 KiB, four producers {mb_s:.0} MB/s (x {:.2} of one copy); 128 B, one at a time, \
             p50 {p50:.0} us (x {:.2}), p99 {:.0} us",
            mb_s / alone.0,
            p50 / alone.1,
            median(runs, |r| r.p99_us),
        );
    }
    let sync = raw::fdatasync(dir.path(), 4096, 2_000)?;
    let (p50, p99) = (us(&sync, 0.5), us(&sync, 0.99));
    println!(
        "raw: 4 KiB + fdatasync p50 {p50:.0} us, p99 {p99:.0} us; QUIC alone: cargo bench -p flowstone-peer"
    );
    Ok(())
}

struct Run {
    mb_s: f64,
    p50_us: f64,
    p99_us: f64,
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut all: Vec<f64> = runs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
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
    let throughput = tcp::produce(&load("many", 4, 1024))?;
    let times = tcp::latency(&load("one", 1, 128), 0)?;
    Ok(Run {
        mb_s: throughput.bytes_per_s() / 1e6,
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
