//! A tier of several nodes: the leader uploads, followers let go of their files for it, the next leader goes
//! on where the last one was, and one node is made of the bucket alone.

use crate::cluster_site::ClusterSite;
use crate::server::{Site, within};
use crate::tier_server::Manners;
use crate::tier_site::{
    Bucket, LOG, bucket_is_whole, command_json, local_segments, produce, reads_whole, until,
};
use flowstone_client::{Client, TopicSettings};
use flowstone_wire::{NodeId, PartitionId};
use std::collections::BTreeSet;

/// Records that fill a segment of the log and begin the next.
const SEGMENT: u64 = 1_100;

fn settings() -> TopicSettings {
    TopicSettings {
        local_retention_bytes: Some(0),
        ..TopicSettings::default()
    }
}

async fn create(client: &Client, name: &str) -> PartitionId {
    let created = client.create_topic(name, 1, settings()).await.unwrap();
    created.partitions[0].id
}

/// Waits until no node has a settled file, and the bucket has everything up to an offset.
async fn until_remote(
    cluster: &ClusterSite,
    nodes: &[NodeId],
    bucket: &Bucket,
    id: PartitionId,
    end: u64,
) {
    until("the bucket has it", async || {
        bucket.manifest(id).await.next_offset().0 >= end
    })
    .await;
    for node in nodes {
        until("local files go", async || {
            local_segments(cluster.site(*node).data()).is_empty()
        })
        .await;
    }
}

/// Who leads the only shard.
async fn leader(cluster: &ClusterSite) -> NodeId {
    let is_led = |s: &flowstone_wire::native::ClusterStatus| s.shards[0].is_active;
    cluster.until("somebody leads", is_led).await;
    cluster.status().await.shards[0].leader
}

/// Kills the leader while records come. Returns it, and who leads then.
async fn kill_leader(
    cluster: &mut ClusterSite,
    client: &Client,
    numbers: std::ops::Range<u64>,
) -> (NodeId, NodeId) {
    let old = leader(cluster).await;
    let producer = client.producer("t").open().await.unwrap();
    let half = numbers.start + (numbers.end - numbers.start) / 2;
    produce(&producer, 0, numbers.start..half).await;
    cluster.kill(old);
    produce(&producer, 0, half..numbers.end).await;
    within("the producer", producer.close()).await.unwrap();
    let another = |s: &flowstone_wire::native::ClusterStatus| s.shards[0].leader != old;
    cluster.until("another one leads", another).await;
    (old, leader(cluster).await)
}

/// Who uploaded what the bucket has, by the epochs of the tier.
async fn uploaders(bucket: &Bucket, id: PartitionId) -> BTreeSet<u32> {
    let manifest = bucket.manifest(id).await;
    manifest.entries().iter().map(|e| e.id.epoch.0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_leader_uploaded_the_next_ones_go_on_with() {
    let bucket = Bucket::start(Manners::Honest).await;
    let mut cluster = ClusterSite::start(3, 3, LOG, &bucket.settings("")).await;
    let client = cluster.client().await;
    let id = create(&client, "t").await;
    let producer = client.producer("t").open().await.unwrap();
    produce(&producer, 0, 0..2 * SEGMENT).await;
    within("the producer", producer.close()).await.unwrap();
    let all: Vec<NodeId> = cluster.all().collect();
    until_remote(&cluster, &all, &bucket, id, 2 * 900).await;
    reads_whole(&client, "t", &[2 * SEGMENT]).await;

    let (_, second) = kill_leader(&mut cluster, &client, 2 * SEGMENT..4 * SEGMENT).await;
    let running: Vec<NodeId> = all.iter().copied().filter(|n| cluster.runs(*n)).collect();
    until_remote(&cluster, &running, &bucket, id, 4 * 900).await;
    reads_whole(&cluster.client_of(second).await, "t", &[4 * SEGMENT]).await;
    // Two, or more where leadership moved in between.
    assert!(uploaders(&bucket, id).await.len() >= 2);

    // The first one comes back, far behind; then one that never led leads, or the first one again.
    let first = all.iter().copied().find(|n| !cluster.runs(*n)).unwrap();
    cluster.start_again(first);
    cluster.well().await;
    let client = cluster.client().await;
    // Meanwhile another one than the second may lead.
    let (killed, third) = kill_leader(&mut cluster, &client, 4 * SEGMENT..5 * SEGMENT).await;
    assert_ne!(third, killed);
    cluster.start_again(killed);
    cluster.well().await;
    let client = cluster.client().await;
    until_remote(&cluster, &all, &bucket, id, 5 * 900).await;
    reads_whole(&client, "t", &[5 * SEGMENT]).await;
    a_topic_goes(&client, &bucket, id).await;
    let end = bucket.manifest(id).await.next_offset().0;
    cluster.kill_all();
    bucket_is_whole(cluster.site(NodeId(1)), &bucket).await;
    one_node_is_made_of_it(cluster.site(NodeId(1)), &bucket, end).await;
}

/// What a topic has in the bucket goes with it, whoever uploaded it.
async fn a_topic_goes(client: &Client, bucket: &Bucket, kept: PartitionId) {
    let gone = create(client, "gone").await;
    let producer = client.producer("gone").open().await.unwrap();
    produce(&producer, 0, 0..SEGMENT).await;
    until("the bucket has some of it", async || {
        bucket.manifest(gone).await.next_offset().0 > 0
    })
    .await;
    client.delete_topic("gone").await.unwrap();
    until("its objects go", async || {
        let named = bucket.manifest(kept).await.entries().len();
        bucket.segments().len() == named
    })
    .await;
    let tier = bucket.tier().await;
    until("the bucket's catalog does not have it", async || {
        let found = tier.latest_document("catalog").await.unwrap();
        found.is_some_and(|d| !d.bytes.windows(12).any(|w| w == b"topic.2/gone"))
    })
    .await;
}

async fn one_node_is_made_of_it(site: &Site, bucket: &Bucket, end: u64) {
    let dir = site.file("restored");
    let data = dir.to_str().unwrap();
    let args = ["restore", "--data", data, "--config", "CONFIG", "--json"];
    let said = command_json(site, &args).await;
    assert_eq!(said["topics"], 1);
    let site = Site::with_data(LOG, &bucket.settings(""), &dir);
    let server = tokio::task::block_in_place(|| site.start());
    let client = server.client().await;
    reads_whole(&client, "t", &[end]).await;
    let producer = client.producer("t").open().await.unwrap();
    produce(&producer, 0, end..end + 10).await;
    reads_whole(&client, "t", &[end + 10]).await;
    drop((producer, client));
    server.stop();
}
