//! A node that comes when the log has begun to go: it gets the state and the settled segments, then the
//! rest, and can take over; the node that had everything leaves.

use crate::cluster_site::ClusterSite;
use crate::reading::visit_all;
use crate::server::within;
use crate::tier_site::until;
use flowstone_client::{Client, Record, TopicSettings};
use flowstone_wire::NodeId;
use flowstone_wire::native::{ClusterChange, ClusterStatus};

const TOPIC: &str = "late";
/// Three of the smallest segments.
const BYTES: u64 = 200 << 20;
const VALUE_BYTES: usize = 64 << 10;
const COUNT: u64 = BYTES / VALUE_BYTES as u64;
/// What is sealed is settled at once.
const LOG: &str = "hot_bytes = 1";

fn value(number: u64) -> Vec<u8> {
    // No codec makes it small: each eight bytes differ.
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..VALUE_BYTES / 8).flat_map(|_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    });
    words.collect()
}

async fn produce(client: &Client, numbers: std::ops::Range<u64>) {
    let producer = client.producer(TOPIC).open().await.unwrap();
    for n in numbers {
        drop(producer.enqueue(Record::new(value(n))).await.unwrap());
    }
    within("all records", producer.close()).await.unwrap();
}

/// Waits until the log no longer begins at its beginning.
async fn until_settled(client: &Client) {
    let asked = async || {
        let status = client.describe(TOPIC).await.unwrap();
        status.partitions[0].settled_segments > 0
    };
    until("settled segments", asked).await;
}

/// The node that founded the cluster, and was its only voter, is removed and ends.
async fn first_leaves(cluster: &mut ClusterSite) {
    let votes = |s: &ClusterStatus| -> Vec<NodeId> {
        let voters = s.nodes.iter().filter(|n| n.votes);
        voters.map(|n| n.node).collect()
    };
    cluster
        .until("the vote has moved", |s| {
            votes(s) == [NodeId(2)] && s.leader == Some(NodeId(2))
        })
        .await;
    let client = cluster.client_of(NodeId(2)).await;
    let remove = ClusterChange::Remove { node: NodeId(1) };
    client.change_cluster(remove).await.unwrap();
    cluster.stop(NodeId(1));
    let settings = TopicSettings::default();
    client.create_topic("later", 1, settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_late_gets_a_snapshot_and_takes_over() {
    let mut cluster =
        ClusterSite::start(1, 1, LOG, "[settle]\nrate_bytes_per_s = 1073741824").await;
    let client = cluster.client().await;
    client
        .create_topic(TOPIC, 1, TopicSettings::default())
        .await
        .unwrap();
    produce(&client, 0..COUNT).await;
    until_settled(&client).await;
    cluster.add(false, LOG, "").await;
    let change = ClusterChange::SetCopies {
        group: None,
        copies: Some(2),
    };
    client.change_cluster(change).await.unwrap();
    cluster
        .until("two copies", |s| s.shards[0].members.len() == 2)
        .await;
    cluster.well().await;
    produce(&client, COUNT..COUNT + 10).await;
    let one = ClusterChange::SetCopies {
        group: None,
        copies: Some(1),
    };
    client.change_cluster(one).await.unwrap();
    client
        .change_cluster(ClusterChange::Drain { node: NodeId(1) })
        .await
        .unwrap();
    cluster
        .until("the new node has it alone", |s| {
            let members = &s.shards[0].members;
            s.shards[0].is_active && members[..] == [NodeId(2)]
        })
        .await;
    first_leaves(&mut cluster).await;
    let mut next = 0;
    let client = cluster.client_of(NodeId(2)).await;
    visit_all(&client, TOPIC, |_, record| {
        assert_eq!(record.offset.0, next);
        assert!(record.value == Some(&value(next)[..]), "record {next}");
        next += 1;
    })
    .await;
    assert_eq!(next, COUNT + 10);
}
