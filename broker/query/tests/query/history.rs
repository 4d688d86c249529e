//! Queries over what is there, held against plain computations.

use crate::rig::{Memory, ask, ask_with, collect, engine, refused_at, rows};
use flowstone_wire::{ErrorCode, PartitionId};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const STREAM: &str = "CREATE STREAM orders (id BIGINT, who VARCHAR, amount DOUBLE, \
     at TIMESTAMP FROM TIMESTAMP, place BIGINT FROM OFFSET, part BIGINT FROM PARTITION) \
     WITH (topic = 'orders');";

fn value(n: u64) -> String {
    let who = format!("w{}", n * 7 % 13);
    json!({"id": n, "who": who, "amount": (n % 10) as f64 / 4.0}).to_string()
}

/// 3 partitions of 1000 records; record n is number `n / 3` of partition `n % 3`, so many seconds
/// after 1970.
fn orders() -> (Arc<Memory>, Vec<PartitionId>) {
    let memory = Arc::new(Memory::default());
    let ids = memory.topic("orders", 3);
    for (index, id) in (0u64..).zip(&ids) {
        memory.send_all(*id, (0..1000).map(|n| value(n * 3 + index)));
    }
    (memory, ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_order_and_limit_equal_a_plain_computation() {
    let (memory, _) = orders();
    let text = format!(
        "{STREAM} SELECT who, count(*) AS n, sum(amount) AS total, max(id) AS last FROM orders \
         WHERE id % 2 = 0 GROUP BY who ORDER BY who DESC LIMIT 5"
    );
    let (found, statistics) = rows(&memory, &text).await;
    let mut plain: BTreeMap<String, (u64, f64, u64)> = BTreeMap::new();
    for n in (0..3000).filter(|n| n % 2 == 0) {
        let order: Value = serde_json::from_str(&value(n)).unwrap();
        let group = plain
            .entry(order["who"].as_str().unwrap().into())
            .or_default();
        group.0 += 1;
        group.1 += order["amount"].as_f64().unwrap();
        group.2 = group.2.max(n);
    }
    let rows = plain.iter().rev().take(5);
    let expected: Vec<Value> = rows
        .map(|(who, (n, total, last))| json!({"who": who, "n": n, "total": total, "last": last}))
        .collect();
    assert_eq!(found, expected);
    assert_eq!((statistics.records_read, statistics.rows), (3000, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_subqueries_and_unions_are_computed() {
    let (memory, _) = orders();
    let text = format!(
        "{STREAM} WITH big AS (SELECT who, id FROM orders WHERE amount >= 2.25) \
         SELECT count(*) AS n FROM orders o JOIN big ON o.id = big.id + 10 \
         WHERE o.who NOT IN (SELECT who FROM orders WHERE id < 3)"
    );
    let (found, _) = rows(&memory, &text).await;
    let excluded: Vec<String> = (0..3).map(|n| format!("w{}", n * 7 % 13)).collect();
    let plain = (0..2990_u64).filter(|n| n % 10 == 9);
    let plain = plain.filter(|n| !excluded.contains(&format!("w{}", (n + 10) * 7 % 13)));
    assert_eq!(found, [json!({"n": plain.count()})]);
    let (found, _) = rows(&memory, "SELECT 1 AS one UNION SELECT 1 UNION ALL SELECT 2").await;
    assert_eq!(found.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restrictions_reach_the_read() {
    let (memory, ids) = orders();
    let part = ids[1].0;
    for (condition, count, most_read) in [
        ("place >= 990".to_string(), 30, 30),
        ("place < 7".to_string(), 21, 21),
        (
            "place BETWEEN 500 AND 501 OR place = 505".to_string(),
            9,
            18,
        ),
        (format!("part = {part}"), 1000, 1000),
        (format!("part IN ({part}) AND place = 3"), 1, 1),
        ("at >= TIMESTAMP '1970-01-01T00:16:30Z'".to_string(), 30, 30),
        (
            "at >= '1970-01-01T00:16:30' AND at < '1970-01-01T00:16:31'".to_string(),
            3,
            30,
        ),
        ("at > now() - INTERVAL '1' HOUR".to_string(), 0, 0),
        ("place > 2000".to_string(), 0, 0),
    ] {
        let text = format!("{STREAM} SELECT count(*) AS n FROM orders WHERE {condition}");
        let (found, statistics) = rows(&memory, &text).await;
        assert_eq!(found, [json!({ "n": count })], "{condition}");
        assert!(
            statistics.records_read <= most_read,
            "{condition}: {statistics:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_stops_reading() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("t", 1)[0];
    memory.send_all(
        id,
        (0..50_000).map(|n| format!("{{\"n\": {n}, \"pad\": \"{}\"}}", "x".repeat(50))),
    );
    let (found, statistics) = rows(&memory, "SELECT value FROM t LIMIT 3").await;
    assert_eq!(found.len(), 3);
    assert!(statistics.records_read < 5_000, "{statistics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_ends_where_the_topic_ended_when_it_was_asked() {
    let (memory, ids) = orders();
    let text = format!("{STREAM} SELECT count(*) AS n FROM orders a JOIN orders b ON a.id = b.id");
    let mut answer = ask(&memory, &text).await.unwrap();
    memory.send(ids[0], &[(0, value(1_000_000))]);
    assert_eq!(collect(&mut answer).await.unwrap(), [json!({"n": 3000})]);
    assert_eq!(rows(&memory, &text).await.0, [json!({"n": 3001})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_dropped_reads_no_more() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("t", 1)[0];
    let pad = "x".repeat(2_000);
    memory.send_all(id, (0..5_000).map(|_| pad.clone()));
    let mut answer = ask(&memory, "SELECT value FROM t").await.unwrap();
    assert!(answer.rows.next().await.is_some());
    let before = memory.fetched().len();
    drop(answer);
    let (_, whole) = rows(&memory, "SELECT count(*) AS n FROM t WHERE \"offset\" < 1").await;
    assert_eq!(whole.records_read, 1);
    assert_eq!(memory.fetched().len(), before + 1, "of the second query");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_more_memory_than_there_is_fails_and_says_so() {
    let memory = Arc::new(Memory::default());
    let id = memory.topic("t", 1)[0];
    memory.send_all(id, (0..40_000).map(|n| format!("value number {n}")));
    let engine = engine(1 << 20);
    for text in [
        "SELECT value, count(*) AS n FROM t GROUP BY value",
        "SELECT value FROM t ORDER BY value",
        "SELECT a.value FROM t a JOIN t b ON a.value = b.value",
        "SELECT value, count(*) OVER () AS n FROM t",
    ] {
        let mut answer = ask_with(&engine, &memory, text).await.unwrap();
        let failure = collect(&mut answer).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::TooLarge, "{text}: {failure}");
        assert!(failure.message.contains("query.memory_bytes"), "{failure}");
    }
    // What they took is free again.
    let text = "SELECT count(*) AS n FROM t";
    let mut answer = ask_with(&engine, &memory, text).await.unwrap();
    assert_eq!(collect(&mut answer).await.unwrap(), [json!({"n": 40_000})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_no_rows_are_counted_and_the_first_is_named() {
    let (memory, ids) = orders();
    let bad = ["{broken", "[]", "{\"id\": \"text\"}"];
    memory.send(ids[2], &bad.map(|b| (0, b.to_string())));
    let text = format!("{STREAM} SELECT count(id) AS n FROM orders");
    let (found, statistics) = rows(&memory, &text).await;
    assert_eq!(found, [json!({"n": 3000})]);
    assert_eq!(statistics.unreadable, 3);
    let first = statistics.first_unreadable.unwrap();
    let place = format!("offset 1000 of partition {}: ", ids[2]);
    assert!(first.starts_with(&place), "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_columns_like_any_other() {
    let (memory, _) = orders();
    let windows = |from: &str| {
        format!(
            "{STREAM} SELECT window_start, window_end, count(*) AS n FROM {from} \
             GROUP BY window_start, window_end ORDER BY window_start, window_end"
        )
    };
    let (found, _) = rows(
        &memory,
        &windows("TUMBLE(orders, at, INTERVAL '10' MINUTE)"),
    )
    .await;
    let row = |start: &str, end: &str, n: u32| {
        json!({
            "window_start": format!("1970-01-01T00:{start}:00.000Z"),
            "window_end": format!("1970-01-01T00:{end}:00.000Z"), "n": n,
        })
    };
    assert_eq!(found, [row("00", "10", 1800), row("10", "20", 1200)]);
    let hop = "HOP(orders, at, INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)";
    let (found, _) = rows(&memory, &windows(hop)).await;
    let counts: Vec<&Value> = found.iter().map(|r| &r["n"]).collect();
    assert_eq!(
        counts,
        [900, 1800, 1800, 1200, 300]
            .map(Value::from)
            .iter()
            .collect::<Vec<_>>()
    );
    let cumulate = "CUMULATE(orders, at, INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)";
    let (found, _) = rows(&memory, &windows(cumulate)).await;
    assert_eq!(
        found,
        [
            row("00", "05", 900),
            row("00", "10", 1800),
            row("10", "15", 900),
            row("10", "20", 1200)
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_refused_with_its_place() {
    let (memory, _) = orders();
    for (query, place, what) in [
        ("SELECT missing FROM orders", "1, column 8", "missing"),
        ("SELECT *\nFROM nowhere", "2, column 6", "nowhere"),
        ("SELECT id id FROM orders,\n  orders", "1, column 1", ""),
        ("SELECT FROM WHERE", "1, column 13", ""),
        (
            "SELECT value FROM orders FOR UPDATE",
            "1, column 1",
            "FOR is not supported",
        ),
        (
            "SELECT 1 AS a WHERE 1 IN (SELECT value FROM orders TABLESAMPLE (3))",
            "1, column 45",
            "TABLESAMPLE",
        ),
        ("SELECT value, value FROM orders", "1, column 1", "value"),
        ("SELECT 1 AS a; SELECT 2 AS b", "1, column 16", "one query"),
        ("CREATE STREAM s (a INT)", "1, column 1", "no query"),
        (
            "CREATE PIPELINE p AS SELECT value FROM orders",
            "1, column 17",
            "pipeline deploy",
        ),
        (
            "SELECT window_start FROM SESSION(orders, timestamp, INTERVAL '1' MINUTE)",
            "1, column 34",
            "EMIT CHANGES",
        ),
        ("SELECT upper(1, 2) AS x", "1, column 1", "upper"),
    ] {
        refused_at(&memory, query, place, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_has_the_latest_row_of_each_key() {
    let (memory, _) = orders();
    let users = memory.topic("users", 2);
    let (red, blue) = (r#"{"color": "red"}"#, r#"{"color": "blue"}"#);
    memory.send_rows(
        users[0],
        &[("1", Some(red)), ("3", Some(red)), ("1", Some(blue))],
    );
    memory.send_rows(users[0], &[("3", None), ("5", None), ("5", Some(red))]);
    memory.send_rows(users[1], &[("2", Some(red)), ("2", Some("{}"))]);
    let table = "CREATE TABLE users (id BIGINT, color VARCHAR, PRIMARY KEY (id));\n";
    let all = format!("{table} SELECT * FROM users ORDER BY id");
    let row = |id: u32, color: Option<&str>| json!({"id": id, "color": color});
    let (found, statistics) = rows(&memory, &all).await;
    assert_eq!(
        found,
        [row(1, Some("blue")), row(2, None), row(5, Some("red"))]
    );
    assert_eq!(statistics.records_read, 8);
    // What was before is not a row, also where it would pass.
    let red = format!("{table} SELECT id FROM users AS u WHERE color = 'red' AND id > 0");
    assert_eq!(rows(&memory, &red).await.0, [json!({"id": 5})]);
    let joined = format!(
        "{table} {STREAM} SELECT count(*) AS n FROM orders AS o JOIN users AS u ON o.id = u.id"
    );
    assert_eq!(rows(&memory, &joined).await.0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_no_rows_are_left_out_where_rows_are_only_counted() {
    let (memory, ids) = orders();
    memory.send(ids[0], &[(0, "{broken".to_string())]);
    let text = "CREATE STREAM orders (id BIGINT);\n SELECT count(*) AS n FROM orders";
    let (found, statistics) = rows(&memory, text).await;
    assert_eq!(found, [json!({"n": 3000})]);
    assert_eq!(statistics.unreadable, 1);
    let text = "CREATE STREAM orders (id BIGINT);\n SELECT DISTINCT ON (id % 2) id FROM orders ORDER BY id % 2, id";
    let (found, statistics) = rows(&memory, text).await;
    assert_eq!(found, [json!({"id": 0}), json!({"id": 1})]);
    assert_eq!(statistics.unreadable, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_while_it_is_read_is_counted() {
    let (memory, ids) = orders();
    let text = format!("{STREAM} SELECT count(id) AS n FROM orders");
    memory.expire(ids[1], 500);
    let mut answer = ask(&memory, &text).await.unwrap();
    let found = collect(&mut answer).await.unwrap();
    assert_eq!(found, [json!({"n": 2500})]);
    assert_eq!(answer.counters.statistics().expired, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_over_gives_is_passed_on_in_small_batches() {
    let (memory, _) = orders();
    let text = format!("{STREAM} SELECT id, count(*) OVER () AS n FROM orders");
    let mut answer = ask(&memory, &text).await.unwrap();
    let mut found = 0;
    while let Some(rows) = answer.rows.next().await {
        let flowstone_query::Rows::Batch(batch) = rows.unwrap() else {
            panic!("lines");
        };
        assert!(batch.num_rows() <= 1024, "{} rows", batch.num_rows());
        found += batch.num_rows();
    }
    assert_eq!(found, 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_take_times_only() {
    let (memory, _) = orders();
    let start = |select: &str, column: &str| {
        format!(
            "{STREAM} SELECT max(window_start) AS last FROM TUMBLE(({select}), {column}, INTERVAL '10' MINUTE)"
        )
    };
    let micros = start("SELECT CAST(at AS TIMESTAMP(6)) AS t FROM orders", "t");
    assert_eq!(
        rows(&memory, &micros).await.0,
        [json!({"last": "1970-01-01T00:10:00.000Z"})]
    );
    for select in [
        "SELECT id AS t FROM orders",
        "SELECT CAST(at AS DATE) AS t FROM orders",
    ] {
        let failure = ask(&memory, &start(select, "t")).await.err().unwrap();
        assert!(
            failure.message.contains("windows take a TIMESTAMP"),
            "{failure}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_function_takes_more_memory_than_there_is() {
    let (memory, _) = orders();
    for (text, what) in [
        ("SELECT range(0, 5000000000) AS r", "range"),
        ("SELECT repeat('x', 2000000000) AS r", "repeat"),
        ("SELECT lpad('x', 2000000000) AS r", "lpad"),
    ] {
        let failure = ask(&memory, text).await.err().unwrap();
        assert!(failure.message.contains(what), "{failure}");
    }
    let (found, _) = rows(&memory, "SELECT lpad('7', 3, '0') AS r").await;
    assert_eq!(found, [json!({"r": "007"})]);
    let doubled = |times: usize| {
        let steps: Vec<String> = (1..=times)
            .map(|n| {
                format!(
                    "t{n} AS (SELECT * FROM t{0} UNION ALL SELECT * FROM t{0})",
                    n - 1
                )
            })
            .collect();
        format!(
            "WITH t0 AS (SELECT 1 AS a), {} SELECT count(*) AS n FROM t{times}",
            steps.join(", ")
        )
    };
    assert_eq!(rows(&memory, &doubled(5)).await.0, [json!({"n": 32})]);
    let failure = ask(&memory, &doubled(40)).await.err().unwrap();
    assert!(failure.message.contains("WITH"), "{failure}");
}

const LISTS: &str =
    "CREATE STREAM l (n BIGINT, s VARCHAR, l BIGINT[], m VARCHAR[]) WITH (topic = 'l');";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_unfolded_beside_their_rows() {
    let memory = Arc::new(Memory::default());
    let ids = memory.topic("l", 1);
    let values = [
        json!({"n": 1, "l": [1, null, 2], "m": ["x", "y"]}),
        json!({"n": 2, "l": [], "m": ["z"]}),
        json!({"n": 3, "l": null, "m": ["z"]}),
        json!({"n": 4, "l": [7], "m": null}),
    ];
    memory.send_all(ids[0], values.map(|v| v.to_string()));
    let ask = async |from: &str| {
        let text = format!("{LISTS} SELECT n, e FROM {from} ORDER BY n, e");
        let (found, _) = rows(&memory, &text).await;
        found
            .iter()
            .map(|r| (r["n"].as_i64().unwrap(), r["e"].as_i64()))
            .collect::<Vec<_>>()
    };
    let inner = ask("l CROSS JOIN UNNEST(l) AS t(e)").await;
    assert_eq!(inner, [(1, Some(1)), (1, Some(2)), (1, None), (4, Some(7))]);
    let outer = ask("l LEFT JOIN UNNEST(l) AS t(e) ON TRUE").await;
    let more = [(2, None), (3, None), (4, Some(7))];
    assert_eq!(outer, [&inner[..3], &more].concat());
    let twice = ask(
        "(SELECT n, e, w FROM l CROSS JOIN UNNEST(l) AS t(e) CROSS JOIN UNNEST(m) AS u(w)) AS x",
    )
    .await;
    assert_eq!(twice.len(), 6, "three elements by two");
    let named = "(SELECT a.n AS n, e FROM l AS a CROSS JOIN UNNEST(a.l) AS t(e) JOIN l AS b ON b.n = t.e) AS x";
    let named = ask(named).await;
    assert_eq!(named.len(), 2);
}

/// A long list beside a long text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_row_becomes_is_bounded() {
    let memory = Arc::new(Memory::default());
    let ids = memory.topic("l", 1);
    let long = "a".repeat(1 << 20);
    let row = |count: usize| json!({"s": long, "l": vec![1; count]}).to_string();
    memory.send_all(ids[0], [row(40), row(50), row(60)]);
    for text in [
        "SELECT s, unnest(l) AS e FROM l",
        "SELECT s, e FROM l CROSS JOIN UNNEST(l) AS t(e)",
    ] {
        let (found, _) = rows(&memory, &format!("{LISTS} {text}")).await;
        assert_eq!(found.len(), 150);
    }
    memory.send_all(ids[0], [row(5_000)]);
    let text = format!("{LISTS} SELECT s, e FROM l CROSS JOIN UNNEST(l) AS t(e)");
    let failed = collect(&mut ask(&memory, &text).await.unwrap())
        .await
        .unwrap_err();
    assert!(failed.message.contains("of one row"), "{failed}");
    let text = format!("{LISTS} SELECT count(*) AS c FROM l CROSS JOIN UNNEST(l) AS t(e)");
    assert_eq!(rows(&memory, &text).await.0, [json!({"c": 5_150})]);
}
