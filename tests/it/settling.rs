//! Settling and retention: what is rewritten reads the same, what has expired is gone.

use crate::reading::visit_all;
use crate::server::{Site, within};
use flowstone_client::{Client, Offset, PartitionStatus, Producer, Record, TopicSettings};
use std::hash::{DefaultHasher, Hasher};

const FAST: &str = "[settle]\nrate_bytes_per_s = 1073741824";
const VALUE_BYTES: usize = 64 << 10;

/// A value that compresses badly, from its number.
fn value(number: u64) -> Vec<u8> {
    let mut dice = crate::dice::Dice::new(number);
    let mut value = number.to_le_bytes().to_vec();
    while value.len() < VALUE_BYTES {
        value.extend_from_slice(&dice.next().to_le_bytes());
    }
    value
}

async fn produce(producer: &Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let record = Record::new(value(number));
        let _ticket = within("room", producer.enqueue(record)).await.unwrap();
    }
    within("acknowledgements", producer.flush()).await.unwrap();
}

/// One hash of everything in the topic, in order, and the number of records.
async fn hash(client: &Client, topic: &str) -> (u64, u64) {
    let mut hasher = DefaultHasher::new();
    let mut count = 0;
    visit_all(client, topic, |_, record| {
        hasher.write_u64(record.offset.0);
        hasher.write(record.value.unwrap());
        count += 1;
    })
    .await;
    (hasher.finish(), count)
}

fn expected(count: u64) -> (u64, u64) {
    let mut hasher = DefaultHasher::new();
    for number in 0..count {
        hasher.write_u64(number);
        hasher.write(&value(number));
    }
    (hasher.finish(), count)
}

/// Sends record after record, each a round trip to the disk, until the first partition is as wanted.
async fn produce_until(
    client: &Client,
    topic: &str,
    producer: &Producer,
    next: &mut u64,
    wanted: impl Fn(&PartitionStatus) -> bool,
) {
    // Retention is looked at by the clock: how many records that takes depends on the machine.
    let wait = async {
        while !wanted(&client.describe(topic).await.unwrap().partitions[0]) {
            produce(producer, *next..*next + 1).await;
            *next += 1;
        }
    };
    within("the partition as wanted", wait).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settled_records_read_the_same_also_after_a_restart() {
    let site = Site::new("hot_bytes = 1", FAST);
    let server = site.start();
    let client = server.client().await;
    client
        .create_topic("large", 1, TopicSettings::default())
        .await
        .unwrap();
    let producer = client.producer("large").open().await.unwrap();
    // More than three segments.
    let mut next = 3_200;
    produce(&producer, 0..next).await;
    let settled = |p: &PartitionStatus| p.settled_segments > 0;
    produce_until(&client, "large", &producer, &mut next, settled).await;
    let whole = expected(next);
    assert_eq!(hash(&client, "large").await, whole);
    drop((producer, client));
    server.stop();
    let server = site.start();
    let client = server.client().await;
    let status = client.describe("large").await.unwrap();
    assert!(status.partitions[0].settled_segments > 0, "{status:?}");
    assert_eq!(hash(&client, "large").await, whole);
    // In the middle, where settled and hot records meet, from any offset.
    for offset in (0..next).step_by(397) {
        let mut consumer = client.consumer("large").open().await.unwrap();
        consumer.seek(0, Offset(offset)).unwrap();
        let records = within("records", consumer.next_batch()).await.unwrap();
        let first = records.iter().next().unwrap();
        assert_eq!(first.offset, Offset(offset));
        assert!(first.value == Some(&value(offset)), "offset {offset}");
    }
    server.stop();
}

/// A start finds sealed segments that are to be settled before it knows which topics there are. Many
/// partitions that it is told of first make it likely.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_right_behind_a_start_drops_nothing() {
    let site = Site::new("", FAST);
    let server = site.start();
    let client = server.client().await;
    client
        .create_topic("filler", 2_000, TopicSettings::default())
        .await
        .unwrap();
    client
        .create_topic("large", 1, TopicSettings::default())
        .await
        .unwrap();
    let producer = client.producer("large").open().await.unwrap();
    // Two segments that stay hot, and some of a third.
    produce(&producer, 0..2_200).await;
    drop((producer, client));
    server.stop();
    site.set("hot_bytes = 1", FAST);
    for _ in 0..4 {
        let server = site.start();
        let client = server.client().await;
        assert_eq!(hash(&client, "large").await, expected(2_200));
        server.kill();
    }
    let server = site.start();
    let client = server.client().await;
    let producer = client.producer("large").open().await.unwrap();
    let mut next = 2_200;
    let settled = |p: &PartitionStatus| p.settled_segments > 0;
    produce_until(&client, "large", &producer, &mut next, settled).await;
    assert_eq!(hash(&client, "large").await, expected(next));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_by_size_moves_the_start() {
    let site = Site::new("hot_bytes = 1", FAST);
    let server = site.start();
    let client = server.client().await;
    let retention_bytes = Some(16 << 20);
    let settings = TopicSettings {
        retention_bytes,
        ..TopicSettings::default()
    };
    client.create_topic("short", 1, settings).await.unwrap();
    client
        .create_topic("kept", 1, TopicSettings::default())
        .await
        .unwrap();
    let kept = client.producer("kept").open().await.unwrap();
    produce(&kept, 0..100).await;
    let producer = client.producer("short").open().await.unwrap();
    let mut next = 1_500;
    produce(&producer, 0..next).await;
    let moved = |p: &PartitionStatus| p.start > Offset(0);
    produce_until(&client, "short", &producer, &mut next, moved).await;
    let status = client.describe("short").await.unwrap().partitions[0];
    assert!(
        status.bytes >= 16 << 20,
        "less is kept than was asked for: {status:?}"
    );
    let mut first = None;
    visit_all(&client, "short", |_, record| {
        first.get_or_insert((record.offset, record.value == Some(&value(record.offset.0))));
    })
    .await;
    let (offset, as_sent) = first.unwrap();
    assert!(offset >= status.start && as_sent, "{offset} {status:?}");
    // Other topics in the same segments are not touched.
    assert_eq!(hash(&client, "kept").await, expected(100));
    drop((producer, kept, client));
    server.kill();
    let server = site.start();
    let client = server.client().await;
    assert_eq!(hash(&client, "kept").await, expected(100));
    let after = client.describe("short").await.unwrap().partitions[0];
    assert!(after.end.0 == next, "{after:?}");
    server.stop();
}
