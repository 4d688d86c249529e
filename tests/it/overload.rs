//! Ten times more than the broker can take: it goes on at its pace, says no, and loses nothing.

use crate::cgroup::{Cgroup, skipped};
use crate::confined::{Confined, Limits, size_of};
use crate::flood::{Outcome, Pace, Plan, produce, quantile};
use crate::http::Http;
use crate::load::Tag;
use crate::reading::visit_all;
use crate::server::{Site, within};
use crate::slow_disk::SlowDisk;
use flowstone_client::{PartitionId, TopicSettings};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const TOPIC: &str = "load";
const PRODUCERS: u32 = 4;
/// So small that processors are the bound, unless the disk is slow.
const RECORD_BYTES: usize = 1 << 10;
/// A disk that is the bound: below what any has.
const SLOW_BYTES_PER_S: u64 = 30 << 20;
const MEMORY_BYTES: u64 = 512 << 20;
const ANONYMOUS_BYTES_MAX: u64 = 300 << 20;
/// Batches of a connection under way when the peak is looked for; more of them than the last are
/// not taken.
const WINDOWS: [usize; 2] = [64, 256];
/// How long the peak and the baseline are measured.
const MEASURE: Duration = Duration::from_secs(2);
/// Behind the overload, latency is looked at in windows of this length...
const LOOK: Duration = Duration::from_secs(1);
/// ...until it is near the baseline, which it must be by then.
const CALM: Duration = Duration::from_secs(30);
/// What a disk that others use as well adds now and then.
const NOISE: Duration = Duration::from_millis(50);

/// The broker's side of a run, and what was acknowledged in it.
struct Run {
    address: SocketAddr,
    partitions: Vec<PartitionId>,
    /// Number of the next record, for each producer.
    next: Vec<u64>,
    /// Offset by producer and number.
    acked: BTreeMap<Tag, u64>,
}

