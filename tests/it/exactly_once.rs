//! A stateful pipeline under kills gives exactly the output of an unbroken run.

use crate::dice::{Dice, kills};
use crate::reading::{Row, read_all};
use crate::server::{Server, Site, within};
use flowstone_client::{Client, Producer, Record, Ticket, TopicSettings, partition_for_key};
use std::collections::VecDeque;

const RECORDS: u64 = 20_000;
/// The first event time: long ago, so that no clock of this machine comes near it.
const START_MS: i64 = 1_600_000_000_000;
pub(crate) const SINKS: [&str; 4] = ["by-key", "large", "sums.dlq", "sums.late"];

/// Partitions are not to become idle while a broker is down: the clock must not matter.
pub(crate) const PIPELINE: &str = r#"
[[pipeline]]
name = "sums"
source = "readings"
timestamp_field = "at"
out_of_order_ms = 200
idle_ms = 3600000

[[pipeline.stages]]
type = "filter"
name = "some"
field = "n"
op = "ge"
value = 3
sink = "large"

[[pipeline.stages]]
type = "key_by"
field = "sensor"

[[pipeline.stages]]
type = "window"
name = "sum"
field = "n"
size_ms = 1000
sink = "by-key"
"#;

/// One input record.
pub(crate) struct Event {
    partition: u32,
    at_ms: i64,
    value: String,
}

