//! What a pipeline gives out for partitions of other shards is there once and in order, under kills.

use crate::dice::{Dice, kills};
use crate::reading::visit_all;
use crate::server::{Server, Site, within};
use flowstone_client::{Client, Record, TopicSettings, partition_for_key};
use std::collections::{BTreeMap, BTreeSet};

const RECORDS: u64 = 20_000;
const PARTITIONS: u32 = 3;
const SETTINGS: &str = "[node]\nworkers = 2\nshards = 3\n";
/// The new key decides the partition, so two thirds of the records go to another shard; what has
/// arrived there is an input again.
const PIPELINES: &str = r#"
[[pipeline]]
name = "sort"
source = "readings"

[[pipeline.stages]]
type = "key_by"
field = "sensor"
sink = "by-sensor"

[[pipeline]]
name = "copy"
source = "by-sensor"

[[pipeline.stages]]
type = "filter"
field = "n"
op = "ge"
value = 0
sink = "copied"
"#;

/// Sends everything and kills the broker meanwhile.
async fn send_all(site: &Site, client: &Client, mut server: Server, kills: u64) -> Server {
    let builder = client.producer("readings").retry_for_ms(120_000);
    let producer = builder.open().await.unwrap();
    let mut dice = Dice::new(8);
    let mut kill_at = dice.below(RECORDS / kills);
    let (mut tickets, mut killed) = (Vec::new(), 0);
    for n in 0..RECORDS {
        let partition = dice.below(u64::from(PARTITIONS)) as u32;
        let sensor = dice.below(17);
        let value = format!(r#"{{"n":{n},"from":{partition},"sensor":"s{sensor}"}}"#);
        let record = Record::new(&value).partition(partition);
        tickets.push(producer.enqueue(record).await.unwrap());
        if n == kill_at {
            for ticket in tickets.drain(..dice.below(tickets.len() as u64) as usize) {
                within("an acknowledgement", ticket.wait()).await.unwrap();
            }
            server.kill();
            killed += 1;
            server = site.start();
            kill_at += 1 + dice.below(2 * RECORDS / kills);
        }
    }
    for ticket in tickets {
        within("the last acknowledgements", ticket.wait())
            .await
            .unwrap();
    }
    assert!(killed > kills / 2, "{killed} kills");
    server
}

async fn wait_for(client: &Client, topic: &str, count: u64) {
    let mut consumer = client.consumer(topic).open().await.unwrap();
    let mut seen = 0;
    while seen < count {
        let next = within("all outputs", consumer.next_batch()).await;
        seen += next.unwrap().len() as u64;
    }
}

/// Checks the topic's records. Returns its values by partition.
async fn check(client: &Client, topic: &str) -> Vec<Vec<Vec<u8>>> {
    let mut values = vec![Vec::new(); PARTITIONS as usize];
    let mut seen = vec![0u32; RECORDS as usize];
    let mut last: BTreeMap<(u64, Vec<u8>), u64> = BTreeMap::new();
    visit_all(client, topic, |partition, record| {
        let (key, value) = (record.key.unwrap(), record.value.unwrap());
        assert_eq!(partition, partition_for_key(key, PARTITIONS));
        let event: serde_json::Value = serde_json::from_slice(value).unwrap();
        let (n, from) = (
            event["n"].as_u64().unwrap(),
            event["from"].as_u64().unwrap(),
        );
        seen[n as usize] += 1;
        let before = last.insert((from, key.to_vec()), n);
        assert!(before < Some(n), "{topic}: {before:?} before {n} of {from}");
        values[partition as usize].push(value.to_vec());
    })
    .await;
    for (n, times) in seen.iter().enumerate() {
        assert_eq!(*times, 1, "{topic}: record {n}");
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_for_other_shards_are_there_once_and_in_order_under_kill_9() {
    let site = Site::new("", SETTINGS);
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let settings = TopicSettings::default();
    let topic = client.create_topic("readings", PARTITIONS, settings);
    let topic = topic.await.unwrap();
    let shards: BTreeSet<u16> = topic.partitions.iter().map(|p| p.shard.0).collect();
    assert_eq!(
        shards.len(),
        3,
        "every partition has a shard of its own: {shards:?}"
    );
    server.stop();
    site.set("", &format!("{SETTINGS}{PIPELINES}"));
    let server = send_all(&site, &client, site.start(), kills(25)).await;
    wait_for(&client, "by-sensor", RECORDS).await;
    wait_for(&client, "copied", RECORDS).await;
    let sorted = check(&client, "by-sensor").await;
    assert_eq!(check(&client, "copied").await, sorted);
    server.stop();
    // Nothing more comes out of a restart.
    let server = site.start();
    assert_eq!(check(&client, "by-sensor").await, sorted);
    let pipelines = client.pipelines().await.unwrap();
    let sort = pipelines.iter().find(|p| p.name == "sort").unwrap();
    assert_eq!((sort.outbound_bytes, sort.lag), (0, 0));
    server.stop();
}
