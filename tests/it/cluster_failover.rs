//! Leaders that die, stand still or are stopped, under load, again and again.
//!
//! Idempotent producers send again what was not answered, a reader reads as the topic grows. In the end
//! what was acknowledged is there once, in order, and where it was said to be; and the reader has read
//! that, no more and no less.

use crate::cluster_site::ClusterSite;
use crate::dice::Dice;
use crate::load::{Acked, Load, Sent, Tag};
use crate::reading::visit_all;
use crate::server::within;
use flowstone_client::{Acks, Client, TopicSettings};
use flowstone_wire::NodeId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const TOPIC: &str = "load";
const PARTITIONS: u32 = 4;
const PRODUCERS: u32 = 3;
const SETTINGS: &str = "[node]\nshards = 2\nworkers = 1";

const WAYS: [&str; 3] = ["killed", "frozen", "stopped"];

/// How often a leader is taken away: `FLOWSTONE_FAILOVERS`, or `default`.
pub(crate) fn failovers(default: u64) -> u64 {
    std::env::var("FLOWSTONE_FAILOVERS").map_or(default, |s| s.parse().unwrap())
}

/// A record as it was read: partition, offset, tag.
type Seen = (u32, u64, Tag);

pub(crate) struct Running {
    stop: watch::Sender<bool>,
    producers: JoinSet<Sent>,
    acks: mpsc::UnboundedReceiver<(Instant, Acked)>,
    reads: mpsc::UnboundedReceiver<Seen>,
    acked: Vec<Acked>,
}

impl Running {
    async fn start(client: &Client, dice: &mut Dice) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (acked, acks) = timed();
        let mut producers = JoinSet::new();
        for producer in 0..PRODUCERS {
            let load = Load {
                topic: TOPIC,
                partitions: PARTITIONS,
                producer,
                first: 0,
                acks: Acks::Durable,
                window: 100,
                finish: true,
                dice: Dice::new(dice.next()),
            };
            producers.spawn(load.run(client.clone(), acked.clone(), stopped.clone()));
        }
        Self {
            stop,
            producers,
            acks,
            reads: read_on(client),
            acked: Vec::new(),
        }
    }

    /// Takes so many acknowledgements that come from `since` on; the longest time without one.
    pub(crate) async fn take(&mut self, since: Instant, count: usize) -> Duration {
        let (mut last, mut longest, mut taken) = (since, Duration::ZERO, 0);
        while taken < count {
            let ack = within("an acknowledgement", self.acks.recv()).await;
            let (at, ack) = ack.unwrap();
            self.acked.push(ack);
            if at >= since {
                longest = longest.max(at - last);
                (last, taken) = (at, taken + 1);
            }
        }
        longest
    }
}

impl Running {
    /// Stops the producers and holds everything against what is there, by way of every node.
    async fn finish(mut self, cluster: &ClusterSite) -> usize {
        self.stop.send_replace(true);
        let sent = within("the last acknowledgements", self.producers.join_all()).await;
        while let Some(ack) = self.acks.recv().await {
            self.acked.push(ack.1);
        }
        let client = cluster.client().await;
        let count = check(&client, &sent, &self.acked).await;
        check_reads(&client, &mut self.reads, count).await;
        for node in cluster.all() {
            let client = cluster.client_of(node).await;
            let mut seen = 0;
            visit_all(&client, TOPIC, |_, _| seen += 1).await;
            assert_eq!(seen, count, "by way of node {node}");
        }
        count
    }
}

/// A channel for acknowledgements, with the times at which they came.
fn timed() -> (
    mpsc::UnboundedSender<Acked>,
    mpsc::UnboundedReceiver<(Instant, Acked)>,
) {
    let (sender, mut acks) = mpsc::unbounded_channel();
    let (timed, times) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(ack) = acks.recv().await {
            if timed.send((Instant::now(), ack)).is_err() {
                return;
            }
        }
    });
    (sender, times)
}

/// Reads the topic as it grows; ends when nobody takes it.
fn read_on(client: &Client) -> mpsc::UnboundedReceiver<Seen> {
    let (seen, reads) = mpsc::unbounded_channel();
    let client = client.clone();
    tokio::spawn(async move {
        let mut consumer = client.consumer(TOPIC).open().await.unwrap();
        loop {
            let records = consumer.next_batch().await.unwrap();
            for record in &records {
                let tag = Tag::of(record.value);
                if seen
                    .send((records.partition(), record.offset.0, tag))
                    .is_err()
                {
                    return;
                }
            }
        }
    });
    reads
}

pub(crate) async fn leader_of_first(cluster: &ClusterSite) -> NodeId {
    cluster.status().await.shards[0].leader
}

