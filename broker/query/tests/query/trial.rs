//! Pipelines over the last records, before they are deployed.

use crate::rig::{Memory, try_last, try_with};
use serde_json::{Value, json};
use std::sync::Arc;

const STREAM: &str =
    "CREATE STREAM clicks (ts TIMESTAMP, who VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);\n";

fn click(second: i64, who: &str) -> (i64, String) {
    let value = json!({"ts": second * 1000, "who": who, "n": second}).to_string();
    (second * 1000, value)
}

fn parsed(sample: &[String]) -> Vec<Value> {
    let rows = sample.iter().map(|row| serde_json::from_str(row).unwrap());
    rows.collect()
}

#[tokio::test]
async fn the_last_records_are_taken_and_what_becomes_of_them_is_told() {
    let memory = Arc::new(Memory::default());
    // The last partition is empty, and holds nothing back.
    let ids = memory.topic("clicks", 3);
    memory.send(
        ids[0],
        &[click(1, "too early"), click(2, "a"), click(3, "a")],
    );
    memory.send(
        ids[0],
        &[(0, "{broken".into()), click(12, "a"), click(4, "late")],
    );
    memory.send(ids[1], &[click(11, "b")]);
    let text = format!(
        "{STREAM} CREATE PIPELINE p AS SELECT window_start, who, count(*) AS n
         FROM TUMBLE(clicks, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, who"
    );
    let trial = try_last(&memory, &text, 6).await.unwrap();
    assert_eq!((trial.name.as_str(), trial.records), ("p", 6));
    assert_eq!((trial.rows, trial.late, trial.failed), (1, 1, 1));
    let first = trial.first_failure.unwrap();
    assert!(
        first.starts_with(&format!("offset 3 of partition {}: ", ids[0])),
        "{first}"
    );
    let row = json!({"window_start": "1970-01-01T00:00:00.000Z", "who": "a", "n": 2});
    assert_eq!(parsed(&trial.sample), [row]);
    assert!(trial.state_bytes > 0, "two windows are open");
}

#[tokio::test]
async fn of_a_table_all_is_read_and_before_the_rest() {
    let memory = Arc::new(Memory::default());
    let titles = memory.topic("titles", 1)[0];
    let clicks = memory.topic("clicks", 1)[0];
    let title = |n: usize| json!({"title": format!("{n:0>200}")}).to_string();
    memory.send_all(titles, (0..4_000).map(title));
    memory.send(
        clicks,
        &[click(1, "key"), click(2, "key"), click(3, "nobody")],
    );
    let text = format!(
        "{STREAM} CREATE TABLE titles (id VARCHAR, title VARCHAR, PRIMARY KEY (id));
         CREATE PIPELINE p AS SELECT c.n, CAST(title AS BIGINT) AS title
         FROM clicks AS c JOIN titles AS t ON c.who = t.id"
    );
    let trial = try_last(&memory, &text, 2).await.unwrap();
    assert_eq!(parsed(&trial.sample), [json!({"n": 2, "title": 3999})]);
    assert_eq!((trial.records, trial.rows), (4_002, 1));
}

#[tokio::test]
async fn a_trial_takes_no_more_memory_than_a_query_may() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("clicks", 1)[0];
    memory.send_all(id, (0..20_000).map(|n| click(n, &format!("{n:0>200}")).1));
    let text = format!(
        "{STREAM} CREATE PIPELINE p AS SELECT who, count(*) AS n FROM clicks GROUP BY who EMIT CHANGES"
    );
    let failure = try_with(4 << 20, &memory, &text, 20_000).await.unwrap_err();
    assert_eq!(
        failure.code,
        flowstone_wire::ErrorCode::TooLarge,
        "{failure}"
    );
    let trial = try_with(4 << 20, &memory, &text, 100).await.unwrap();
    assert_eq!((trial.rows, trial.sample.len()), (100, 10));
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named() {
    let memory = Arc::new(Memory::default());
    let text = format!("{STREAM} CREATE PIPELINE p AS SELECT who FROM clicks");
    let failure = try_last(&memory, &text, 1).await.unwrap_err();
    assert!(failure.message.contains("'clicks'"), "{failure}");
}
