//! A disk that fails under a running broker: it says so, acknowledges nothing more, and stays calm.

use crate::dice::Dice;
use crate::launch::Launched;
use crate::loop_disk::{Kind, LoopDisk, skipped};
use crate::power_book::{Book, PIPELINES};
use crate::power_cut::{LOG, SHARDS, prepare, spawn_load};
use crate::power_load::{BULK, Lane, Notes, PARTITIONS, READINGS};
use crate::server::{Site, within};
use flowstone_client::Client;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

const DISK_BYTES: u64 = 2 << 30;
/// A failure is to be seen from outside within this.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
/// Nothing is left to be made durable, so nothing holds up the end.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);

/// How often a disk fails: `FLOWSTONE_CUTS`, or once.
fn failures() -> u64 {
    std::env::var("FLOWSTONE_CUTS").map_or(1, |s| s.parse().unwrap())
}

/// Readers of everything, which go on while the disk fails.
fn spawn_readers(client: &Client) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for topic in [READINGS, BULK] {
        let client = client.clone();
        readers.spawn(async move {
            let mut consumer = client.consumer(topic).open().await.unwrap();
            // What cannot be read any more is an error, and no end of the broker.
            while consumer.next_batch().await.is_ok() {}
        });
    }
    readers
}

async fn wait_for_acks(notes: &Mutex<Notes>, count: usize) {
    let enough = async {
        while notes.lock().unwrap().acked.len() < count {
            tokio::task::yield_now().await;
        }
    };
    within("acknowledgements", enough).await;
}

/// Not ready, with the reason; and the metrics count the shards.
async fn says_so(broker: &Launched) {
    let since = Instant::now();
    let answer = loop {
        let answer = broker.http().get("/readyz").await;
        if answer.status != 200 || since.elapsed() > SEEN_WITHIN {
            break answer;
        }
    };
    assert_eq!(answer.status, 503, "{}", answer.text());
    let why = answer.text();
    assert!(
        why.contains("shard") && why.contains("Input/output error"),
        "{why}"
    );
    loop {
        let page = broker.http().get("/metrics").await.expect(200);
        let mut lines = page.text().lines();
        let fenced = lines
            .find_map(|l| l.strip_prefix("flowstone_fenced_shards "))
            .unwrap();
        if fenced == PARTITIONS.to_string() {
            return;
        }
        assert!(since.elapsed() < SEEN_WITHIN, "{fenced} shards are fenced");
    }
}

/// The process neither ends nor spins, with all its clients and without them.
async fn stays_calm(broker: &mut Launched, clients: impl FnOnce()) {
    let before = broker.cpu_time();
    broker.lives_for(LOOK);
    let with_clients = broker.cpu_time() - before;
    assert!(
        with_clients < LOOK,
        "{with_clients:?} of processor time in {LOOK:?}"
    );
    clients();
    broker.lives_for(LOOK / 4);
    let before = broker.cpu_time();
    broker.lives_for(LOOK);
    let alone = broker.cpu_time() - before;
    assert!(
        alone < LOOK / 5,
        "{alone:?} of processor time in {LOOK:?}, with nothing to do"
    );
    eprintln!("processor time in {LOOK:?}: {with_clients:?} with clients, {alone:?} without");
}

/// No record was acknowledged that was sent when the disk had failed.
fn nothing_was_acknowledged_since(sent: &BTreeMap<(&'static str, Lane), u64>, notes: &Notes) {
    for acked in &notes.acked {
        let before = sent
            .get(&(acked.topic, acked.tag.lane))
            .copied()
            .unwrap_or(0);
        assert!(acked.tag.number < before, "{acked:?} without a disk");
    }
}

fn stops_soon(broker: Launched) {
    let since = Instant::now();
    let status = broker.terminate();
    assert!(status.code().is_some(), "it ended with {status}");
    assert!(
        since.elapsed() < STOPPED_WITHIN,
        "it took {:?} to stop",
        since.elapsed()
    );
}

async fn fail(mut disk: LoopDisk, dice: &mut Dice) {
    let site = Site::with_data(LOG, SHARDS, &disk.path().join("data"));
    prepare(&site).await;
    site.set(LOG, &format!("{SHARDS}{PIPELINES}"));
    let mut broker = Launched::start(&site);
    let client = broker.client().await;
    let (stop, stopped) = watch::channel(false);
    let notes = Arc::new(Mutex::new(Notes::default()));
    let mut producers = spawn_load(&client, dice, &notes, &stopped).await;
    let mut readers = spawn_readers(&client);
    wait_for_acks(&notes, 1_000 + dice.below(10_000) as usize).await;

    // A sync that the ioctl overtakes may succeed without being true: so says the kernel of a file
    // that was allocated and not written before. What was acknowledged before the ioctl is there.
    let mut book = Book::default();
    book.take(std::mem::take(&mut notes.lock().unwrap().acked));
    disk.cut_power();
    let sent = notes.lock().unwrap().sent.clone();
    says_so(&broker).await;
    stays_calm(&mut broker, || {
        producers.abort_all();
        readers.abort_all();
    })
    .await;
    nothing_was_acknowledged_since(&sent, &notes.lock().unwrap());
    drop((client, stop));
    stops_soon(broker);

    disk.power_up();
    let broker = Launched::start(&site);
    book.look(&broker.client().await).await;
    broker.stop();
}

async fn fail_again_and_again(kind: Kind, seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..failures() {
        match LoopDisk::with_power(kind, DISK_BYTES) {
            Ok(disk) => fail(disk, &mut dice).await,
            Err(why) => return skipped(&format!("the failing disk with {kind:?}"), &why),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_disk_fences_the_shards_on_ext4() {
    fail_again_and_again(Kind::Ext4, 31).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_disk_fences_the_shards_on_xfs() {
    fail_again_and_again(Kind::Xfs, 32).await;
}

/// What is not in memory cannot be read any more: readers are told, and the process goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_read_from_a_failed_disk_is_an_error_and_no_end() {
    let mut disk = match LoopDisk::with_power(Kind::Xfs, DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return skipped("the cold read", &why),
    };
    let site = Site::with_data("", "", &disk.path().join("data"));
    let broker = Launched::start(&site);
    let client = broker.client().await;
    let settings = flowstone_client::TopicSettings::default();
    client.create_topic("t", 1, settings).await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    for _ in 0..1500 {
        let record = flowstone_client::Record::new(vec![b'x'; 64 << 10]);
        drop(producer.enqueue(record).await.unwrap());
    }
    producer.close().await.unwrap();
    drop(client);
    // A start after an orderly stop reads no sealed segment, and the page cache is empty then.
    broker.stop();
    disk.power_up();
    let mut broker = Launched::start(&site);
    let client = broker.client().await;
    let mut consumer = client.consumer("t").open().await.unwrap();
    disk.cut_power();
    let error = loop {
        if let Err(error) = within("an answer", consumer.next_batch()).await {
            break error;
        }
    };
    assert_eq!(
        error.code(),
        Some(flowstone_client::ErrorCode::Damaged),
        "{error}"
    );
    broker.lives_for(Duration::from_secs(1));
}
