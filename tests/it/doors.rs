//! Real logs in through one door and out through all of them, byte for byte.

use crate::child::run_ok;
use crate::http::Http;
use crate::server::{Server, Site, within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A file of real data, with its path; `None` where it is not on this machine.
pub(crate) fn data(name: &str) -> Option<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some((path, bytes)),
        Err(e) => {
            eprintln!("skipped: {} cannot be read ({e})", path.display());
            None
        }
    }
}

/// What `consume` prints for the lines of a file: each with a line feed, also the last.
fn as_lines(bytes: &[u8]) -> Vec<u8> {
    let mut lines = bytes.to_vec();
    if lines.last() != Some(&b'\n') {
        lines.push(b'\n');
    }
    lines
}

/// Every value of a partition, read over HTTP page by page.
async fn values_over_http(http: Http, topic: &str, partition: u32) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    loop {
        let offset = values.len();
        let path = format!("/api/v1/events/{topic}?partition={partition}&offset={offset}&max=1000");
        let page = http.get(&path).await.expect(200).json();
        let rows = page.as_array().unwrap();
        if rows.is_empty() {
            return values;
        }
        for (n, row) in rows.iter().enumerate() {
            assert_eq!(row["offset"], offset + n);
            values.push(row["value"].as_str().unwrap().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_logs_come_back_byte_for_byte_from_the_command_line_and_http() {
    let site = Site::new("", "");
    let server = site.start();
    let (url, http) = (server.url(), Http(server.http()));
    for name in ["ssh.jsonl", "seattle-temps.jsonl", "openssh.log"] {
        let Some((path, bytes)) = data(name) else {
            return;
        };
        let lines = as_lines(&bytes);
        run_ok(&["topic", "create", name, "--url", &url], b"");
        let args = [
            "produce",
            name,
            path.to_str().unwrap(),
            "--url",
            &url,
            "--json",
        ];
        let summary = run_ok(&args, b"").json();
        let count = lines.iter().filter(|b| **b == b'\n').count();
        assert_eq!(summary["records"], count, "{name}");
        let consumed = run_ok(&["consume", name, "--url", &url], b"");
        assert!(consumed.out == lines, "{name} came back changed");
        let values = values_over_http(http, name, 0).await;
        let given: String = values.iter().map(|v| format!("{v}\n")).collect();
        assert!(
            given.as_bytes() == lines,
            "{name} came back changed over HTTP"
        );
    }
    server.stop();
    // The same after a restart.
    let server = site.start();
    for name in ["ssh.jsonl", "seattle-temps.jsonl", "openssh.log"] {
        let Some((_, bytes)) = data(name) else { return };
        let consumed = run_ok(&["consume", name, "--url", &server.url()], b"");
        assert!(
            consumed.out == as_lines(&bytes),
            "{name} came back changed after a restart"
        );
    }
    server.stop();
}

async fn post_lines(http: Http, topic: &str, body: &[u8]) -> Value {
    let kind = [("content-type", "application/x-ndjson")];
    let path = format!("/api/v1/events/{topic}");
    http.send("POST", &path, &kind, body)
        .await
        .expect(201)
        .json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_posted_over_http_come_back_byte_for_byte() {
    let site = Site::new("", "");
    let server = site.start();
    let (url, http) = (server.url(), Http(server.http()));
    for name in ["ssh.jsonl", "seattle-temps.jsonl"] {
        let Some((_, bytes)) = data(name) else { return };
        http.json("POST", "/api/v1/topics", &json!({ "name": name }))
            .await
            .expect(201);
        let count = bytes.iter().filter(|b| **b == b'\n').count();
        let stored = post_lines(http, name, &bytes).await;
        assert_eq!(
            (&stored["count"], &stored["offset"]),
            (&json!(count), &json!(0))
        );
        assert_eq!(stored["id"], format!("{name}/0/0"));
        let path = format!("/api/v1/events/{name}?max=10000");
        let accept = [("accept", "application/x-ndjson")];
        let page = http.send("GET", &path, &accept, b"").await.expect(200);
        assert_eq!(page.header("content-type"), Some("application/x-ndjson"));
        let values = page.text().lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["value"].as_str().unwrap().to_string() + "\n"
        });
        assert!(
            values.collect::<String>().as_bytes() == bytes,
            "{name} came back changed"
        );
        let consumed = run_ok(&["consume", name, "--url", &url], b"");
        assert!(
            consumed.out == bytes,
            "{name} came back changed from the command line"
        );
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_choose_partitions_the_same_way_at_every_door() {
    let site = Site::new("", "");
    let server = site.start();
    let (url, http) = (server.url(), Http(server.http()));
    let Some((path, bytes)) = data("ssh.jsonl") else {
        return;
    };
    run_ok(
        &[
            "topic",
            "create",
            "by-host",
            "--partitions",
            "4",
            "--url",
            &url,
        ],
        b"",
    );
    let path = path.to_str().unwrap();
    run_ok(
        &[
            "produce",
            "by-host",
            path,
            "--key-field",
            "kind",
            "--url",
            &url,
        ],
        b"",
    );
    let printed = run_ok(
        &[
            "consume",
            "by-host",
            "--format",
            "%p %k %v\\n",
            "--url",
            &url,
        ],
        b"",
    );
    let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in printed.text().lines() {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap();
        let (partition, key, value) = (part(), part(), part());
        assert_eq!(
            *homes.entry(key).or_insert(partition),
            partition,
            "{key} has two homes"
        );
        by_key.entry(key).or_default().push(value);
    }
    let used: std::collections::BTreeSet<_> = homes.values().collect();
    assert!(used.len() > 1, "all keys went to one partition");
    // The records of each key have kept their order.
    let mut expected: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in std::str::from_utf8(&bytes).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        expected
            .entry(row["kind"].as_str().unwrap().into())
            .or_default()
            .push(line);
    }
    assert_eq!(by_key.len(), expected.len());
    for (key, values) in expected {
        assert!(
            by_key[key.as_str()] == values,
            "the records of {key} are out of order"
        );
    }
    for (key, home) in homes {
        let path = format!("/api/v1/events/by-host?key={key}");
        let stored = http.post(&path, b"one more").await.expect(201).json();
        assert_eq!(stored["partition"].to_string(), home, "{key}");
    }
    server.stop();
}

fn temps(server: &Server) -> Option<Vec<u8>> {
    let (_, bytes) = data("seattle-temps.jsonl")?;
    run_ok(&["topic", "create", "temps", "--url", &server.url()], b"");
    Some(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_finds_its_place_by_time() {
    use flowstone_client::{ReadFrom, Record};
    let site = Site::new("", "");
    let server = site.start();
    let Some(bytes) = temps(&server) else { return };
    let client = server.client().await;
    let producer = client
        .producer("temps")
        .batch_bytes(2_000)
        .open()
        .await
        .unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&bytes).unwrap().lines().collect();
    for (hour, line) in (0i64..).zip(&lines) {
        let record = Record::new(*line).timestamp(1_262_304_000_000 + hour * 3_600_000);
        let _ticket = producer.enqueue(record).await.unwrap();
    }
    producer.close().await.unwrap();
    // Half an hour before the record of hour 5000; what is found begins at a batch or nearer.
    let time_ms = 1_262_304_000_000 + 5_000 * 3_600_000 - 1_800_000;
    let from = ReadFrom::Time(time_ms);
    let mut consumer = client.consumer("temps").from(from).open().await.unwrap();
    let records = within("records", consumer.next_batch()).await.unwrap();
    let first = records.iter().next().unwrap();
    assert_eq!(first.offset.0, 5_000, "at {}", first.timestamp);
    assert_eq!(first.value, Some(lines[5_000].as_bytes()));
    let from = format!("@{time_ms}");
    let args = [
        "consume",
        "temps",
        "--from",
        &from,
        "--max",
        "2",
        "--url",
        &server.url(),
    ];
    let printed = run_ok(&args, b"");
    assert_eq!(
        printed.text(),
        format!("{}\n{}\n", lines[5_000], lines[5_001])
    );
    let args = [
        "consume",
        "temps",
        "--from",
        "@2010-07-28T07:30:00Z",
        "--max",
        "1",
    ];
    let printed = run_ok(&[&args[..], &["--url", &server.url()]].concat(), b"");
    assert_eq!(printed.text(), format!("{}\n", lines[5_000]));
    let path = format!("/api/v1/events/temps?offset=@{time_ms}&max=1");
    let page = Http(server.http()).get(&path).await.expect(200).json();
    assert_eq!(page[0]["offset"], 5_000, "{page}");
    server.stop();
}
