//! Groups without a window that are forgotten when no row of them has come for a time.

use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TIMED: &str =
    "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
     CREATE PIPELINE p WITH (state_ttl_ms = 8000) AS SELECT k, count(*) AS c FROM t GROUP BY k EMIT CHANGES;";
const BY_CLOCK: &str = "CREATE STREAM t (k VARCHAR);
     CREATE PIPELINE p WITH (state_ttl_ms = 8000) AS SELECT DISTINCT k FROM t;";

fn row(ts: i64, k: &str) -> Record {
    Record::of(format!("{{\"ts\": {ts}, \"k\": \"{k}\"}}"))
}

fn last(rig: &Rig, k: &str) -> String {
    let of = rig.outs.iter().rev().find(|o| o.key.as_deref() == Some(k));
    of.and_then(|o| o.value.clone()).unwrap_or_default()
}

#[test]
fn a_group_is_forgotten_behind_its_last_row_in_event_time() {
    let mut rig = Rig::new(&plan(TIMED).remove(0), &[(1024, 0)]);
    let send = |rig: &mut Rig, ts: i64, k: &str| {
        rig.send(1024, &[row(ts, k)]);
        rig.run();
        rig.crash();
    };
    send(&mut rig, 0, "a");
    send(&mut rig, 5_000, "a");
    assert_eq!(last(&rig, "a"), r#"{"k":"a","c":2}"#);
    // Eight seconds behind its first row, not behind its last one.
    send(&mut rig, 12_000, "b");
    send(&mut rig, 12_100, "a");
    assert_eq!(last(&rig, "a"), r#"{"k":"a","c":3}"#);
    let full = rig.task.state_bytes();
    send(&mut rig, 23_000, "b");
    assert_eq!(last(&rig, "b"), r#"{"k":"b","c":1}"#, "b was forgotten");
    assert!(rig.task.state_bytes() < full, "a is forgotten");
    send(&mut rig, 60_000, "b");
    let given = rig.outs.len();
    send(&mut rig, 60_000, "a");
    assert_eq!(last(&rig, "a"), r#"{"k":"a","c":1}"#);
    assert_eq!(rig.outs.len(), given + 1, "forgetting gives nothing out");
}

#[test]
fn without_event_time_the_clock_decides() {
    let mut rig = Rig::new(&plan(BY_CLOCK).remove(0), &[(1024, 0)]);
    let at = |rig: &mut Rig, after_ms: i64, rows: &[&str]| {
        rig.now_ms += after_ms;
        let rows: Vec<Record> = rows.iter().map(|k| row(0, k)).collect();
        if !rows.is_empty() {
            rig.send(1024, &rows);
        }
        rig.run();
        rig.outs.len()
    };
    assert_eq!(at(&mut rig, 0, &["a", "b"]), 2);
    assert_eq!(at(&mut rig, 6_000, &["a"]), 2);
    assert_eq!(
        at(&mut rig, 6_000, &["a", "b"]),
        3,
        "b was forgotten, a was not"
    );
    assert_eq!(at(&mut rig, 60_000, &[]), 3);
    assert_eq!(rig.task.deadline(), None, "nothing is left to forget");
    assert_eq!(at(&mut rig, 0, &["a"]), 4);
}

#[test]
fn it_is_refused_where_state_ends_by_itself() {
    let windows = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
        CREATE PIPELINE p WITH (state_ttl_ms = 8000) AS SELECT k, count(*) AS c
        FROM TUMBLE(t, ts, INTERVAL '1' SECOND) GROUP BY k, window_start, window_end;";
    let Err(error) = flowstone_sql::plan_file(windows) else {
        panic!("it was planned")
    };
    let error = error.to_string();
    assert!(error.contains("state_ttl_ms in a query without"), "{error}");
}

/// A group begins anew with a row that is so far behind its last one, times rounded down to eighths.
fn expected(rows: &[(i64, u8)]) -> Vec<String> {
    let mut groups: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for (ts, k) in rows {
        let (last_ms, count) = groups.entry(*k).or_insert((i64::MIN, 0));
        if last_ms.saturating_add(9_000) <= *ts {
            *count = 0;
        }
        (*last_ms, *count) = ((*last_ms).max(ts.div_euclid(1_000) * 1_000), *count + 1);
        last.insert(*k, format!("{{\"k\":\"k{k}\",\"c\":{count}}}"));
    }
    last.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However the rows are cut into steps, and whatever crashes in between.
    #[test]
    fn counts_are_those_of_rows_that_are_close(
        steps in prop::collection::vec((prop_oneof![3 => -900i64..3_000, 1 => 5_000i64..14_000], 0u8..4), 1..60),
        batch in 1usize..9,
    ) {
        let (mut ts, mut latest) = (1_000_i64, 1_000);
        // Out of order, and not behind the watermark: a group may be gone for rows that are.
        let rows: Vec<(i64, u8)> = steps.iter().map(|(step, k)| {
            ts = (ts + step).max(latest - 1_000);
            latest = latest.max(ts);
            (ts, *k)
        }).collect();
        let mut rig = Rig::new(&plan(TIMED).remove(0), &[(1024, 0)]);
        for rows in rows.chunks(batch) {
            let records: Vec<Record> = rows.iter().map(|(ts, k)| row(*ts, &format!("k{k}"))).collect();
            rig.send(1024, &records);
            rig.run();
            rig.crash();
        }
        let mut keys: Vec<u8> = rows.iter().map(|(_, k)| *k).collect();
        keys.sort_unstable();
        keys.dedup();
        let ours: Vec<String> = keys.iter().map(|k| last(&rig, &format!("k{k}"))).collect();
        prop_assert_eq!(ours, expected(&rows));
    }
}
