//! Lookup joins against a map that is kept beside them.

use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

const STREAMS: &str = "CREATE STREAM s (k VARCHAR FROM KEY, id BIGINT, n BIGINT); \
     CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT, w VARCHAR);";

/// What is sent before the task goes on: updates of the table (none deletes), then rows.
#[derive(Clone, Debug)]
struct Turn {
    updates: Vec<(i64, Option<i64>)>,
    rows: Vec<(Option<i64>, i64)>,
}

fn turn() -> impl Strategy<Value = Turn> {
    let update = (
        0i64..6,
        prop_oneof![1 => Just(None), 3 => (0i64..50).prop_map(Some)],
    );
    let row = (
        prop_oneof![1 => Just(None), 8 => (0i64..7).prop_map(Some)],
        0i64..50,
    );
    let updates = prop::collection::vec(update, 0..12);
    (updates, prop::collection::vec(row, 0..20)).prop_map(|(updates, rows)| Turn { updates, rows })
}

/// Runs the turns with a crash behind every step.
fn run(sql: &str, turns: &[Turn], max_records: usize) -> Rig {
    let planned = plan(&format!("{STREAMS} CREATE PIPELINE p AS {sql}")).remove(0);
    assert_eq!(planned.pipeline.sources(), ["t", "s"], "tables come first");
    let mut rig = Rig::new(&planned, &[(1024, 0), (1025, 1)]);
    rig.limits.max_records = max_records;
    for turn in turns {
        let update = |(id, v): &(i64, Option<i64>)| Record {
            key: Some(id.to_string()),
            value: v.map(|v| {
                json!({"v": v, "w": format!("w{v}")})
                    .to_string()
                    .into_bytes()
            }),
            ..Record::default()
        };
        let row = |(id, n): &(Option<i64>, i64)| Record {
            key: Some(n.to_string()),
            ..Record::of(json!({"id": id, "n": n}).to_string())
        };
        let sent = [
            (1024, turn.updates.iter().map(update).collect::<Vec<_>>()),
            (1025, turn.rows.iter().map(row).collect()),
        ];
        for (partition, records) in sent.iter().filter(|(_, r)| !r.is_empty()) {
            rig.send(*partition, records);
        }
        while rig.step() {
            rig.crash();
        }
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_row_meets_the_latest_row_of_its_key(
        turns in prop::collection::vec(turn(), 1..8), max_records in 1usize..40, outer in any::<bool>(),
    ) {
        let kind = if outer { "LEFT" } else { "INNER" };
        let sql = format!("SELECT s.n, t.v, t.w FROM s {kind} JOIN t ON s.id = t.id AND t.v > s.n");
        let mut table: BTreeMap<i64, i64> = BTreeMap::new();
        let mut expected = Vec::new();
        for turn in &turns {
            for (id, v) in &turn.updates {
                match v {
                    Some(v) => { table.insert(*id, *v); }
                    None => { table.remove(id); }
                }
            }
            for (id, n) in &turn.rows {
                let v = id.and_then(|id| table.get(&id)).filter(|v| *v > n);
                if outer || v.is_some() {
                    let w = v.map(|v| format!("w{v}"));
                    expected.push((n.to_string(), json!({"n": n, "v": v, "w": w})));
                }
            }
        }
        let rig = run(&sql, &turns, max_records);
        let found: Vec<_> = rig.outs.iter().filter(|o| o.topic == "p").map(|o| {
            (o.key.clone().unwrap(), serde_json::from_str(o.value.as_deref().unwrap()).unwrap())
        }).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(rig.values("p.dlq").is_empty());
    }
}

#[test]
fn what_is_deleted_from_the_table_leaves_no_state() {
    let sql = "SELECT s.n, t.v FROM s JOIN t ON s.id = t.id";
    let put = |n: i64| (n, Some(n));
    let full = Turn {
        updates: (0..100).map(put).collect(),
        rows: Vec::new(),
    };
    let gone = Turn {
        updates: (0..100).map(|n| (n, None)).collect(),
        rows: Vec::new(),
    };
    assert!(run(sql, std::slice::from_ref(&full), 7).task.state_bytes() > 1000);
    assert_eq!(run(sql, &[full, gone], 7).task.state_bytes(), 0);
}

/// A table that is never written says nothing about time, and holds it back in no way.
#[test]
fn an_empty_table_does_not_hold_time_back() {
    let sql = "CREATE STREAM s (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts); \
         CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT); \
         CREATE PIPELINE p AS WITH j AS (SELECT ts, k, v FROM s LEFT JOIN t ON k = id) \
         SELECT k, count(*) AS c, count(v) AS v FROM TUMBLE(j, ts, INTERVAL '1' SECOND) \
         GROUP BY k, window_start, window_end";
    let planned = plan(sql).remove(0);
    let mut rig = Rig::new(&planned, &[(1024, 0), (1025, 1)]);
    let row = |ts: i64| Record::of(json!({"ts": ts, "k": 1}).to_string());
    rig.send(1025, &[row(10), row(20), row(5000)]);
    rig.run();
    assert_eq!(rig.values("p"), [r#"{"k":1,"c":2,"v":0}"#]);
}

#[test]
fn a_lookup_by_the_keys_of_several_streams_stays_where_the_records_are() {
    let text = "CREATE STREAM a (k VARCHAR FROM KEY, n BIGINT); CREATE STREAM b (k VARCHAR FROM KEY, n BIGINT); \
                CREATE TABLE names (k VARCHAR PRIMARY KEY, name VARCHAR); \
                CREATE PIPELINE p AS SELECT u.k, names.name FROM \
                  (SELECT k FROM a UNION ALL SELECT k FROM b) AS u JOIN names ON u.k = names.k";
    let planned = plan(text).remove(0);
    assert!(planned.aligned && !planned.gathers);
}
