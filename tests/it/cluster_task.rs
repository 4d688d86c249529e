//! A stateful pipeline whose leader is killed again and again gives exactly the output of an unbroken run on
//! one node: tasks go on where the leader is, from the state that came there with the log.

use crate::cluster_site::ClusterSite;
use crate::exactly_once::{self, Event, Outcome, PIPELINE, SINKS};
use crate::reading::read_all;
use crate::server::within;
use flowstone_client::TopicSettings;
use std::collections::VecDeque;

/// How often a leader is killed: `FLOWSTONE_FAILOVERS`, or 5.
fn failovers() -> usize {
    std::env::var("FLOWSTONE_FAILOVERS").map_or(5, |s| s.parse().unwrap())
}

/// Three nodes with the pipeline, and its source.
async fn cluster_with_pipeline() -> ClusterSite {
    let mut cluster = ClusterSite::start(3, 3, "", "").await;
    let client = cluster.client().await;
    let settings = TopicSettings::default();
    client.create_topic("readings", 1, settings).await.unwrap();
    for node in cluster.all() {
        cluster.stop(node);
        cluster.set(node, "", PIPELINE);
        cluster.start_again(node);
        cluster.well().await;
    }
    cluster
}

async fn leader_dies(cluster: &mut ClusterSite) {
    let leader = cluster.status().await.shards[0].leader;
    cluster.kill(leader);
    cluster
        .until("another one leads", |s| {
            s.shards[0].is_active && s.shards[0].leader != leader
        })
        .await;
    cluster.start_again(leader);
    cluster.well().await;
}

async fn in_cluster(events: &[Event], keys: &[String]) -> Outcome {
    let mut cluster = cluster_with_pipeline().await;
    let client = cluster.client().await;
    let builder = client.producer("readings").retry_for_ms(120_000);
    let producer = builder.open().await.unwrap();
    let every = events.len() / (failovers() + 1);
    let mut waiting = VecDeque::new();
    for (n, event) in events.iter().enumerate() {
        waiting.push_back(exactly_once::send(&producer, event).await);
        if n > 0 && n % every == 0 {
            leader_dies(&mut cluster).await;
        }
        while waiting.len() > 200 {
            let ticket = waiting.pop_front().unwrap();
            within("an acknowledgement", ticket.wait()).await.unwrap();
        }
    }
    within("the last acknowledgements", producer.close())
        .await
        .unwrap();
    exactly_once::wait_for_endings(&client, keys).await;
    let mut outcome = Outcome::new();
    for sink in SINKS {
        outcome.push((sink.into(), read_all(&client, sink).await));
    }
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_go_on_where_the_leader_is() {
    let (mut events, (endings, keys)) = (exactly_once::input(1), exactly_once::endings(1));
    events.extend(endings);
    let unbroken = exactly_once::outcome(&events, &keys, 0).await;
    let clustered = in_cluster(&events, &keys).await;
    exactly_once::same(&unbroken, &clustered);
}
