//! Real data through pipelines of SQL in the real broker, which is killed halfway, against plain counting.

use crate::child::run_ok;
use crate::doors::data;
use crate::reading::read_all;
use crate::server::Site;
use crate::sql::{deploy, values, wait_for};
use flowstone_client::Client;
use flowstone_processor::rfc3339::parse_ms;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const SQL: &str = "
CREATE STREAM ssh (ts TIMESTAMP, ip VARCHAR, message VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE STREAM temps (ts TIMESTAMP, station VARCHAR, temp_f DOUBLE, WATERMARK FOR ts AS ts);

CREATE PIPELINE attackers WITH (idle_ms = 3600000) AS
  SELECT ip, window_start, count(*) AS failures FROM TUMBLE(ssh, ts, INTERVAL '1' MINUTE)
  WHERE message LIKE 'Failed password%' GROUP BY ip, window_start, window_end HAVING count(*) >= 5;
CREATE PIPELINE means WITH (idle_ms = 3600000) AS
  SELECT station, window_start, avg(temp_f) AS mean, count(*) AS hours
  FROM HOP(temps, ts, INTERVAL '1' HOUR, INTERVAL '3' HOUR) GROUP BY station, window_start, window_end;
";

/// The lines of a file as JSON.
fn rows(bytes: &[u8]) -> Vec<Value> {
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn ms(row: &Value, member: &str) -> i64 {
    parse_ms(row[member].as_str().unwrap()).unwrap()
}

/// Failures for each address and minute, where there are five or more.
fn failures(rows: &[Value]) -> BTreeMap<(String, i64), i64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let message = row["message"].as_str().unwrap();
        if message.starts_with("Failed password") {
            let minute = ms(row, "ts") / 60_000 * 60_000;
            let ip = row["ip"].as_str().unwrap().to_string();
            *counts.entry((ip, minute)).or_default() += 1;
        }
    }
    counts.retain(|_, failures| *failures >= 5);
    counts
}

/// Start of each three hours that begin with an hour -> how many of them were measured, and their mean in millionths.
fn means(rows: &[Value]) -> BTreeMap<i64, (usize, i64)> {
    const HOUR_MS: i64 = 3_600_000;
    let temp = |r: &Value| (ms(r, "ts") / HOUR_MS, r["temp_f"].as_f64().unwrap());
    let hours: BTreeMap<i64, f64> = rows.iter().map(temp).collect();
    let starts: BTreeSet<i64> = hours.keys().flat_map(|h| h - 2..=*h).collect();
    let mean = |start: i64| {
        let here: Vec<f64> = hours.range(start..start + 3).map(|(_, t)| *t).collect();
        let mean = here.iter().sum::<f64>() / here.len() as f64;
        (start * HOUR_MS, (here.len(), (mean * 1e6).round() as i64))
    };
    starts.into_iter().map(mean).collect()
}

/// Sends the first half of a file, or the second with a line behind it that closes all windows.
fn send(url: &str, topic: &str, bytes: &[u8], second: Option<&str>) {
    let middle = bytes.len() / 2;
    let cut = middle + bytes[middle..].iter().position(|b| *b == b'\n').unwrap() + 1;
    let part = match second {
        None => bytes[..cut].to_vec(),
        Some(last) => [&bytes[cut..], b"\n", last.as_bytes()].concat(),
    };
    let lines: Vec<&[u8]> = part
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .collect();
    run_ok(&["produce", topic, "--url", url], &lines.join(&b'\n'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_and_temperatures_are_counted_as_by_hand() {
    let (Some((_, ssh)), Some((_, temps))) = (data("ssh.jsonl"), data("seattle-temps.jsonl"))
    else {
        return;
    };
    let site = Site::new("", "");
    let server = site.start();
    deploy(&site, &server.url(), SQL);
    send(&server.url(), "ssh", &ssh, None);
    send(&server.url(), "temps", &temps, None);
    server.kill();
    let server = site.start();
    let far = r#"{"ts": "2030-01-01T00:00:00Z", "message": "Failed password", "station": "x", "temp_f": 0}"#;
    send(&server.url(), "ssh", &ssh, Some(far));
    send(&server.url(), "temps", &temps, Some(far));

    let client = Client::connect(&site.unix_url()).await.unwrap();
    wait_for(&client, "attackers", "2015-12-10T11:04").await;
    wait_for(&client, "means", "2010-12-31T23:00").await;
    let found = |values: Vec<String>| -> Vec<Value> {
        values
            .iter()
            .map(|v| serde_json::from_str(v).unwrap())
            .collect()
    };
    let attackers = found(values(&read_all(&client, "attackers").await[0]));
    let counted: BTreeMap<(String, i64), i64> = attackers
        .iter()
        .map(|r| {
            (
                (r["ip"].as_str().unwrap().into(), ms(r, "window_start")),
                r["failures"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(counted, failures(&rows(&ssh)));
    assert_eq!((attackers.len(), counted.len()), (27, 27), "each once");

    let results = found(values(&read_all(&client, "means").await[0]));
    let averaged: BTreeMap<i64, (usize, i64)> = results
        .iter()
        .map(|r| {
            let mean = (r["mean"].as_f64().unwrap() * 1e6).round() as i64;
            (
                ms(r, "window_start"),
                (r["hours"].as_u64().unwrap() as usize, mean),
            )
        })
        .collect();
    assert_eq!(averaged, means(&rows(&temps)));
    assert_eq!((results.len(), averaged.len()), (8_762, 8_762), "each once");
    for beside in ["attackers.late", "attackers.dlq", "means.late", "means.dlq"] {
        assert_eq!(
            values(&read_all(&client, beside).await[0]),
            [""; 0],
            "{beside}"
        );
    }
    server.stop();
}
