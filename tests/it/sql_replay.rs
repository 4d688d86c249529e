//! Pipelines of SQL that are done again beside themselves, and whose results then take the place of the first.

use crate::child::{Finished, run, run_ok};
use crate::dice::kills;
use crate::reading::read_all;
use crate::server::Site;
use crate::sql::{deploy, send_all, wait_for};
use crate::sql_spread;
use crate::tier_site::until;
use flowstone_client::{Client, Record};
use std::collections::BTreeMap;

const SQL: &str = "
CREATE STREAM moves (who VARCHAR);
CREATE PIPELINE counts AS SELECT who, count(*) AS c FROM moves GROUP BY who EMIT CHANGES;
";
const T0: i64 = 1_700_000_000_000;

fn pipeline(url: &str, args: &[&str]) -> Finished {
    let all = [&["pipeline"], args, &["--url", url]].concat();
    run(&all, b"")
}

#[track_caller]
fn refused(url: &str, args: &[&str], why: &str) {
    let ran = pipeline(url, args);
    assert_eq!(ran.code, Some(1), "{args:?}");
    assert!(ran.err.contains(why), "{args:?}: {}", ran.err);
}

async fn send(client: &Client, count: i64, first_ms: i64) {
    let producer = client.producer("moves").open().await.unwrap();
    for n in 0..count {
        let record = Record::new(r#"{"who": "a"}"#).timestamp(first_ms + n);
        producer.send(record).await.unwrap();
    }
}

/// The last count of a topic; those before it depend on how many records were taken together.
async fn count(client: &Client, topic: &str) -> String {
    let all = read_all(client, topic).await.into_iter().flatten();
    let last = all.last().unwrap().value.unwrap();
    String::from_utf8(last).unwrap()
}

fn counted(c: usize) -> String {
    format!("{{\"who\":\"a\",\"c\":{c}}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_again_takes_the_place_of_the_first() {
    let site = Site::new("", "");
    let server = site.start();
    let url = server.url();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    deploy(&site, &url, SQL);
    refused(&url, &["switch", "counts"], "is not being done again");
    refused(&url, &["replay", "other"], "no pipeline 'other'");
    for first_ms in [T0, T0 + 1_000] {
        send(&client, 5, first_ms).await;
    }
    wait_for(&client, "counts", r#""c":10"#).await;

    let ran = pipeline(&url, &["replay", "counts", "--from", "@1700000001000"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    // What it has done is shown when it is durable.
    wait_for(&client, "counts", r#""c":5"#).await;
    assert_eq!(count(&client, "counts").await, counted(5));
    assert_eq!(count(&client, "counts.before").await, counted(10));
    assert!(client.describe("counts.replay").await.is_err());
    let listed = pipeline(&url, &["list", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["name"], "counts");

    send(&client, 1, T0 + 2_000).await;
    wait_for(&client, "counts", r#""c":6"#).await;
    server.kill();
    let server = site.start();
    let url = server.url();
    let client = Client::connect(&site.unix_url()).await.unwrap();
    send(&client, 1, T0 + 2_001).await;
    wait_for(&client, "counts", r#""c":7"#).await;
    assert_eq!(count(&client, "counts").await, counted(7));

    refused(&url, &["replay", "counts"], "delete 'counts.before'");
    for topic in ["counts.before", "counts.before.dlq", "counts.before.late"] {
        client.delete_topic(topic).await.unwrap();
    }
    deploy(
        &site,
        &url,
        "CREATE STREAM counts (c BIGINT); CREATE PIPELINE large AS SELECT c FROM counts WHERE c > 5;",
    );
    refused(&url, &["replay", "counts"], "pipeline 'large' reads what");
    pipeline(&url, &["delete", "large"]);
    let ran = pipeline(&url, &["replay", "counts", "--no-switch"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    refused(&url, &["replay", "counts"], "is being done again");
    wait_for(&client, "counts.replay", r#""c":12"#).await;
    run_ok(&["pipeline", "switch", "counts", "--url", &url], b"");
    assert_eq!(count(&client, "counts").await, counted(12));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_in_two_parts_under_kill_9_gives_each_window_once() {
    let (site, server, client) = {
        let site = Site::new("", sql_spread::SETTINGS);
        let (server, client) = sql_spread::begin(&site).await;
        (site, server, client)
    };
    let mut records = sql_spread::records();
    let rest = records.split_off(records.len() / 2);
    let server = send_all(&site, &client, server, records, 0).await;
    let ran = pipeline(&server.url(), &["replay", "attempts", "--no-switch"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let server = send_all(&site, &client, server, rest, kills(6)).await;
    let url = server.url();
    until("the replay is as far", async || {
        pipeline(&url, &["switch", "attempts"]).code == Some(0)
    })
    .await;
    let expected = sql_spread::counted();
    until("all windows are closed", async || {
        sql_spread::results(&client).await.len() >= expected.len()
    })
    .await;
    let found = sql_spread::results(&client).await;
    assert_eq!(found.len(), expected.len(), "each window once");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    let listed = pipeline(&url, &["list", "--json"]).json();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["attempts", "attempts.by"]);
    server.stop();
}
