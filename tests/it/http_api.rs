//! The HTTP door as its users rely on it: topics, events, groups, health and metrics.

use crate::http::Http;
use crate::server::{Site, within};
use serde_json::json;

async fn topic(http: Http, name: &str, partitions: u32) {
    let body = json!({ "name": name, "partitions": partitions });
    http.json("POST", "/api/v1/topics", &body).await.expect(201);
}

#[tokio::test]
async fn topics_are_made_listed_described_and_deleted_for_good() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    let wanted = json!({
        "name": "orders", "partitions": 3, "placement": "shop", "retention_bytes": 1_000_000,
        "retention_ms": 86_400_000, "visibility": "written",
    });
    let made = http
        .json("POST", "/api/v1/topics", &wanted)
        .await
        .expect(201)
        .json();
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(made[key], *value, "{key}");
    }
    topic(http, "gone", 1).await;
    http.post("/api/v1/events/gone", b"x").await.expect(201);
    let names = |list: serde_json::Value| -> Vec<String> {
        let rows = list.as_array().unwrap().iter();
        rows.map(|t| t["name"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(
        names(http.get("/api/v1/topics").await.json()),
        ["gone", "orders"]
    );
    let status = http.get("/api/v1/topics/orders").await.expect(200).json();
    assert_eq!(
        status["partition_status"].as_array().unwrap().len(),
        3,
        "{status}"
    );
    assert_eq!(status["retention_ms"], 86_400_000);
    http.delete("/api/v1/topics/gone").await.expect(204);
    http.get("/api/v1/topics/gone")
        .await
        .is_problem(404, "unknown-topic");
    server.stop();

    let server = site.start();
    let http = Http(server.http());
    assert_eq!(names(http.get("/api/v1/topics").await.json()), ["orders"]);
    http.get("/api/v1/events/gone")
        .await
        .is_problem(404, "unknown-topic");
    // A new topic of that name has nothing of the old one.
    topic(http, "gone", 1).await;
    let rows = http.get("/api/v1/events/gone").await.expect(200).json();
    assert_eq!(rows, json!([]));
    server.stop();
}

#[tokio::test]
async fn an_event_keeps_its_key_headers_and_place() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    topic(http, "t", 2).await;
    let headers = [
        ("x-event-source", "till 4"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("x-other", "not kept"),
    ];
    let path = "/api/v1/events/t?key=table%204&partition=1&acks=written";
    let stored = http
        .send("POST", path, &headers, b"coffee")
        .await
        .expect(201)
        .json();
    assert_eq!(stored["id"], "t/1/0", "{stored}");
    assert_eq!(
        (&stored["partition"], &stored["offset"]),
        (&json!(1), &json!(0))
    );
    // Bytes that are no text come back in base64.
    http.post("/api/v1/events/t?partition=1&acks=none", &[0xff, 0, 1])
        .await
        .expect(201);
    let path = "/api/v1/events/t?partition=1&wait_ms=5000";
    let mut rows = http.get(path).await.expect(200).json();
    if rows.as_array().unwrap().len() < 2 {
        rows = http
            .get("/api/v1/events/t?partition=1&offset=1&wait_ms=5000")
            .await
            .json();
        assert_eq!(rows[0]["value_base64"], "/wAB", "{rows}");
        rows = http.get(path).await.json();
    }
    let row = &rows[0];
    assert_eq!(
        (&row["key"], &row["value"]),
        (&json!("table 4"), &json!("coffee"))
    );
    let kept = json!({
        "source": "till 4",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    });
    assert_eq!(row["headers"], kept);
    assert_eq!(rows[1]["value_base64"], "/wAB", "{rows}");
    let last = http
        .get("/api/v1/events/t?partition=1&offset=1&max=1")
        .await
        .json();
    assert_eq!(
        (last.as_array().unwrap().len(), &last[0]["offset"]),
        (1, &json!(1))
    );
    let end = http
        .get("/api/v1/events/t?partition=1&offset=end")
        .await
        .expect(200)
        .json();
    assert_eq!(end, json!([]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_wakes_when_a_record_comes() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    topic(http, "t", 1).await;
    let poll = tokio::spawn(async move {
        // Longer than the test may take: only a record ends it in time.
        http.get("/api/v1/events/t?wait_ms=60000")
            .await
            .expect(200)
            .json()
    });
    http.post("/api/v1/events/t", b"wake up").await.expect(201);
    let rows = within("the poll", poll).await.unwrap();
    assert_eq!(rows[0]["value"], "wake up");
    // One that waits in vain ends by itself, with nothing.
    let rows = http
        .get("/api/v1/events/t?offset=end&wait_ms=50")
        .await
        .expect(200)
        .json();
    assert_eq!(rows, json!([]));
    server.stop();
}

#[tokio::test]
async fn groups_keep_their_positions() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    topic(http, "t", 2).await;
    for n in 0..20 {
        let path = format!("/api/v1/events/t?partition={}", n % 2);
        http.post(&path, b"x").await.expect(201);
    }
    let path = "/api/v1/groups/kitchen/offsets";
    let positions = json!([
        { "topic": "t", "partition": 0, "offset": 7, "note": "by hand" },
        { "topic": "t", "partition": 1, "offset": 3 },
    ]);
    http.json("PUT", path, &positions).await.expect(204);
    let unknown = json!([{ "topic": "nobody", "partition": 0, "offset": 7 }]);
    http.json("PUT", path, &unknown)
        .await
        .is_problem(404, "unknown-topic");
    let beyond = json!([{ "topic": "t", "partition": 9, "offset": 7 }]);
    http.json("PUT", path, &beyond)
        .await
        .is_problem(404, "unknown-partition");
    let behind = json!([{ "topic": "t", "partition": 0, "offset": 11 }]);
    http.json("PUT", path, &behind)
        .await
        .is_problem(416, "offset-out-of-range");
    server.kill();
    let server = site.start();
    let http = Http(server.http());
    let read = http.get(path).await.expect(200).json();
    let rows = read.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{read}");
    let first = json!({ "topic": "t", "partition": 0, "offset": 7, "note": "by hand" });
    assert!(rows.contains(&first), "{read}");
    assert_eq!(http.get("/api/v1/groups").await.json(), json!(["kitchen"]));
    server.stop();
}

#[tokio::test]
async fn an_idempotency_key_stores_once_also_after_a_restart() {
    let site = Site::new("", "");
    let server = site.start();
    let http = Http(server.http());
    topic(http, "t", 3).await;
    let path = "/api/v1/events/t";
    let key = [("idempotency-key", "order 17")];
    let first = http
        .send("POST", path, &key, b"one")
        .await
        .expect(201)
        .json();
    let again = http
        .send("POST", path, &key, b"one")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&first["id"], &again["duplicate"]),
        (&again["id"], &json!(true))
    );
    http.send("POST", path, &key, b"two")
        .await
        .is_problem(422, "idempotency-mismatch");
    http.send("POST", path, &[("idempotency-key", "")], b"x")
        .await
        .is_problem(400, "invalid-request");
    server.kill();
    let server = site.start();
    let http = Http(server.http());
    let again = http
        .send("POST", path, &key, b"one")
        .await
        .expect(200)
        .json();
    assert_eq!(first["id"], again["id"]);
    let status = http.get("/api/v1/topics/t").await.json();
    let ends = status["partition_status"].as_array().unwrap().iter();
    let stored: u64 = ends.map(|p| p["end"].as_u64().unwrap()).sum();
    assert_eq!(stored, 1, "{status}");
    server.stop();
}

#[tokio::test]
async fn health_version_and_metrics_are_there() {
    let pipeline = "[[pipeline]]\nname = \"p\"\nsource = \"t\"\nsink = \"u\"\n\
                    [[pipeline.stages]]\ntype = \"key_by\"\nfield = \"k\"\nsink = \"v\"";
    let site = Site::new("", pipeline);
    let server = site.start();
    let http = Http(server.http());
    assert_eq!(http.get("/healthz").await.expect(200).text(), "ok\n");
    assert_eq!(http.get("/readyz").await.expect(200).text(), "ready\n");
    let version = http.get("/api/v1/version").await.expect(200).json();
    assert_eq!(version["name"], "flowstone");
    assert!(version["version"].is_string(), "{version}");
    http.post("/api/v1/events/t", br#"{"k":"a"}"#)
        .await
        .expect(201);
    http.get("/api/v1/events/v?wait_ms=30000").await.expect(200);
    let pipelines = http.get("/api/v1/pipelines").await.expect(200).json();
    assert_eq!(pipelines[0]["name"], "p", "{pipelines}");
    assert_eq!(pipelines[0]["processed"], 1, "{pipelines}");
    let shards = http.get("/api/v1/shards").await.expect(200).json();
    assert_eq!(shards.as_array().unwrap().len(), 1, "{shards}");
    let page = http.get("/metrics").await.expect(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    for name in [
        "flowstone_build_info",
        "flowstone_http_requests_total",
        "flowstone_produce_records_total",
        "flowstone_produce_bytes_total",
        "flowstone_connections",
        "flowstone_sync_duration_seconds",
        "flowstone_fenced_shards",
        "flowstone_uptime_seconds",
        "flowstone_written_lsn",
        "flowstone_durable_lsn",
        "flowstone_hot_bytes",
        "flowstone_undurable_bytes",
        "flowstone_pipeline_lag_records",
        "flowstone_pipeline_processed_records",
        "flowstone_pipeline_failed_records",
        "flowstone_pipeline_late_records",
        "flowstone_pipeline_emitted_records",
        "flowstone_pipeline_state_bytes",
        "flowstone_pipeline_watermark_lag_seconds",
        "flowstone_pipeline_latency_seconds",
    ] {
        assert!(
            page.text().contains(&format!("# TYPE {name} ")),
            "{name} is not there"
        );
    }
    server.stop();
}
