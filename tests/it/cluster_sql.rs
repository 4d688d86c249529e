//! Pipelines of SQL in a cluster: deployed, paused and resumed by way of any node, they run where their shard
//! is led, and give what they give on one node.

use crate::cluster_site::ClusterSite;
use crate::reading::{Row, read_all};
use crate::server::within;
use crate::sql::{SINKS, SQL, inputs, same, unbroken, wait_for};
use flowstone_client::{Client, Record};
use flowstone_wire::NodeId;
use flowstone_wire::native::{ClusterStatus, PipelineAction, TopicSettings};

fn leads(status: &ClusterStatus, node: NodeId) -> bool {
    status.shards[0].is_active && status.shards[0].leader == node
}

/// A node that is up and does not lead.
fn another(status: &ClusterStatus) -> NodeId {
    let leader = status.shards[0].leader;
    NodeId(leader.0 % 3 + 1)
}

async fn kill_leader(cluster: &mut ClusterSite) {
    let leader = cluster.status().await.shards[0].leader;
    cluster.kill(leader);
    cluster
        .until("another one leads", |s| {
            s.shards[0].is_active && !leads(s, leader)
        })
        .await;
    cluster.start_again(leader);
    cluster.well().await;
}

/// One of the two pipelines rests while the leader dies, and is woken by way of another node.
async fn pause_over_a_failover(cluster: &mut ClusterSite) {
    let other = another(&cluster.status().await);
    let client = cluster.client_of(other).await;
    let control = async |client: &Client, action| {
        client.control_pipeline("attempts", action).await.unwrap();
    };
    control(&client, PipelineAction::Pause).await;
    kill_leader(cluster).await;
    let other = another(&cluster.status().await);
    let client = cluster.client_of(other).await;
    let described = client.describe_pipelines(Some("attempts")).await.unwrap();
    assert_eq!(described[0].state, "paused");
    control(&client, PipelineAction::Resume).await;
}

async fn in_cluster() -> Vec<Vec<Row>> {
    let mut cluster = ClusterSite::start(3, 3, "", "").await;
    let client = cluster.client().await;
    let settings = TopicSettings::default();
    client.create_topic("logins", 1, settings).await.unwrap();
    let other = another(&cluster.status().await);
    let deployed = cluster.client_of(other).await;
    deployed.deploy_pipelines(SQL, false).await.unwrap();
    let builder = client.producer("logins").retry_for_ms(120_000);
    let producer = builder.open().await.unwrap();
    let inputs = inputs();
    let mut waiting = Vec::new();
    for (n, line) in inputs.iter().enumerate() {
        waiting.push(producer.enqueue(Record::new(line)).await.unwrap());
        match n {
            1_500 | 4_500 => kill_leader(&mut cluster).await,
            3_000 => pause_over_a_failover(&mut cluster).await,
            _ => {}
        }
        if waiting.len() > 300 {
            for ticket in waiting.drain(..200) {
                within("an acknowledgement", ticket.wait()).await.unwrap();
            }
        }
    }
    within("the last acknowledgements", producer.close())
        .await
        .unwrap();
    wait_for(&client, "busy", r#""ip":"end""#).await;
    let mut outcome = Vec::new();
    for sink in SINKS {
        outcome.push(read_all(&client, sink).await.remove(0));
    }
    deleted_everywhere(&mut cluster, &client).await;
    outcome
}

/// What is deleted by way of one node does not go on at the next leader.
async fn deleted_everywhere(cluster: &mut ClusterSite, client: &Client) {
    let before = read_all(client, "busy").await.remove(0).len();
    let other = cluster.client_of(another(&cluster.status().await)).await;
    for name in ["busy", "attempts"] {
        let deleted = other.control_pipeline(name, PipelineAction::Delete);
        deleted.await.unwrap();
    }
    kill_leader(cluster).await;
    let producer = client.producer("logins").open().await.unwrap();
    for line in inputs() {
        let _ = producer.enqueue(Record::new(&line)).await.unwrap();
    }
    within("acknowledgements", producer.close()).await.unwrap();
    assert_eq!(client.pipelines().await.unwrap(), []);
    assert_eq!(read_all(client, "busy").await.remove(0).len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_goes_on_where_the_leader_is() {
    let clustered = in_cluster().await;
    same(&unbroken().await, &clustered);
}
