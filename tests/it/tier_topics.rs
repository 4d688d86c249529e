//! Topics of every kind in the tier: compacted, on several shards, kept here for a time, deleted just
//! before the end of the process.

use crate::reading::{Row, read_all};
use crate::server::{Server, Site, within};
use crate::tier_faults::Mode;
use crate::tier_server::Manners;
use crate::tier_site::{
    Bucket, FIRST_MS, LOG, bucket_is_whole, command_json, delete, files_below, local_segments,
    nothing_is_gone, produce, reads_whole, until, until_copied, until_remote, value,
};
use flowstone_client::{Client, Offset, Record, TopicSettings};
use flowstone_storage::layout;
use flowstone_wire::{PartitionId, ShardId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Records that fill a segment of the log and begin the next.
const FIRST: u64 = 1_100;
const KEYS: u64 = 50;

fn start(site: &Site) -> Server {
    tokio::task::block_in_place(|| site.start())
}

fn nothing_stays_here() -> TopicSettings {
    TopicSettings {
        local_retention_bytes: Some(0),
        ..TopicSettings::default()
    }
}

/// Restores the bucket into a new directory beside the old one, and gives the place for a broker there.
async fn restored(site: &Site, bucket: &Bucket) -> Site {
    let dir = site.file("restored");
    let data = dir.to_str().unwrap();
    let args = ["restore", "--data", data, "--config", "CONFIG", "--json"];
    command_json(site, &args).await;
    Site::with_data(LOG, &bucket.settings(""), &dir)
}

/// Of each key the newest value, as long as it may be for a comparison.
fn newest(rows: &[Row]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let pair = |row: &Row| {
        let value = row.value.as_ref().unwrap();
        (row.key.clone().unwrap(), value[..8].to_vec())
    };
    rows.iter().map(pair).collect()
}

fn expected(count: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let pair = |n: u64| {
        (
            (n % KEYS).to_string().into_bytes(),
            n.to_le_bytes().to_vec(),
        )
    };
    (0..count).map(pair).collect()
}

/// Of a compacted topic every file stays here, and the bucket has what compaction made of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_stays_here_and_its_copies_are_replaced() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let server = start(&site);
    let client = server.client().await;
    let settings = TopicSettings {
        compact: true,
        ..nothing_stays_here()
    };
    client.create_topic("t", 1, settings).await.unwrap();
    let id = client.topic("t").await.unwrap().partitions[0].id;
    let producer = client.producer("t").open().await.unwrap();
    for number in 0..FIRST {
        let record = Record::new(value(number)).key((number % KEYS).to_string());
        let _ticket = within("room", producer.enqueue(record)).await.unwrap();
    }
    within("acknowledgements", producer.flush()).await.unwrap();
    until("the bucket has what is left of the segment", async || {
        let manifest = bucket.manifest(id).await;
        let [entry] = manifest.entries() else {
            return false;
        };
        entry.id.generation > 0 && entry.records <= KEYS && manifest.garbage().is_empty()
    })
    .await;
    assert_eq!(bucket.segments().len(), 1, "the first copy is gone");
    assert_eq!(local_segments(site.data()).len(), 1, "the file stays");
    let status = client.tier().await.unwrap().unwrap();
    assert_eq!(status.remote_bytes, 0, "{status:?}");
    assert_eq!(newest(&read_all(&client, "t").await[0]), expected(FIRST));
    let uploaded = bucket.manifest(id).await.next_offset().0;
    drop((producer, client));
    server.stop();
    assert_eq!(bucket_is_whole(&site, &bucket).await, 0);

    let other = restored(&site, &bucket).await;
    let server = start(&other);
    let client = server.client().await;
    assert_eq!(newest(&read_all(&client, "t").await[0]), expected(uploaded));
    server.stop();
}

