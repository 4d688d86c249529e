//! Queries that follow what comes.

use crate::rig::{Memory, ask, ask_from, refused_at, take};
use serde_json::json;
use std::sync::Arc;

const STREAM: &str =
    "CREATE STREAM clicks (ts TIMESTAMP, who VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);\n";

fn click(second: i64, who: &str) -> (i64, String) {
    let value = json!({"ts": second * 1000, "who": who, "n": second}).to_string();
    (second * 1000, value)
}

#[tokio::test]
async fn what_comes_is_seen_and_what_was_there_only_where_it_is_asked_for() {
    let memory = Arc::new(Memory::default());
    let ids = memory.topic("clicks", 2);
    memory.send(ids[0], &[click(1, "before")]);
    let text = format!("{STREAM} SELECT who, n * 2 AS twice FROM clicks WHERE n < 9 EMIT CHANGES");
    let mut after = ask(&memory, &text).await.unwrap();
    let mut all = ask_from(&memory, &text, true).await.unwrap();
    assert_eq!(
        take(&mut all, 1).await,
        [json!({"who": "before", "twice": 2})]
    );
    for (id, second) in [(ids[1], 2), (ids[0], 9), (ids[0], 3)] {
        memory.send(id, &[click(second, "after")]);
    }
    let mut found = take(&mut after, 2).await;
    found.sort_by_key(|row| row["twice"].as_i64());
    let expected = [4, 6].map(|twice| json!({"who": "after", "twice": twice}));
    assert_eq!(found, expected);
    assert_eq!(take(&mut all, 2).await.len(), 2);
    assert_eq!(all.counters.statistics().rows, 3);
}

#[tokio::test]
async fn windows_close_as_in_a_pipeline() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("clicks", 1)[0];
    let text = format!(
        "{STREAM} SELECT window_start, who, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '10' SECOND)
         GROUP BY window_start, window_end, who EMIT ON WINDOW CLOSE"
    );
    let mut answer = ask(&memory, &text).await.unwrap();
    memory.send(id, &[click(1, "a"), click(2, "a"), click(12, "b")]);
    let row = |start: &str, who: &str, n: u32| json!({"window_start": format!("1970-01-01T00:00:{start}.000Z"), "who": who, "n": n});
    assert_eq!(take(&mut answer, 1).await, [row("00", "a", 2)]);
    memory.send(
        id,
        &[click(3, "late"), (0, "{broken".into()), click(25, "c")],
    );
    assert_eq!(take(&mut answer, 1).await, [row("10", "b", 1)]);
    let statistics = answer.counters.statistics();
    assert_eq!((statistics.late, statistics.unreadable), (1, 1));
    let first = statistics.first_unreadable.unwrap();
    assert!(first.contains("offset 4 of"), "{first}");
}

#[tokio::test]
async fn every_change_of_a_group_is_told_also_that_it_has_gone() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("clicks", 1)[0];
    let text = format!(
        "{STREAM} SELECT who, sum(n) AS total FROM clicks GROUP BY who HAVING sum(n) <> 0 EMIT CHANGES"
    );
    let mut answer = ask(&memory, &text).await.unwrap();
    memory.send(id, &[click(5, "a")]);
    assert_eq!(
        take(&mut answer, 1).await,
        [json!({"who": "a", "total": 5})]
    );
    memory.send(id, &[click(-5, "a")]);
    assert_eq!(take(&mut answer, 1).await, [json!({"@removed": "a"})]);
}

#[tokio::test]
async fn a_topic_can_be_followed_without_a_stream() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("raw-topic", 2)[1];
    let text = "SELECT upper(value) AS loud, partition FROM \"raw-topic\" EMIT CHANGES";
    let mut answer = ask(&memory, text).await.unwrap();
    memory.send(id, &[(0, "one".into())]);
    assert_eq!(
        take(&mut answer, 1).await,
        [json!({"loud": "ONE", "partition": 1})]
    );
}

#[tokio::test]
async fn what_cannot_follow_is_refused_with_its_place() {
    let memory = Arc::new(Memory::default());
    memory.topic("clicks", 1);
    let order = "SELECT value\nFROM clicks ORDER BY value EMIT CHANGES";
    refused_at(&memory, order, "2, column 22", "ORDER BY").await;
    let limit = "SELECT value FROM clicks LIMIT 3 EMIT CHANGES";
    refused_at(&memory, limit, "1, column 32", "LIMIT").await;
    let groups = "SELECT value, count(*) AS n FROM clicks GROUP BY value EMIT ON WINDOW CLOSE";
    refused_at(&memory, groups, "1, column 1", "EMIT CHANGES").await;
}

#[tokio::test]
async fn a_table_is_read_as_a_whole_before_rows_meet_it() {
    let memory = Arc::new(Memory::default());
    let titles = memory.topic("titles", 1)[0];
    let clicks = memory.topic("clicks", 1)[0];
    // More than is fetched at once.
    let title = |n: usize| json!({"title": format!("{n:0>200}")}).to_string();
    memory.send_all(titles, (0..4_000).map(title));
    memory.send(clicks, &[click(1, "key")]);
    let text = format!(
        "{STREAM} CREATE TABLE titles (id VARCHAR, title VARCHAR, PRIMARY KEY (id));
         SELECT c.n, CAST(title AS BIGINT) AS title FROM clicks AS c JOIN titles AS t ON c.who = t.id EMIT CHANGES"
    );
    let mut all = ask_from(&memory, &text, true).await.unwrap();
    assert_eq!(take(&mut all, 1).await, [json!({"n": 1, "title": 3999})]);
    let mut after = ask(&memory, &text).await.unwrap();
    memory.send(clicks, &[click(2, "key"), click(3, "nobody")]);
    assert_eq!(take(&mut after, 1).await, [json!({"n": 2, "title": 3999})]);
}
