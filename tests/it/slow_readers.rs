//! Readers that are slow or far behind: producers hardly notice, and nothing is kept for them.

use crate::cgroup::{Cgroup, skipped};
use crate::confined::{Confined, Limits, pass, size_of};
use crate::flood::{Pace, Plan, produce, quantile};
use crate::raw::{frame_of, hello};
use crate::server::{Site, within};
use flowstone_client::{Client, Offset, PartitionId, Record, TopicSettings};
use flowstone_wire::frame::{PREFIX_BYTES, Prefix};
use flowstone_wire::limits::FETCH_BYTES_MAX;
use flowstone_wire::native::{self, Fetch, FetchAnswer};
use flowstone_wire::{BatchHeader, Failure, batch};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const MEMORY_BYTES: u64 = 256 << 20;
const ANONYMOUS_BYTES_MAX: u64 = 192 << 20;
const RECORD_BYTES: usize = 60_000;
/// Fetches that the slow reader has under way: their answers are more than there is memory.
const FETCHES: u64 = 128;
/// So much the slow reader takes, four times a second: 1 KiB/s.
const SIP_BYTES: usize = 256;
const SIP_EVERY: Duration = Duration::from_millis(250);
/// Windows of time without and with the readers, by turns.
const ROUNDS: usize = 3;
const WINDOW: Duration = Duration::from_millis(1_500);
/// A moderate rate of durable batches.
const PER_S: f64 = 150.0;
/// What a disk and two cores that others use as well add now and then.
const NOISE: Duration = Duration::from_millis(100);

/// The value of a record: it says which one it is, and can hardly be compressed.
fn value_of(number: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(RECORD_BYTES);
    value.extend_from_slice(&number.to_le_bytes());
    let mut word = number;
    while value.len() < RECORD_BYTES {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ number;
        value.extend_from_slice(&word.to_le_bytes());
    }
    value
}

/// Writes more than the memory holds. Returns how many records that are.
async fn fill(client: &Client, topic: &str) -> u64 {
    let default = (MEMORY_BYTES * 5 / 2) >> 20;
    let count = (size_of("FLOWSTONE_BACKLOG_MIB", default) << 20) / RECORD_BYTES as u64;
    let producer = client.producer(topic).buffer_bytes(16 << 20).open().await;
    let producer = producer.unwrap();
    for number in 0..count {
        let record = Record::new(value_of(number));
        // An error of a single one is an error of the flush as well.
        let _ = within("room", producer.enqueue(record)).await.unwrap();
    }
    within("the last ack", producer.flush()).await.unwrap();
    count
}

