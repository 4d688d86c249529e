//! Two nodes with data and a witness: the loss of either box is survived, a shard that runs on one copy says
//! so, and that ends by itself.

use crate::cluster_site::ClusterSite;
use crate::reading::read_all;
use crate::server::within;
use flowstone_client::{Client, Record, TopicSettings};
use flowstone_wire::NodeId;
use serde_json::json;

const TOPIC: &str = "pair";
const WITNESS: NodeId = NodeId(3);

async fn produce(client: &Client, numbers: std::ops::Range<u64>) {
    let builder = client.producer(TOPIC).retry_for_ms(60_000);
    let producer = within("a producer", builder.open()).await.unwrap();
    for n in numbers {
        let ticket = producer.enqueue(Record::new(n.to_string())).await.unwrap();
        within("an acknowledgement", ticket.wait()).await.unwrap();
    }
    producer.close().await.unwrap();
}

async fn has_all(client: &Client, count: u64) {
    let rows = within("all records", read_all(client, TOPIC)).await;
    let values: Vec<_> = rows[0].iter().map(|r| r.value.clone().unwrap()).collect();
    let expected: Vec<_> = (0..count).map(|n| n.to_string().into_bytes()).collect();
    assert!(values == expected, "{} of {count} records", values.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_with_a_witness_survives_the_loss_of_either_box() {
    let mut cluster = ClusterSite::start(2, 2, "", "").await;
    cluster.add(true, "", "").await;
    let votes =
        |s: &flowstone_wire::native::ClusterStatus| s.nodes.iter().filter(|n| n.votes).count();
    cluster.until("three vote", |s| votes(s) == 3).await;
    let client = cluster.client().await;
    client
        .create_topic(TOPIC, 1, TopicSettings::default())
        .await
        .unwrap();
    produce(&client, 0..10).await;
    let mut count = 10;
    for lost in [NodeId(1), NodeId(2)] {
        cluster.kill(lost);
        produce(&client, count..count + 10).await;
        count += 10;
        cluster
            .until("it says that it runs on one copy", |s| {
                s.shards[0].members.len() == 1 && s.shards[0].alone_since_ms.is_some()
            })
            .await;
        cluster.start_again(lost);
        cluster
            .until("it has two copies again", |s| {
                s.shards[0].members.len() == 2 && s.shards[0].alone_since_ms.is_none()
            })
            .await;
        cluster.well().await;
    }
    let status = client.cluster().await.unwrap();
    assert!(!status.shards[0].members.contains(&WITNESS), "{status:?}");
    for node in cluster.all() {
        has_all(&cluster.client_of(node).await, count).await;
    }
    for node in cluster.all() {
        let events = format!("/api/v1/events/{TOPIC}?partition=0");
        let answer = cluster.http(node).post(&events, b"over HTTP").await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let http = cluster.http(WITNESS);
    let read = format!("/api/v1/events/{TOPIC}?partition=0&offset={count}&max=9");
    let rows = http.get(&read).await.json();
    let values: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["value"].clone())
        .collect();
    assert_eq!(values, vec![json!("over HTTP"); 3], "any node passes on");
}
