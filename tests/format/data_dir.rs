//! A data directory that this format version's first release wrote opens for ever, with everything in it.
//!
//! `UPDATE_DATA=1` writes it anew, which is only right before a release. Files are kept compressed, the
//! zeros behind the last batch of a log segment cut off.

use flowstone::processor::Pipeline;
use flowstone::{Broker, Config};
use flowstone_client::{Client, Offset, Record, TopicSettings};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SETTLED: u64 = 80;
const EVENTS: u64 = 10;

fn kept() -> PathBuf {
    super::root().join("tests/golden/data/v1")
}

fn start(data: &Path) -> Broker {
    let mut config = Config::default();
    config.node.data = data.into();
    config.node.native = String::new();
    config.node.http = String::new();
    config.node.shards = 2;
    config.log.segment_bytes = 64 << 20;
    config.log.min_free_bytes = 1 << 20;
    config.log.hot_bytes = 0;
    let broker = Broker::start(config).expect("it starts");
    on_runtime(async {
        let client = broker.client();
        if client.topic("events").await.is_err() {
            let settings = TopicSettings::default();
            client
                .create_topic("events", 4, settings)
                .await
                .expect("it is made");
        }
    });
    let totals = Pipeline::chain("numbers", "events")
        .key_by(|r| Ok(r.value.map(<[u8]>::to_vec)))
        .to("by-value")
        .build()
        .expect("it is valid");
    broker.deploy(totals).expect("it runs");
    broker
}

/// Every record of a topic, by partition and offset.
async fn read(client: &Client, topic: &str, count: u64) -> Vec<(u32, u64, Option<Vec<u8>>, usize)> {
    let mut consumer = client
        .consumer(topic)
        .open()
        .await
        .expect("the topic is there");
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let next = tokio::time::timeout(Duration::from_secs(60), consumer.next_batch());
        let batch = next.await.expect("records come").expect("they can be read");
        for r in &batch {
            let (key, len) = (r.key.map(<[u8]>::to_vec), r.value.map_or(0, <[u8]>::len));
            all.push((batch.partition(), r.offset.0, key, len));
        }
    }
    all.sort();
    all
}

async fn send_event(client: &Client, number: u64) {
    let producer = client.producer("events").open().await.expect("it opens");
    let record = Record::new(format!("v{}", number % 7)).partition((number % 4) as u32);
    producer.send(record).await.expect("it is stored");
    producer.close().await.expect("it is closed");
}

/// Fills a directory with everything that a directory can hold.
async fn fill(client: &Client) {
    let settings = TopicSettings {
        compact: true,
        retention_bytes: Some(1 << 40),
        ..TopicSettings::default()
    };
    client
        .create_topic("bulk", 1, settings)
        .await
        .expect("it is made");
    let producer = client.producer("bulk").open().await.expect("it opens");
    for n in 0..SETTLED {
        let record = Record::new(vec![b'x'; 1 << 20]).key(format!("k{n}"));
        drop(producer.enqueue(record).await.expect("it is sent"));
    }
    producer.close().await.expect("it is stored");
    for number in 0..EVENTS {
        send_event(client, number).await;
    }
    read(client, "by-value", EVENTS).await;
    let mut consumer = client
        .consumer("bulk")
        .group("readers")
        .open()
        .await
        .expect("it opens");
    consumer.next_batch().await.expect("it reads");
    consumer.seek(0, Offset(33)).expect("it is there");
    consumer.commit().await.expect("it is stored");
}

fn settled_files(data: &Path) -> usize {
    files(data)
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .count()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("it is a directory") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

fn pack(data: &Path) {
    let _ = fs::remove_dir_all(kept());
    for path in files(data) {
        let name = path.strip_prefix(data).expect("it is below");
        if ["spare", "lock", "reserve"]
            .iter()
            .any(|n| path.ends_with(n))
        {
            continue;
        }
        let mut bytes = fs::read(&path).expect("it can be read");
        if path.extension().is_some_and(|e| e == "log") {
            let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            bytes.truncate(end);
        }
        let to = kept().join(format!("{}.zst", name.display()));
        fs::create_dir_all(to.parent().expect("it has one")).expect("it can be made");
        let packed = zstd::bulk::compress(&bytes, 19).expect("it packs");
        fs::write(to, packed).expect("it can be written");
    }
}

fn unpack(data: &Path) {
    for path in files(&kept()) {
        let name = path
            .strip_prefix(kept())
            .expect("it is below")
            .with_extension("");
        let to = data.join(name);
        fs::create_dir_all(to.parent().expect("it has one")).expect("it can be made");
        let packed = fs::read(&path).expect("it can be read");
        let bytes = zstd::stream::decode_all(&packed[..]).expect("it unpacks");
        fs::write(to, bytes).expect("it can be written");
    }
}

fn on_runtime<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    runtime.block_on(run)
}

fn make() {
    let dir = tempfile::tempdir().expect("there is room");
    let broker = start(dir.path());
    on_runtime(fill(&broker.client()));
    while settled_files(dir.path()) == 0 {
        on_runtime(send_event(&broker.client(), EVENTS));
    }
    assert!(broker.stop(Duration::from_secs(30)), "it stops");
    pack(dir.path());
}

#[test]
fn a_directory_of_the_first_release_opens_with_everything() {
    if std::env::var_os("UPDATE_DATA").is_some() {
        make();
    }
    let dir = tempfile::tempdir().expect("there is room");
    unpack(dir.path());
    assert!(settled_files(dir.path()) > 0, "it has settled segments");
    let broker = start(dir.path());
    let client = broker.client();
    on_runtime(async {
        let bulk = read(&client, "bulk", SETTLED).await;
        for (n, record) in (0..).zip(&bulk) {
            assert_eq!(*record, (0, n, Some(format!("k{n}").into_bytes()), 1 << 20));
        }
        let topic = client.topic("bulk").await.expect("it is there");
        assert!(topic.settings.compact);
        let consumer = client.consumer("bulk").group("readers").open().await;
        let position = consumer.expect("it opens").position(0);
        assert_eq!(position.expect("it has this partition"), Offset(33));
        // The pipeline goes on where it was: what it had done is not done again.
        let events = client.describe("events").await.expect("it is there");
        let before: u64 = events.partitions.iter().map(|p| p.end.0).sum();
        send_event(&client, 3).await;
        let sorted = read(&client, "by-value", before + 1).await;
        let ends = client.describe("by-value").await.expect("it is there");
        let after: u64 = ends.partitions.iter().map(|p| p.end.0).sum();
        assert_eq!((sorted.len() as u64, after), (before + 1, before + 1));
    });
    assert!(broker.stop(Duration::from_secs(30)), "it stops");
}