/// Waits until some of it is settled: the start is read from there, the end from the log.
async fn settles(client: &Client, topic: &str) {
    within("settling", async {
        loop {
            let status = client.describe(topic).await.unwrap();
            if status.partitions[0].settled_segments > 2 {
                return;
            }
            pass(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Reads all of it again and again while it is let.
fn catch_up(client: Client, topic: &'static str, go: watch::Receiver<bool>) -> Arc<AtomicU64> {
    let read = Arc::new(AtomicU64::new(0));
    let count = read.clone();
    tokio::spawn(async move {
        let mut go = go;
        loop {
            let mut consumer = client.consumer(topic).open().await.unwrap();
            let end = client.describe(topic).await.unwrap().partitions[0].end;
            while consumer.position(0).unwrap() < end {
                if go.wait_for(|go| *go).await.is_err() {
                    return;
                }
                let records = consumer.next_batch().await.unwrap();
                for record in &records {
                    let value = record.value.unwrap();
                    assert_eq!(value.len(), RECORD_BYTES.next_multiple_of(8));
                    assert_eq!(value[..8], record.offset.0.to_le_bytes());
                    count.fetch_add(value.len() as u64, Ordering::Relaxed);
                }
            }
        }
    });
    read
}

/// A reader that asks for much at once and takes it a few bytes at a time.
struct Sipper {
    stream: TcpStream,
    taken: Vec<u8>,
}

impl Sipper {
    async fn start(address: SocketAddr, partition: PartitionId) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let mut requests = hello();
        for number in 1..=FETCHES {
            let fetch = Fetch {
                partition,
                offset: Offset(0),
                max_bytes: FETCH_BYTES_MAX as u32,
                wait_ms: 0,
            };
            requests.extend(frame_of(&fetch, number, &[]));
        }
        within("room for requests", stream.write_all(&requests))
            .await
            .unwrap();
        let taken = Vec::new();
        Self { stream, taken }
    }

    async fn take(&mut self, bytes: usize) {
        let mut sip = vec![0; bytes];
        within("bytes", self.stream.read_exact(&mut sip))
            .await
            .unwrap();
        self.taken.extend_from_slice(&sip);
    }

    /// Takes little by little until it is told to stop.
    fn sip(mut self, mut stop: watch::Receiver<bool>) -> JoinHandle<Self> {
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(SIP_EVERY);
            while !*stop.borrow_and_update() {
                self.take(SIP_BYTES).await;
                clock.tick().await;
            }
            self
        })
    }

    /// Takes some whole answers, and holds all that it was given against what was written.
    async fn was_given_the_truth(mut self, answers: u64) {
        let sipped = self.taken.len();
        assert!(sipped >= 4 * SIP_BYTES, "{sipped} bytes");
        for number in 0..=answers {
            let prefix = self.prefix(0).await;
            self.need(prefix.frame_bytes()).await;
            let frame: Vec<u8> = self.taken.drain(..prefix.frame_bytes()).collect();
            let header = prefix.header_size as usize;
            assert_eq!(
                prefix.correlation, number,
                "answers of one kind stand in order"
            );
            if number > 0 {
                let header = &frame[PREFIX_BYTES..][..header];
                native::decode::<Result<FetchAnswer, Failure>>(header)
                    .unwrap()
                    .unwrap();
                holds_the_start(&frame[PREFIX_BYTES + header.len()..]);
            }
        }
    }

    async fn prefix(&mut self, at: usize) -> Prefix {
        self.need(at + PREFIX_BYTES).await;
        Prefix::decode(&self.taken[at..]).unwrap().unwrap()
    }

    async fn need(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.taken.len());
        self.take(missing).await;
    }
}

fn holds_the_start(mut batches: &[u8]) {
    let mut next = 0;
    assert!(
        batches.len() > FETCH_BYTES_MAX / 2,
        "{} bytes",
        batches.len()
    );
    while !batches.is_empty() {
        let header: BatchHeader = batch::verify(batches).unwrap();
        assert_eq!(header.base_offset, Offset(next));
        next = header.next_offset().0;
        batches = &batches[header.size as usize..];
    }
}

/// 99 of 100 durable acks of a producer at a moderate rate come within this.
async fn window(address: SocketAddr, partition: PartitionId, next: &mut u64) -> Duration {
    let plan = Plan {
        producer: 0,
        partition,
        record_bytes: 4 << 10,
        pace: Pace::Open(PER_S),
        time: WINDOW,
    };
    let outcome = produce(plan, address, *next).await;
    outcome.is_complete();
    assert_eq!(outcome.refused.len(), 0, "{:?}", outcome.refused);
    *next += outcome.sent;
    let times: Vec<_> = outcome.acked.iter().map(|a| a.2).collect();
    quantile(&times, 0.99).unwrap()
}

/// Windows without and with the readers. Returns the times of both, and the last slow reader.
async fn take_turns(
    broker: &Confined,
    (backlog, live): (PartitionId, PartitionId),
    go: &watch::Sender<bool>,
) -> ([Vec<Duration>; 2], Sipper) {
    let (mut without, mut with, mut next) = (Vec::new(), Vec::new(), 0);
    let mut sipper = None;
    for round in 0..ROUNDS {
        without.push(window(broker.native(), live, &mut next).await);
        let (stop, stopped) = watch::channel(false);
        let sipping = Sipper::start(broker.native(), backlog).await.sip(stopped);
        go.send_replace(true);
        with.push(window(broker.native(), live, &mut next).await);
        go.send_replace(false);
        stop.send_replace(true);
        sipper = Some(within("the slow reader", sipping).await.unwrap());
        eprintln!(
            "  round {round}: p99 {:?} without readers, {:?} with",
            without[round], with[round]
        );
    }
    ([without, with], sipper.unwrap())
}

async fn partition_of(client: &Client, topic: &str) -> PartitionId {
    let settings = TopicSettings::default();
    let topic = client.create_topic(topic, 1, settings).await.unwrap();
    topic.partitions[0].id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_are_slow_or_behind_cost_producers_little_and_no_memory() {
    let group = match Cgroup::new(MEMORY_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped("slow readers", &why),
    };
    // Half of it is settled soon, the rest is hot.
    let site = Site::new(
        "hot_bytes = 268435456",
        "[settle]\nrate_bytes_per_s = 536870912",
    );
    let memory = Some(&group);
    let limits = Limits {
        memory,
        ..Limits::default()
    };
    let mut broker = Confined::start(&site, limits);
    let watch_memory = broker.watch_memory();
    let client = broker.client().await;
    let backlog = partition_of(&client, "backlog").await;
    let live = partition_of(&client, "live").await;
    let count = fill(&client, "backlog").await;
    settles(&client, "backlog").await;
    let (go, going) = watch::channel(false);
    let read = catch_up(broker.client().await, "backlog", going);
    let (times, sipper) = take_turns(&broker, (backlog, live), &go).await;
    within("right data", sipper.was_given_the_truth(4)).await;
    go.send_replace(true);
    within("all of the backlog", async {
        while read.load(Ordering::Relaxed) < count * RECORD_BYTES as u64 {
            pass(Duration::from_millis(20)).await;
        }
    })
    .await;
    go.send_replace(false);
    broker.lives();
    group.was_enough();
    eprintln!(
        "  {} MiB written, {} read; memory: {} MiB anonymous at most, {} with the page cache",
        (count * RECORD_BYTES as u64) >> 20,
        read.load(Ordering::Relaxed) >> 20,
        watch_memory.most() >> 20,
        group.peak_bytes() >> 20
    );
    watch_memory.stayed_below(ANONYMOUS_BYTES_MAX);
    let [without, with] = times.map(|times| quantile(&times, 0.5).unwrap());
    assert!(
        with <= without * 2 + NOISE,
        "{with:?} with readers, {without:?} without"
    );
}