/// Segments of several shards, which work side by side and come back to where they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_shards_share_a_tier() {
    const SHARDS: u32 = 3;
    let bucket = Bucket::start(Manners::Honest).await;
    let rest = format!("[node]\nshards = {SHARDS}\n{}", bucket.settings(""));
    let site = Site::new(LOG, &rest);
    let server = start(&site);
    let client = server.client().await;
    let made = client.create_topic("t", SHARDS, nothing_stays_here());
    made.await.unwrap();
    let partitions = client.topic("t").await.unwrap().partitions;
    let mut shards: Vec<_> = partitions.iter().map(|p| p.shard).collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1, 2].map(ShardId));
    let producer = client.producer("t").open().await.unwrap();
    for partition in 0..SHARDS {
        produce(&producer, partition, 0..FIRST).await;
    }
    until_copied(&client, "t", SHARDS).await;
    until_remote(&client).await;
    until("the files go", async || {
        local_segments(site.data()).is_empty()
    })
    .await;
    reads_whole(&client, "t", &[FIRST; SHARDS as usize]).await;
    drop((producer, client));
    server.kill();
    assert!(nothing_is_gone(site.data(), &bucket).await >= SHARDS as usize);
    let server = start(&site);
    reads_whole(&server.client().await, "t", &[FIRST; SHARDS as usize]).await;
    server.stop();
    bucket_is_whole(&site, &bucket).await;

    let other = restored(&site, &bucket).await;
    let server = start(&other);
    let client = server.client().await;
    let mut counts = Vec::new();
    for p in &partitions {
        counts.push(bucket.manifest(p.id).await.next_offset().0);
    }
    assert!(counts.iter().all(|n| *n > FIRST / 2), "{counts:?}");
    reads_whole(&client, "t", &counts).await;
    assert_eq!(client.topic("t").await.unwrap().partitions, partitions);
    server.stop();
}

/// Files of a partition that are here.
fn files_of(data: &Path, partition: PartitionId) -> Vec<String> {
    let dir: PathBuf = layout::settled_dir(&layout::shard_dir(ShardId(0)), partition);
    files_below(&data.join(dir))
}

/// The times of the records are in the past: one topic keeps them here for a second, one for ages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_from_here_only() {
    const EACH: u64 = 600;
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let server = start(&site);
    let client = server.client().await;
    let mut ids = Vec::new();
    for (name, ms) in [("goes", 1_000), ("stays", 1 << 50)] {
        let settings = TopicSettings {
            local_retention_ms: Some(ms),
            ..TopicSettings::default()
        };
        client.create_topic(name, 1, settings).await.unwrap();
        ids.push(client.topic(name).await.unwrap().partitions[0].id);
        let producer = client.producer(name).open().await.unwrap();
        produce(&producer, 0, 0..EACH).await;
    }
    until_copied(&client, "stays", 1).await;
    until("the files of one topic go", async || {
        files_of(site.data(), ids[0]).is_empty()
    })
    .await;
    assert_eq!(files_of(site.data(), ids[1]).len(), 1);
    for (name, id) in ["goes", "stays"].into_iter().zip(&ids) {
        reads_whole(&client, name, &[EACH]).await;
        let status = client.describe(name).await.unwrap().partitions[0];
        assert_eq!(status.start, Offset(0), "{name}: nothing has expired");
        assert_eq!(bucket.manifest(*id).await.entries().len(), 1, "{name}");
    }
    let found = client.offset_of("goes", 0, flowstone_client::Place::Time(FIRST_MS + 5));
    assert_eq!(found.await.unwrap(), Offset(5));
    server.stop();
    nothing_is_gone(site.data(), &bucket).await;
    assert_eq!(bucket_is_whole(&site, &bucket).await, 0);
}

async fn filled(site: &Site) -> (Server, Client, PartitionId) {
    let server = start(site);
    let client = server.client().await;
    let made = client.create_topic("t", 1, nothing_stays_here());
    made.await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    produce(&producer, 0, 0..FIRST).await;
    until_copied(&client, "t", 1).await;
    let id = client.topic("t").await.unwrap().partitions[0].id;
    (server, client, id)
}

/// The process ends after the topic is deleted and before anything of it was removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_just_before_a_kill_leaves_the_bucket() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let (server, client, id) = filled(&site).await;
    bucket.faults.set(Mode::Hangs);
    delete(&server, "t").await;
    drop(client);
    server.kill();
    assert_eq!(bucket.segments().len(), 1, "nothing was removed yet");
    bucket.faults.set(Mode::Good);
    let server = start(&site);
    until("its objects are gone", async || {
        bucket.segments().is_empty()
    })
    .await;
    until("and its entries", async || {
        let manifest = bucket.manifest(id).await;
        manifest.entries().is_empty() && manifest.garbage().is_empty()
    })
    .await;
    assert_eq!(bucket.manifest(id).await.next_offset(), Offset(u64::MAX));
    assert!(server.client().await.topic("t").await.is_err());
    server.stop();
    assert_eq!(bucket_is_whole(&site, &bucket).await, 0);
}
