//! Queries of SQL against the real binary: on the command line and over HTTP, bounded and live.

use crate::child::{Finished, run, run_ok};
use crate::cluster_site::ClusterSite;
use crate::http::Http;
use crate::server::{Server, Site, within};
use flowstone_client::{Client, Record};
use flowstone_wire::NodeId;
use flowstone_wire::native::TopicSettings;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Real log lines; `None` where they are not on this machine.
fn ssh_lines() -> Option<Vec<u8>> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let path = dir.join("ssh.jsonl");
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(e) => {
            eprintln!("skipped: {} cannot be read ({e})", path.display());
            None
        }
    }
}

fn sql(server: &Server, args: &[&str]) -> Finished {
    let url = server.url();
    run(&[&["sql", "--url", &url], args].concat(), b"")
}

/// The rows of a query that must succeed.
#[track_caller]
fn rows(server: &Server, text: &str) -> Vec<Value> {
    let finished = sql(server, &["--output", "json", text]);
    assert_eq!(finished.code, Some(0), "{text}: {}", finished.err);
    let lines = finished.text().lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn produce(server: &Server, topic: &str, partitions: &str, lines: &[u8]) {
    let url = server.url();
    run_ok(
        &[
            "topic",
            "create",
            topic,
            "--partitions",
            partitions,
            "--url",
            &url,
        ],
        b"",
    );
    run_ok(&["produce", topic, "--url", &url], lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_logs_are_inferred_and_counted_as_by_hand() {
    let Some(bytes) = ssh_lines() else { return };
    let site = Site::new("", "[node]\nworkers = 2\nshards = 2\n");
    let server = site.start();
    produce(&server, "ssh", "3", &bytes);
    let inferred = sql(&server, &["INFER SCHEMA FOR ssh"]);
    let statement = inferred.text();
    for part in [
        "-- The last 1000 records were looked at.",
        "CREATE STREAM ssh (",
        "  ts TIMESTAMP,\n  host VARCHAR,\n  pid BIGINT,\n  kind VARCHAR,\n  ip VARCHAR,\n  \"user\" VARCHAR,",
        "WITH (topic = 'ssh', format = 'json');",
    ] {
        assert!(statement.contains(part), "{part}\n{statement}");
    }

    let mut plain: BTreeMap<String, u64> = BTreeMap::new();
    for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let line: Value = serde_json::from_slice(line).unwrap();
        if let Some(ip) = line["ip"].as_str() {
            *plain.entry(ip.into()).or_default() += 1;
        }
    }
    let mut expected: Vec<(String, u64)> = plain.into_iter().collect();
    expected.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    let expected: Vec<Value> = expected[..5]
        .iter()
        .map(|(ip, n)| json!({"ip": ip, "n": n}))
        .collect();
    let query = "SELECT ip, count(*) AS n FROM ssh WHERE ip IS NOT NULL GROUP BY ip ORDER BY n DESC, ip LIMIT 5";
    let file = site.file("query.sql");
    std::fs::write(&file, format!("{statement}\n{query};\n")).unwrap();
    let finished = sql(
        &server,
        &["--output", "json", "--file", file.to_str().unwrap()],
    );
    let found: Vec<Value> = finished
        .text()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(found, expected, "{}", finished.err);
    let table = sql(&server, &["--file", file.to_str().unwrap()]);
    let first = expected[0]["ip"].as_str().unwrap();
    assert!(table.text().starts_with("ip"), "{}", table.text());
    assert!(
        table.text().lines().nth(1).unwrap().starts_with(first),
        "{}",
        table.text()
    );
    assert!(
        table.err.contains("(5 rows of 2000 records read)"),
        "{}",
        table.err
    );
    let csv = sql(
        &server,
        &["--output", "csv", "--file", file.to_str().unwrap()],
    );
    assert!(
        csv.text().starts_with(&format!("ip,n\n{first},")),
        "{}",
        csv.text()
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_refused_with_its_place_and_a_code() {
    let site = Site::new("", "");
    let server = site.start();
    produce(&server, "t", "1", b"one\n");
    let refused = sql(&server, &["SELECT value\nFROM t WHERE missing = 1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("line 2, column 14"), "{}", refused.err);
    assert_eq!(sql(&server, &["INFER SCHEMA FOR gone"]).code, Some(4));
    assert_eq!(run(&["sql"], b"").code, Some(2));
    let http = Http(server.http());
    let body = json!({"sql": "SELECT 1 AS a ORDER BY a EMIT CHANGES"});
    let answer = http.json("POST", "/api/v1/sql", &body).await;
    answer.is_problem(400, "invalid-request");
    assert!(
        answer.text().contains("line 1, column 24"),
        "{}",
        answer.text()
    );
    let bytes = json!({"sql": "SELECT 1 AS a"}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("accept", "image/png"),
    ];
    let answer = http
        .send("POST", "/api/v1/sql", &headers, bytes.as_bytes())
        .await;
    answer.is_problem(406, "invalid-request");
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ];
    let bytes = json!({"sql": "SELECT value FROM t EMIT CHANGES"}).to_string();
    let answer = http
        .send("POST", "/api/v1/sql", &headers, bytes.as_bytes())
        .await;
    answer.is_problem(400, "invalid-request");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_deployed_pipelines_are_known_and_restrictions_read_less() {
    let site = Site::new("", "");
    let server = site.start();
    let lines: String = (0..5_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    produce(&server, "numbers", "1", lines.as_bytes());
    let file = site.file("pipeline.sql");
    let text =
        "CREATE STREAM counted (n BIGINT, place BIGINT FROM OFFSET) WITH (topic = 'numbers');
                CREATE PIPELINE big AS SELECT n FROM counted WHERE n > 4990;";
    std::fs::write(&file, text).unwrap();
    run_ok(
        &[
            "pipeline",
            "deploy",
            file.to_str().unwrap(),
            "--url",
            &server.url(),
        ],
        b"",
    );
    let sum = rows(&server, "SELECT sum(n) AS total FROM counted");
    assert_eq!(sum, [json!({"total": 4999 * 5000 / 2})]);
    let read = sql(
        &server,
        &["SELECT n FROM counted WHERE place >= 4990 ORDER BY n LIMIT 1"],
    );
    assert_eq!(read.text(), "n\n4990\n");
    assert!(
        read.err.contains("(1 row of 10 records read)"),
        "{}",
        read.err
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_while_records_come_sees_a_part_of_them_that_was_whole() {
    let site = Site::new("", "");
    let server = site.start();
    produce(&server, "t", "1", b"first\n");
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let producing = tokio::spawn(async move {
        let mut count = 1_u64;
        while !*stopped.borrow_and_update() {
            producer.send(Record::new("more")).await.unwrap();
            count += 1;
        }
        count
    });
    let mut last = 0;
    for _ in 0..5 {
        let text = "SELECT count(*) AS n, max(\"offset\") AS last, count(DISTINCT \"offset\") AS places FROM t";
        let mut query = client.query(text, false).await.unwrap();
        let mut lines = Vec::new();
        while let Some(some) = within("rows", query.next()).await.unwrap() {
            lines.extend_from_slice(&some);
        }
        let row: Value = serde_json::from_slice(&lines).unwrap();
        let n = row["n"].as_u64().unwrap();
        assert_eq!((&row["places"], &row["last"]), (&json!(n), &json!(n - 1)));
        assert!(n >= last, "{n} records after {last}");
        last = n;
    }
    stop.send(true).unwrap();
    let count = within("the producer", producing).await.unwrap();
    assert_eq!(
        rows(&server, "SELECT count(*) AS n FROM t"),
        [json!({"n": count})]
    );
    server.stop();
}

/// The head of an answer, its lines as they come, and its trailers.
struct Streamed {
    head: String,
    read: BufReader<TcpStream>,
}

impl Streamed {
    async fn ask(server: &Server, accept: &str, body: &Value) -> Self {
        let mut stream = TcpStream::connect(server.http()).await.unwrap();
        let body = body.to_string();
        let request = format!(
            "POST /api/v1/sql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             accept: {accept}\r\nte: trailers\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            within("the head", read.read_line(&mut head)).await.unwrap();
        }
        Self { head, read }
    }

    /// The next chunk; empty at the end.
    async fn chunk(&mut self) -> Vec<u8> {
        let mut size = String::new();
        within("a chunk", self.read.read_line(&mut size))
            .await
            .unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.read.read_exact(&mut chunk).await.unwrap();
        if size > 0 {
            self.read.read_line(&mut String::new()).await.unwrap();
        }
        chunk
    }

    /// The whole body, and the trailer with the statistics.
    async fn rest(mut self) -> (Vec<u8>, Value) {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        let mut trailer = String::new();
        self.read.read_line(&mut trailer).await.unwrap();
        let (name, value) = trailer.split_once(": ").unwrap();
        assert_eq!(name, "flowstone-statistics");
        (body, serde_json::from_str(value.trim()).unwrap())
    }

    /// Reads until this text has come.
    async fn until(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = self.chunk().await;
            assert!(!chunk.is_empty(), "the answer ended: {seen}");
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_over_http_has_every_row_and_says_what_it_took() {
    let site = Site::new("", "");
    let server = site.start();
    produce(&server, "t", "2", b"{\"a\": 1}\n{\"a\": 2}\n{broken\n");
    let body = json!({"sql": "CREATE STREAM t (a BIGINT); SELECT a FROM t ORDER BY a"});
    let expected = json!([{"a": 1}, {"a": 2}]);
    for (accept, kind) in [
        ("*/*", "application/json"),
        (
            "text/html;q=0.9, application/x-ndjson",
            "application/x-ndjson",
        ),
        ("text/event-stream", "text/event-stream"),
        (
            "application/vnd.apache.arrow.stream",
            "application/vnd.apache.arrow.stream",
        ),
    ] {
        let answer = Streamed::ask(&server, accept, &body).await;
        let head = answer.head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(
            head.contains(&format!("content-type: {kind}\r\n")),
            "{head}"
        );
        let (bytes, statistics) = answer.rest().await;
        assert_eq!(
            (&statistics["rows"], &statistics["unreadable"]),
            (&json!(2), &json!(1))
        );
        let text = String::from_utf8_lossy(&bytes);
        match kind {
            "application/json" => {
                assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected)
            }
            "application/x-ndjson" => assert_eq!(text, "{\"a\":1}\n{\"a\":2}\n"),
            "text/event-stream" => {
                assert!(
                    text.starts_with("data: {\"a\":1}\n\ndata: {\"a\":2}\n\nevent: end\ndata: {"),
                    "{text}"
                );
            }
            // The message that begins a stream, and the marker that ends it.
            _ => assert!(
                bytes.starts_with(&[0xff; 4])
                    && bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])
            ),
        }
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_queries_see_what_comes_and_end_with_who_asked() {
    let site = Site::new("", "[query]\nconcurrent = 1\n");
    let server = site.start();
    produce(&server, "t", "1", b"before\n");
    let body = json!({"sql": "SELECT upper(value) AS loud FROM t EMIT CHANGES", "from": "start"});
    let mut answer = Streamed::ask(&server, "text/event-stream", &body).await;
    answer.until("data: {\"loud\":\"BEFORE\"}\n\n").await;
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    producer.send(Record::new("after")).await.unwrap();
    answer.until("data: {\"loud\":\"AFTER\"}\n\n").await;

    // It takes the one place; once its reader has gone the place is free.
    let other = client.query("SELECT 1 AS one", false).await.unwrap_err();
    assert_eq!(
        other.code(),
        Some(flowstone_client::ErrorCode::Busy),
        "{other}"
    );
    drop(answer);
    let freed = async {
        while let Err(e) = client.query("SELECT 1 AS one", false).await {
            assert_eq!(e.code(), Some(flowstone_client::ErrorCode::Busy), "{e}");
            tokio::task::yield_now().await;
        }
    };
    within("the place of who has gone", freed).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_query_follows_is_stopped_and_does_not_hold_up_the_end() {
    let site = Site::new("", "[query]\nconcurrent = 2\n");
    let server = site.start();
    produce(&server, "t", "1", b"before\n");
    let client = Client::connect(&site.unix_url()).await.unwrap();
    let live = "SELECT value FROM t EMIT CHANGES";
    let mut first = client.query(live, false).await.unwrap();
    let second = client.query(live, false).await.unwrap();
    assert!(
        client.query(live, false).await.is_err(),
        "there are two places"
    );
    second.stop().await.unwrap();
    let third = async {
        loop {
            if let Ok(query) = client.query(live, true).await {
                return query;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut third = within("a free place", third).await;
    let producer = client.producer("t").open().await.unwrap();
    producer.send(Record::new("after")).await.unwrap();
    let mut seen = Vec::new();
    while seen != b"{\"value\":\"after\"}\n" {
        seen.extend(within("rows", first.next()).await.unwrap().unwrap());
    }
    let mut seen = Vec::new();
    while seen != b"{\"value\":\"before\"}\n{\"value\":\"after\"}\n" {
        seen.extend(within("rows", third.next()).await.unwrap().unwrap());
    }
    // Two queries are at work.
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_needs_too_much_memory_fails_by_name_and_the_broker_goes_on() {
    let site = Site::new("", "[query]\nmemory_bytes = 1048576\n");
    let server = site.start();
    let lines: String = (0..40_000).map(|n| format!("value number {n}\n")).collect();
    produce(&server, "t", "1", lines.as_bytes());
    let failed = sql(
        &server,
        &["SELECT value, count(*) AS n FROM t GROUP BY value ORDER BY n"],
    );
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("query.memory_bytes"), "{}", failed.err);
    let body = json!({"sql": "SELECT value FROM t ORDER BY value DESC"});
    let answer = Http(server.http()).json("POST", "/api/v1/sql", &body).await;
    answer.is_problem(413, "too-large");
    assert_eq!(
        rows(&server, "SELECT count(*) AS n FROM t"),
        [json!({"n": 40_000})]
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_of_a_cluster_answers_from_wherever_the_records_are_led() {
    let cluster = ClusterSite::start(3, 3, "", "").await;
    let client = cluster.client().await;
    let settings = TopicSettings::default();
    client.create_topic("t", 1, settings).await.unwrap();
    let producer = client.producer("t").open().await.unwrap();
    for n in 0..50 {
        producer.send(Record::new(format!("{n}"))).await.unwrap();
    }
    for node in 1..=3 {
        let client = cluster.client_of(NodeId(node)).await;
        let text = "SELECT sum(CAST(value AS BIGINT)) AS total FROM t";
        let mut query = client.query(text, false).await.unwrap();
        let mut lines = Vec::new();
        while let Some(some) = within("rows", query.next()).await.unwrap() {
            lines.extend_from_slice(&some);
        }
        assert_eq!(lines, b"{\"total\":1225}\n", "node {node}");
    }
}