impl Run {
    /// All producers together, each with its share of the rate.
    async fn load(&mut self, pace: impl Fn() -> Pace, time: Duration) -> Vec<Outcome> {
        let mut producers = JoinSet::new();
        for producer in 0..PRODUCERS {
            let plan = Plan {
                producer,
                partition: self.partitions[producer as usize],
                record_bytes: RECORD_BYTES,
                pace: pace(),
                time,
            };
            let (address, first) = (self.address, self.next[producer as usize]);
            producers.spawn(async move { (producer, produce(plan, address, first).await) });
        }
        let mut outcomes = Vec::new();
        while let Some(joined) = producers.join_next().await {
            let (producer, outcome) = joined.unwrap();
            outcome.is_complete();
            self.next[producer as usize] += outcome.sent;
            for (number, offset, _) in &outcome.acked {
                let number = *number;
                self.acked.insert(Tag { producer, number }, *offset);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// The most that is acknowledged per second, however it is asked for.
    async fn peak(&mut self) -> f64 {
        let mut peak: f64 = 0.0;
        for window in WINDOWS {
            let outcomes = self.load(|| Pace::Closed(window), MEASURE).await;
            peak = peak.max(rate(&outcomes, MEASURE));
        }
        peak
    }

    async fn open(&mut self, per_s: f64, time: Duration) -> Vec<Outcome> {
        self.load(|| Pace::Open(per_s / f64::from(PRODUCERS)), time)
            .await
    }
}

fn rate(outcomes: &[Outcome], time: Duration) -> f64 {
    let acked: usize = outcomes.iter().map(|o| o.acked.len()).sum();
    acked as f64 / time.as_secs_f64()
}

fn p99(outcomes: &[Outcome]) -> Duration {
    let times: Vec<_> = outcomes
        .iter()
        .flat_map(|o| &o.acked)
        .map(|a| a.2)
        .collect();
    quantile(&times, 0.99).expect("some were acknowledged")
}

/// Posts events as fast as they are answered. Returns how many were taken and how many refused.
async fn post(http: Http, stop: watch::Receiver<bool>) -> JoinHandle<(u64, u64)> {
    tokio::spawn(async move {
        let (mut taken, mut refused) = (0, 0);
        while !*stop.borrow() {
            let answer = http.post("/api/v1/events/posted", &[b'x'; 1000]).await;
            match answer.status {
                200..300 => taken += 1,
                429 => {
                    answer.is_problem(429, "busy");
                    refused += 1;
                }
                _ => panic!("{answer:?}"),
            }
            assert_eq!(http.get("/healthz").await.text(), "ok\n");
        }
        (taken, refused)
    })
}

#[track_caller]
fn each_was_told_or_slowed(outcomes: &[Outcome]) {
    for (n, o) in outcomes.iter().enumerate() {
        eprintln!(
            "  producer {n}: of {} sent {}, acknowledged {}, refused {:?}, held back {}, blocked for {:?}",
            o.wanted,
            o.sent,
            o.acked.len(),
            o.refused,
            o.held_back(),
            o.blocked
        );
        assert!(o.acked.len() as u64 * 2 < o.wanted, "this was no overload");
        let told: u64 = o.refused.values().sum();
        assert!(told + o.held_back() > 0, "it was neither told nor slowed");
    }
}

/// Waits until latency is near the baseline again at a third of the load.
async fn calms_down(run: &mut Run, per_s: f64, baseline: Duration) {
    let since = Instant::now();
    let bound = baseline * 3 + NOISE;
    loop {
        let now = p99(&run.open(per_s, LOOK).await);
        eprintln!("  {:?} after it: p99 {now:?}", since.elapsed());
        if now <= bound {
            return;
        }
        assert!(
            since.elapsed() < CALM,
            "p99 is {now:?}, it was {baseline:?}"
        );
    }
}

/// Everything that was acknowledged is there, where the acknowledgement said.
async fn nothing_is_lost(site: &Site, run: &Run) {
    let broker = Confined::start(site, Limits::default());
    let client = broker.client().await;
    let mut missing = run.acked.clone();
    visit_all(&client, TOPIC, |_, record| {
        if let Some(offset) = missing.remove(&Tag::of(record.value)) {
            assert_eq!(offset, record.offset.0);
        }
    })
    .await;
    let count = run.acked.len();
    eprintln!("  {count} acknowledged records, {} missing", missing.len());
    assert!(
        missing.is_empty(),
        "the first one: {:?}",
        missing.first_key_value()
    );
}

async fn set_up(broker: &Confined) -> Run {
    let client = broker.client().await;
    let settings = TopicSettings::default;
    let topic = client.create_topic(TOPIC, PRODUCERS, settings()).await;
    client.create_topic("posted", 1, settings()).await.unwrap();
    Run {
        address: broker.native(),
        partitions: topic.unwrap().partitions.iter().map(|p| p.id).collect(),
        next: vec![0; PRODUCERS as usize],
        acked: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_is_refused_or_slowed_and_loses_nothing() {
    overload(&Site::new("", ""), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_what_the_disk_takes_is_refused_or_slowed_and_loses_nothing() {
    let site = Site::new("", "");
    match SlowDisk::new(&site.file(""), SLOW_BYTES_PER_S) {
        Ok(disk) => overload(&site, Some(&disk)).await,
        Err(why) => skipped("overload of the disk", &why),
    }
}

async fn overload(site: &Site, disk: Option<&SlowDisk>) {
    let group = match Cgroup::new(MEMORY_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped("overload", &why),
    };
    let time = Duration::from_secs(size_of("FLOWSTONE_OVERLOAD_S", 8));
    let limits = Limits {
        memory: Some(&group),
        disk,
        ..Limits::default()
    };
    let mut broker = Confined::start(site, limits);
    let watch_memory = broker.watch_memory();
    let mut run = set_up(&broker).await;
    let peak = run.peak().await;
    let third = peak * 0.3;
    let baseline = p99(&run.open(third, MEASURE).await);
    eprintln!("  peak {peak:.0} batches/s of {RECORD_BYTES} B, p99 {baseline:?} at 30 % of it");
    let (stop, stopped) = watch::channel(false);
    let posts = post(broker.http(), stopped).await;
    let outcomes = run.open(peak * 10.0, time).await;
    stop.send_replace(true);
    let (taken, refused) = within("the HTTP producer", posts).await.unwrap();
    let goodput = rate(&outcomes, time);
    eprintln!("  overload: {goodput:.0} batches/s; by HTTP {taken} taken, {refused} refused");
    each_was_told_or_slowed(&outcomes);
    calms_down(&mut run, third, baseline).await;
    broker.lives();
    group.was_enough();
    eprintln!(
        "  memory: {} MiB anonymous now, {} at most, {} with the page cache at most",
        group.anonymous_bytes() >> 20,
        watch_memory.most() >> 20,
        group.peak_bytes() >> 20
    );
    watch_memory.stayed_below(ANONYMOUS_BYTES_MAX);
    assert!(taken > 0, "HTTP was shut out");
    assert!(goodput >= peak * 0.8, "{goodput:.0}/s of {peak:.0}/s");
    broker.kill();
    nothing_is_lost(site, &run).await;
}