fn event(partition: u32, at_ms: i64, sensor: &str, n: u64) -> Event {
    let value = format!(r#"{{"at":{at_ms},"sensor":"{sensor}","n":{n}}}"#);
    Event {
        partition,
        at_ms,
        value,
    }
}

/// The same input for every run: some of it out of order, some of it no JSON.
///
/// Which records are too late depends on how far the other partitions are, which no log says: there
/// are such records only where there is one partition.
pub(crate) fn input(partitions: u32) -> Vec<Event> {
    let mut dice = Dice::new(3);
    let mut events = Vec::new();
    for n in 0..RECORDS {
        let too_late = partitions == 1 && dice.once_in(97);
        let behind_ms = if too_late { 3_000 } else { dice.below(150) };
        let at_ms = START_MS + n as i64 * 5 - behind_ms as i64;
        let partition = dice.below(u64::from(partitions)) as u32;
        let sensor = format!("s{}", dice.below(7));
        let mut event = event(partition, at_ms, &sensor, dice.below(100));
        if dice.once_in(301) {
            event.value.pop();
        }
        events.push(event);
    }
    events
}

/// Records far ahead in time that close all windows before them, then their own. Returns also the
/// keys of the last outputs: one in every partition of the sink.
pub(crate) fn endings(partitions: u32) -> (Vec<Event>, Vec<String>) {
    let mut keys = vec![String::new(); partitions as usize];
    for n in 0..100 {
        let key = format!("end-{n}");
        let partition = partition_for_key(key.as_bytes(), partitions);
        keys[partition as usize] = key;
    }
    let mut events = Vec::new();
    for (ahead_ms, n) in [(3_600_000, 50), (7_200_000, 60)] {
        for partition in 0..partitions {
            for key in &keys {
                events.push(event(partition, START_MS + ahead_ms, key, n));
            }
        }
    }
    (events, keys)
}

pub(crate) async fn send(producer: &Producer, event: &Event) -> Ticket {
    let record = Record::new(&event.value)
        .partition(event.partition)
        .timestamp(event.at_ms);
    producer.enqueue(record).await.unwrap()
}

/// Sends everything; kills the broker `kills` times meanwhile.
async fn send_all(
    site: &Site,
    client: &Client,
    mut server: Server,
    events: &[Event],
    kills: u64,
) -> Server {
    let builder = client.producer("readings").retry_for_ms(120_000);
    let producer = builder.open().await.unwrap();
    let mut dice = Dice::new(4);
    let every = (events.len() as u64).checked_div(kills).unwrap_or(u64::MAX);
    let mut kill_in = dice.below(every);
    let (mut killed, mut waiting) = (0, VecDeque::new());
    for (n, event) in (0u64..).zip(events) {
        waiting.push_back(send(&producer, event).await);
        if killed < kills && n == killed * every + kill_in {
            // Some are answered, some are on the way, some are not even sent.
            for _ in 0..dice.below(waiting.len() as u64) {
                let ticket = waiting.pop_front().unwrap();
                within("an acknowledgement", ticket.wait()).await.unwrap();
            }
            server.kill();
            server = site.start();
            killed += 1;
            kill_in = dice.below(every);
        }
        while waiting.len() > 200 {
            let ticket = waiting.pop_front().unwrap();
            within("an acknowledgement", ticket.wait()).await.unwrap();
        }
    }
    within("the last acknowledgements", producer.close())
        .await
        .unwrap();
    assert_eq!(killed, kills);
    server
}

/// Reads every partition of the sink up to the last output that there will be.
pub(crate) async fn wait_for_endings(client: &Client, keys: &[String]) {
    for (partition, key) in (0..).zip(keys) {
        let builder = client.consumer("by-key").partitions([partition]);
        let mut consumer = builder.open().await.unwrap();
        let found = async {
            loop {
                let records = consumer.next_batch().await.unwrap();
                if (&records)
                    .into_iter()
                    .any(|r| r.key == Some(key.as_bytes()))
                {
                    return;
                }
            }
        };
        within("the last window", found).await;
    }
}

pub(crate) type Outcome = Vec<(String, Vec<Vec<Row>>)>;

/// A run over the input in a directory of its own.
pub(crate) async fn outcome(events: &[Event], keys: &[String], kills: u64) -> Outcome {
    let site = Site::new("", "");
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let settings = TopicSettings::default();
    client
        .create_topic("readings", keys.len() as u32, settings)
        .await
        .unwrap();
    // Started again with the pipeline: its source exists by now, with its partitions.
    site.set("", PIPELINE);
    server.stop();
    let server = send_all(&site, &client, site.start(), events, kills).await;
    wait_for_endings(&client, keys).await;
    let mut outcome = Outcome::new();
    for sink in SINKS {
        outcome.push((sink.into(), read_all(&client, sink).await));
    }
    server.stop();
    // Nothing more comes out of a restart.
    let server = site.start();
    for (sink, rows) in &outcome {
        assert!(
            read_all(&client, sink).await == *rows,
            "{sink} changed with a restart"
        );
    }
    server.stop();
    outcome
}

/// The values in order, by partition. Dead letters carry when they failed, so times are not compared.
fn values(rows: &[Vec<Row>]) -> Vec<Vec<&Vec<u8>>> {
    rows.iter()
        .map(|rows| rows.iter().map(|r| r.value.as_ref().unwrap()).collect())
        .collect()
}

#[track_caller]
pub(crate) fn same(unbroken: &Outcome, killed: &Outcome) {
    for ((sink, expected), (_, given)) in unbroken.iter().zip(killed) {
        let (expected, given) = (values(expected), values(given));
        let count: usize = expected.iter().map(Vec::len).sum();
        let may_be_empty = sink == "sums.late" && expected.len() > 1;
        assert!(
            count > 0 || may_be_empty,
            "{sink} is empty: nothing was compared"
        );
        for (partition, (expected, given)) in expected.iter().zip(&given).enumerate() {
            let first = expected.iter().zip(given).position(|(e, g)| e != g);
            let shown =
                |v: &Vec<&Vec<u8>>| first.map(|at| String::from_utf8_lossy(v[at]).into_owned());
            assert_eq!(
                shown(given),
                shown(expected),
                "{sink} {partition} record {first:?}"
            );
            assert_eq!(
                given.len(),
                expected.len(),
                "{sink} {partition}: number of records"
            );
        }
    }
}

async fn killed_equals_unbroken(partitions: u32) {
    let (mut events, (endings, keys)) = (input(partitions), endings(partitions));
    events.extend(endings);
    let unbroken = outcome(&events, &keys, 0).await;
    let killed = outcome(&events, &keys, kills(25)).await;
    same(&unbroken, &killed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_one_partition_under_kill_9_equal_an_unbroken_run() {
    killed_equals_unbroken(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_across_partitions_under_kill_9_equal_an_unbroken_run() {
    killed_equals_unbroken(3).await;
}
