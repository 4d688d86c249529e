//! Pipelines of SQL that put together rows of several shards: in two parts with an exchange between them,
//! killed again and again, they give what a plain count gives.

use crate::child::{run, run_ok};
use crate::dice::{Dice, kills};
use crate::reading::read_all;
use crate::server::{Server, Site};
use crate::sql::{deploy, send_all};
use crate::tier_site::until;
use flowstone_client::{Client, Record, TopicSettings};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const START_MS: i64 = 1_600_000_000_000;
const WINDOW_MS: i64 = 10_000;
const PARTITIONS: u32 = 6;
pub(crate) const SETTINGS: &str = "[node]\nshards = 4\nworkers = 2";

const SQL: &str = "
CREATE STREAM logins (ts TIMESTAMP, ip VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
CREATE PIPELINE attempts WITH (idle_ms = 3600000) AS
  SELECT ip, window_start, count(*) AS attempts
  FROM TUMBLE(logins, ts, INTERVAL '10' SECOND) GROUP BY ip, window_start, window_end;
";

/// Rows with the partition of each; time goes on alike in all of them.
fn inputs() -> Vec<(u32, i64, String)> {
    let mut dice = Dice::new(5);
    let mut all = Vec::new();
    for n in 0..5_000_i64 {
        let ts = START_MS + n * 20 - dice.below(900) as i64;
        let partition = dice.below(u64::from(PARTITIONS)) as u32;
        all.push((partition, ts, format!("10.0.0.{}", dice.below(30))));
    }
    for partition in 0..PARTITIONS {
        all.push((partition, START_MS + 1_000_000, "end".into()));
    }
    all
}

pub(crate) fn counted() -> BTreeMap<(String, i64), i64> {
    let mut counts = BTreeMap::new();
    for (_, ts, ip) in inputs().into_iter().filter(|(_, _, ip)| ip != "end") {
        *counts
            .entry((ip, ts.div_euclid(WINDOW_MS) * WINDOW_MS))
            .or_default() += 1;
    }
    counts
}

/// What came out, each window as often as it did.
pub(crate) async fn results(client: &Client) -> Vec<((String, i64), i64)> {
    let all = read_all(client, "attempts").await;
    let row = |value: Vec<u8>| {
        let row: Value = serde_json::from_slice(&value).unwrap();
        let start = row["window_start"].as_str().unwrap();
        let start = flowstone_processor::rfc3339::parse_ms(start).unwrap();
        let ip = row["ip"].as_str().unwrap().to_string();
        ((ip, start), row["attempts"].as_i64().unwrap())
    };
    all.into_iter()
        .flatten()
        .map(|r| row(r.value.unwrap()))
        .collect()
}

/// Waits until all windows are closed; none came out twice, and each as counted.
async fn each_window_once(client: &Client, expected: &BTreeMap<(String, i64), i64>) {
    until("all windows are closed", async || {
        results(client).await.len() >= expected.len()
    })
    .await;
    let found = results(client).await;
    assert_eq!(found.len(), expected.len(), "each window once");
    assert_eq!(&found.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

/// The inputs as records of their partitions.
pub(crate) fn records() -> Vec<Record<'static>> {
    let record = |(partition, ts, ip): (u32, i64, String)| {
        Record::new(json!({"ts": ts, "ip": ip}).to_string()).partition(partition)
    };
    inputs().into_iter().map(record).collect()
}

pub(crate) async fn begin(site: &Site) -> (Server, Client) {
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let settings = TopicSettings::default();
    client
        .create_topic("logins", PARTITIONS, settings)
        .await
        .unwrap();
    deploy(site, &server.url(), SQL);
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_over_shards_under_kill_9_equal_a_plain_count() {
    let site = Site::new("", SETTINGS);
    let (server, client) = begin(&site).await;
    let server = send_all(&site, &client, server, records(), kills(12)).await;
    let expected = counted();
    each_window_once(&client, &expected).await;
    for topic in ["attempts.late", "attempts.dlq"] {
        let left = read_all(&client, topic).await;
        assert!(left.iter().all(Vec::is_empty), "{topic}: {left:?}");
    }
    let shards = client.describe("attempts").await.unwrap().partitions;
    let busy = shards.iter().filter(|p| p.committed.0 > 0).count();
    assert!(busy > 1, "one shard did all of it");
    server.stop();
}

/// What the parts say that they have done, all shards together.
async fn numbers_are_right(client: &Client, url: &str) {
    let all = client.pipelines().await.unwrap();
    let of = |name: &str| all.iter().find(|p| p.name == name).unwrap();
    let (front, back) = (of("attempts.by"), of("attempts"));
    let rows = |p: &flowstone_client::PipelineStatus, kind: &str| -> u64 {
        let of_kind = p.operators.iter().filter(|o| o.name.ends_with(kind));
        of_kind.map(|o| o.rows_in).sum()
    };
    let sent = inputs().len() as u64;
    assert_eq!((front.processed, rows(front, " stream")), (sent, sent));
    assert_eq!(
        (rows(front, " exchange"), rows(back, " group")),
        (sent, sent)
    );
    assert_eq!(rows(back, " sink"), counted().len() as u64);
    assert_eq!(back.watermark_ms, Some(START_MS + 1_000_000 - 1_000));
    assert!(back.state_bytes > 0, "the last windows are open");
    let described = run_ok(&["pipeline", "describe", "attempts", "--url", url], b"");
    let described = described.text();
    assert!(described.contains("ROWS OUT"), "{described}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parts_rest_and_go_together() {
    let site = Site::new("", SETTINGS);
    let (server, client) = begin(&site).await;
    let url = server.url();
    let described = run_ok(&["pipeline", "describe", "attempts", "--url", &url], b"");
    let described = described.text();
    assert!(described.contains("exchange: by ip"), "{described}");
    let states = || {
        let listed = run_ok(&["pipeline", "list", "--json", "--url", &url], b"").json();
        let one = |p: &Value| format!("{} {}", p["name"], p["state"]).replace('"', "");
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(one)
            .collect::<Vec<_>>()
    };
    assert_eq!(states(), ["attempts running", "attempts.by running"]);
    let part = run(&["pipeline", "pause", "attempts.by", "--url", &url], b"");
    assert_eq!(part.code, Some(1), "a part does not rest by itself");
    run_ok(&["pipeline", "pause", "attempts", "--url", &url], b"");
    assert_eq!(states(), ["attempts paused", "attempts.by paused"]);
    run_ok(&["pipeline", "resume", "attempts", "--url", &url], b"");
    let server = send_all(&site, &client, server, records(), 0).await;
    let expected = counted().len();
    until("all windows are closed", async || {
        results(&client).await.len() >= expected
    })
    .await;
    numbers_are_right(&client, &server.url()).await;
    run_ok(&["pipeline", "delete", "attempts", "--url", &url], b"");
    assert_eq!(states(), [""; 0]);
    assert!(client.describe("attempts.by").await.is_err(), "its rows go");
    // It can be deployed again, and begins anew.
    deploy(&site, &url, SQL);
    until("all windows are closed again", async || {
        results(&client).await.len() >= 2 * expected
    })
    .await;
    server.stop();
}

/// A table lies beside the stream on all shards; what is found in it is put together across them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_looked_up_on_each_shard_is_grouped_over_all_under_kill_9() {
    const LOOKED_UP: &str = "
        CREATE TABLE hosts (ip VARCHAR, net VARCHAR, PRIMARY KEY (ip));
        CREATE STREAM logins (ts TIMESTAMP, ip VARCHAR FROM KEY, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
        CREATE PIPELINE attempts WITH (idle_ms = 3600000) AS
          SELECT net AS ip, window_start, count(*) AS attempts FROM TUMBLE(
            (SELECT ts, net FROM logins JOIN hosts ON logins.ip = hosts.ip), ts, INTERVAL '10' SECOND)
          GROUP BY net, window_start, window_end;";
    let site = Site::new("", SETTINGS);
    let server = site.start();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let settings = TopicSettings::default();
    let made = client.create_topic("logins", PARTITIONS, settings).await;
    made.unwrap();
    deploy(&site, &server.url(), LOOKED_UP);
    let net = |ip: &str| format!("net {}", ip.bytes().last().unwrap() % 3);
    let hosts = client.producer("hosts").open().await.unwrap();
    for n in 0..30 {
        let ip = format!("10.0.0.{n}");
        let row = Record::new(json!({"net": net(&ip)}).to_string()).key(ip);
        hosts.send(row).await.unwrap();
    }
    hosts.close().await.unwrap();
    let record = |(partition, ts, ip): (u32, i64, String)| {
        let record = Record::new(json!({"ts": ts}).to_string()).key(ip.clone());
        if ip == "end" {
            record.partition(partition)
        } else {
            record
        }
    };
    let records = inputs().into_iter().map(record).collect();
    let server = send_all(&site, &client, server, records, kills(8)).await;
    let mut expected: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for ((ip, start), count) in counted() {
        *expected.entry((net(&ip), start)).or_default() += count;
    }
    each_window_once(&client, &expected).await;
    let described = run_ok(
        &["pipeline", "describe", "attempts", "--url", &server.url()],
        b"",
    );
    assert!(
        described.text().contains("exchange: by net"),
        "{}",
        described.text()
    );
    server.stop();
}