/// Takes the leader away in one of three ways and brings it back. Returns how long nothing was acknowledged.
async fn fail_over(cluster: &mut ClusterSite, running: &mut Running, way: u64) -> Duration {
    let leader = leader_of_first(cluster).await;
    let since = Instant::now();
    match way {
        0 => cluster.kill(leader),
        1 => cluster.freeze(leader),
        _ => cluster.stop(leader),
    }
    // More than was under way: others must have taken over.
    let outage = running.take(since, 3 * 100 + 200).await;
    match way {
        1 => cluster.thaw(leader),
        _ => cluster.start_again(leader),
    }
    cluster.well().await;
    outage
}

/// Takes leaders away under load, as often as that, and checks what came of it.
pub(crate) async fn under_load(
    cluster: &mut ClusterSite,
    (seed, rounds): (u64, u64),
    mut take_away: impl AsyncFnMut(&mut ClusterSite, &mut Running, u64) -> Duration,
) {
    let client = cluster.client().await;
    let settings = TopicSettings::default();
    client
        .create_topic(TOPIC, PARTITIONS, settings)
        .await
        .unwrap();
    let mut dice = Dice::new(seed);
    let mut running = Running::start(&client, &mut dice).await;
    let mut outages = Vec::new();
    for round in 0..rounds {
        let count = dice.below(1500) as usize + 100;
        running.take(Instant::now(), count).await;
        outages.push(take_away(cluster, &mut running, round).await);
    }
    let count = running.finish(cluster).await;
    tell(count, outages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_go_take_nothing_with_them() {
    taken_away(3, 3, (41, failovers(4))).await;
}

/// Five votes, and five copies: more than a majority of three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_of_five_that_go_take_nothing_with_them() {
    taken_away(5, 5, (43, failovers(3))).await;
}

async fn taken_away(nodes: usize, copies: u8, (seed, rounds): (u64, u64)) {
    let mut cluster = ClusterSite::start(nodes, copies, "", SETTINGS).await;
    let take_away = async |cluster: &mut ClusterSite, running: &mut Running, round| {
        let way = round % 3;
        let outage = fail_over(cluster, running, way).await;
        eprintln!(
            "{}: nothing acknowledged for {outage:?}",
            WAYS[way as usize]
        );
        outage
    };
    under_load(&mut cluster, (seed, rounds), take_away).await;
}

/// Prints how long nothing was acknowledged.
fn tell(count: usize, mut outages: Vec<Duration>) {
    outages.sort_unstable();
    let at = |percent: usize| outages[(outages.len() - 1) * percent / 100];
    eprintln!(
        "{count} records, {} leaders taken away; nothing acknowledged for {:?} (p50), {:?} (p99), {:?} at most",
        outages.len(),
        at(50),
        at(99),
        at(100)
    );
}

/// Everything that was sent is there once, in order, and where its receipt says.
async fn check(client: &Client, sent: &[Sent], acked: &[Acked]) -> usize {
    let failed: Vec<_> = sent.iter().flat_map(|s| &s.failed).collect();
    assert!(
        failed.is_empty(),
        "{} failed: {:?}",
        failed.len(),
        failed[0]
    );
    let mut places = BTreeMap::new();
    let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    visit_all(client, TOPIC, |partition, record| {
        let (tag, offset) = (Tag::of(record.value), record.offset.0);
        assert!(
            places.insert(tag, (partition, offset)).is_none(),
            "{tag:?} is there twice"
        );
        let next = next.entry(partition).or_insert(0);
        assert_eq!(offset, *next, "a hole in partition {partition}");
        *next += 1;
        if let Some(before) = last.insert((partition, tag.producer), tag.number) {
            assert!(before < tag.number, "{tag:?} comes behind {before}");
        }
    })
    .await;
    let all: usize = sent.iter().map(|s| s.records.len()).sum();
    assert_eq!(places.len(), all, "what is stored is not what was sent");
    assert_eq!(acked.len(), all);
    for ack in acked {
        let place = (ack.partition, ack.offset);
        assert_eq!(
            places.get(&ack.tag),
            Some(&place),
            "the receipt of {:?}",
            ack.tag
        );
    }
    all
}

/// The reader has read what is there: each record once, in order, and none that is there no more.
async fn check_reads(client: &Client, reads: &mut mpsc::UnboundedReceiver<Seen>, count: usize) {
    let mut there = BTreeMap::new();
    visit_all(client, TOPIC, |partition, record| {
        there.insert((partition, record.offset.0), Tag::of(record.value));
    })
    .await;
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for _ in 0..count {
        let (partition, offset, tag) = within("the reader", reads.recv()).await.unwrap();
        let next = next.entry(partition).or_insert(0);
        assert_eq!(offset, *next, "partition {partition} was not read in order");
        *next += 1;
        assert_eq!(
            there.get(&(partition, offset)),
            Some(&tag),
            "an aborted read"
        );
    }
}
