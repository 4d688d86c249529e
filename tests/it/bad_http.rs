//! What HTTP peers get wrong: a problem document each, with a stable type.

use crate::http::Http;
use crate::server::{Site, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: usize = 8 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_http_peers_have_names() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    http.json("POST", "/api/v1/topics", &json!({ "name": "t" }))
        .await
        .expect(201);
    let before = server.anonymous_bytes();
    for name in [
        "../etc/passwd",
        "a/b",
        "",
        ".",
        "..",
        "-x",
        "__x",
        "a b",
        "a\u{0}b",
        "\u{fc}",
    ] {
        let answer = http
            .json("POST", "/api/v1/topics", &json!({ "name": name }))
            .await;
        answer.is_problem(400, "invalid-name");
    }
    let long = "x".repeat(201);
    http.json("POST", "/api/v1/topics", &json!({ "name": long }))
        .await
        .is_problem(400, "invalid-name");
    for path in [
        "..%2f..%2fetc%2fpasswd",
        "nobody",
        "%00",
        "a%20b",
        "%1b%5b31m",
    ] {
        let answer = http.get(&format!("/api/v1/topics/{path}")).await;
        answer.is_problem(404, "unknown-topic");
        assert!(!answer.text().contains("\\u001b"), "{}", answer.text());
    }
    http.get("/api/v1/nothing")
        .await
        .is_problem(404, "not-found");
    http.get("/").await.is_problem(404, "not-found");
    http.get("/api/v1/../../etc/passwd")
        .await
        .is_problem(404, "not-found");
    for query in ["nonsense=1", "partition=x", "acks=perhaps", "partition=-1"] {
        let path = format!("/api/v1/events/t?{query}");
        http.post(&path, b"x")
            .await
            .is_problem(400, "invalid-request");
    }
    for query in [
        "offset=x",
        "offset=@yesterday",
        "max=-1",
        "nonsense=1",
        "wait_ms=x",
    ] {
        let path = format!("/api/v1/events/t?{query}");
        http.get(&path).await.is_problem(400, "invalid-request");
    }
    http.get("/api/v1/events/t?partition=1")
        .await
        .is_problem(404, "unknown-partition");
    http.post("/api/v1/events/t?partition=1", b"x")
        .await
        .is_problem(404, "unknown-partition");
    http.get("/api/v1/events/t?offset=1000")
        .await
        .is_problem(416, "offset-out-of-range");
    let kind = [("content-type", "application/json")];
    for body in [
        "{",
        "[]",
        "nonsense",
        r#"{"name":"x","unknown":1}"#,
        r#"{"name":7}"#,
    ] {
        let answer = http
            .send("POST", "/api/v1/topics", &kind, body.as_bytes())
            .await;
        answer.is_problem(400, "invalid-request");
    }
    let twice = http
        .json("POST", "/api/v1/topics", &json!({ "name": "t" }))
        .await;
    twice.is_problem(409, "topic-exists");
    for _ in 0..3 {
        http.post("/api/v1/events/t", &vec![b'x'; LIMIT + 1])
            .await
            .is_problem(413, "too-large");
        // A body within the limit, but a value over its own.
        http.post("/api/v1/events/t", &vec![b'x'; LIMIT - 1])
            .await
            .is_problem(413, "too-large");
    }
    let status = http.get("/api/v1/topics/t").await.expect(200).json();
    assert_eq!(
        status["partition_status"][0]["end"], 0,
        "nothing of it was stored: {status}"
    );
    let grown = server.anonymous_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "memory has grown by {grown} bytes");
    server.stop();
}

/// The path of a URL may be any bytes, percent-encoded.
#[tokio::test]
async fn a_topic_name_that_is_no_utf8_is_a_problem_document() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    for path in ["/api/v1/topics/%ff%fe", "/api/v1/events/%c3%28"] {
        http.get(path).await.is_problem(400, "invalid-request");
    }
    http.post("/api/v1/events/%ff", b"x")
        .await
        .is_problem(400, "invalid-request");
    server.stop();
}

#[tokio::test]
async fn an_event_on_a_topic_that_is_not_there_is_not_found() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    http.post("/api/v1/events/nobody", b"x")
        .await
        .is_problem(404, "unknown-topic");
    http.post("/api/v1/events/..%2fx", b"x")
        .await
        .is_problem(404, "unknown-topic");
    http.delete("/api/v1/topics/nobody")
        .await
        .is_problem(404, "unknown-topic");
    server.stop();
}

/// A peer that never ends its request holds up nobody, and is let go.
#[tokio::test]
async fn half_a_request_is_let_go() {
    let site = Site::new("", "");
    let server = site.start();
    let mut half = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.http()).await.unwrap();
        stream
            .write_all(b"POST /api/v1/topics HTTP/1.1\r\nhost: he")
            .await
            .unwrap();
        half.push(stream);
    }
    assert_eq!(Http(server.http()).get("/healthz").await.text(), "ok\n");
    for stream in &mut half {
        let mut rest = Vec::new();
        // It is closed, with or without a word.
        let _ = within("the close", stream.read_to_end(&mut rest)).await;
    }
    server.stop();
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_a_problem_of_status_405() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    http.delete("/api/v1/version")
        .await
        .is_problem(405, "invalid-request");
    http.send("PUT", "/api/v1/events/t", &[], b"x")
        .await
        .is_problem(405, "invalid-request");
    server.stop();
}
