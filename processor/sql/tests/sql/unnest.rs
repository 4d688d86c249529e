//! UNNEST against loops over the same lists.

use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use serde_json::{Value, json};

const STREAM: &str =
    "CREATE STREAM t (ts TIMESTAMP, n BIGINT, l BIGINT[], w VARCHAR[], WATERMARK FOR ts AS ts);";

fn list() -> impl Strategy<Value = Option<Vec<Option<i64>>>> {
    prop::option::of(prop::collection::vec(prop::option::of(-5i64..5), 0..6))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_for_each_element(
        rows in prop::collection::vec((list(), list()), 1..80), batch in 1usize..30, max_records in 1usize..50,
        outer in any::<bool>(),
    ) {
        let kind = if outer { "LEFT JOIN UNNEST(w) AS b(y) ON TRUE" } else { "CROSS JOIN UNNEST(w) AS b(y)" };
        let sql = format!("{STREAM} CREATE PIPELINE p AS SELECT n, x, y, l FROM t CROSS JOIN UNNEST(l) AS a(x) {kind} \
             WHERE x IS DISTINCT FROM 3");
        let mut rig = Rig::new(&plan(&sql).remove(0), &[(1024, 0)]);
        rig.limits.max_records = max_records;
        let mut expected: Vec<Value> = Vec::new();
        let mut records = Vec::new();
        for (n, (l, w)) in rows.iter().enumerate() {
            let words: Option<Vec<Option<String>>> =
                w.as_ref().map(|w| w.iter().map(|v| v.map(|v| format!("w{v}"))).collect());
            records.push(Record::of(json!({"ts": 1, "n": n, "l": l, "w": words}).to_string()));
            for x in l.iter().flatten().filter(|x| **x != Some(3)) {
                let row = |y: &Option<String>| json!({"n": n, "x": x, "y": y, "l": l});
                expected.extend(words.iter().flatten().map(row));
                if outer && words.as_ref().is_none_or(Vec::is_empty) {
                    expected.push(row(&None));
                }
            }
        }
        for chunk in records.chunks(batch) {
            rig.send(1024, chunk);
            rig.step();
            rig.crash();
        }
        while rig.step() {
            rig.crash();
        }
        let found: Vec<Value> = rig.values("p").iter().map(|v| serde_json::from_str(v).unwrap()).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(rig.values("p.dlq").is_empty());
        prop_assert_eq!(rig.task.state_bytes(), 0);
    }
}

/// A record that would become too many rows goes to the dead letters alone.
#[test]
fn a_list_has_a_limit() {
    let sql = format!("{STREAM} CREATE PIPELINE p AS SELECT x FROM t CROSS JOIN UNNEST(l) AS a(x)");
    let mut rig = Rig::new(&plan(&sql).remove(0), &[(1024, 0)]);
    let record = |count: usize| Record::of(json!({"ts": 1, "l": vec![7; count]}).to_string());
    rig.send(
        1024,
        &[record(2), record(10_000), record(10_001), record(3)],
    );
    rig.run();
    assert_eq!(rig.values("p").len(), 10_005);
    let letters: Vec<_> = rig.outs.iter().filter(|o| o.topic == "p.dlq").collect();
    assert_eq!(letters.len(), 1);
    let reason = "a list has 10001 elements, over the limit of 10000";
    assert!(
        letters[0].headers["x-dlq-reason"].contains(reason),
        "{letters:?}"
    );
}

/// Functions of SQL are code of others: one that panics over a record is a failure of that record.
#[test]
fn a_record_that_a_function_panics_over_goes_to_the_dead_letters_alone() {
    let sql = "CREATE STREAM t (n BIGINT, l BIGINT[]);
               CREATE PIPELINE p AS SELECT n, array_position(l, 1, n) AS place FROM t;";
    let mut rig = Rig::new(&plan(sql).remove(0), &[(1024, 0)]);
    let record = |n: i64| Record::of(json!({"n": n, "l": [3, 1]}).to_string());
    rig.send(1024, &[record(1), record(i64::MIN), record(2)]);
    rig.run();
    assert_eq!(
        rig.values("p"),
        [r#"{"n":1,"place":2}"#, r#"{"n":2,"place":2}"#]
    );
    assert_eq!(rig.values("p.dlq").len(), 1);
}
