//! EMIT EVERY: how often results come, and that the last one is the result.

use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const STREAM: &str = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);";

fn row(ts: i64, k: u8, n: i64) -> Record {
    Record::of(json!({"ts": ts, "k": format!("k{k}"), "n": n}).to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A record of a key follows another only when a multiple of the interval or the end of the window
    /// lies between, and the last one of each says what plain addition says.
    #[test]
    fn rarely_and_in_the_end_right(
        rows in prop::collection::vec((0i64..2_000, 0u8..4, -5i64..6), 1..150),
        batch in 1usize..10, max_records in 1usize..50,
    ) {
        let sql = format!("{STREAM} CREATE PIPELINE p AS SELECT k, window_start AS w, sum(n) AS s, count(*) AS c \
             FROM TUMBLE(t, ts, INTERVAL '25' SECOND) GROUP BY k, window_start, window_end \
             HAVING sum(n) <> 0 EMIT EVERY INTERVAL '10' SECOND");
        let mut rig = Rig::new(&plan(&sql).remove(0), &[(1024, 0)]);
        rig.limits.max_records = max_records;
        let (mut now, mut sums) = (0, BTreeMap::<(String, i64), (i64, i64)>::new());
        // For each key the ticks before and behind which its records came.
        let mut ticks: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut seen = 0;
        for chunk in rows.chunks(batch) {
            let mut records = Vec::new();
            for (gap, k, n) in chunk {
                now += gap;
                records.push(row(now, *k, *n));
                let sum = sums.entry((format!("k{k}"), now / 25_000 * 25_000)).or_default();
                *sum = (sum.0 + n, sum.1 + 1);
            }
            rig.send(1024, &records);
            while rig.step() {
                rig.crash();
            }
            for out in &rig.outs[seen..] {
                ticks.entry(out.key.clone().unwrap()).or_default().push(now);
            }
            seen = rig.outs.len();
        }
        for (key, times) in &ticks {
            // One for each tick between, one for the close of the window, one for what was before.
            let most = times.last().unwrap() / 10_000 - times[0] / 10_000 + 3;
            prop_assert!(times.len() as i64 <= most, "{key}: {times:?}");
        }
        rig.send(1024, &[row(10_000_000, 9, 1)]);
        while rig.step() {
            rig.crash();
        }
        let mut last: BTreeMap<String, Option<String>> = BTreeMap::new();
        let is_end = |key: &Option<String>| key.as_ref().is_some_and(|k| k.contains("k9"));
        for out in rig.outs.iter().filter(|o| o.topic == "p" && !is_end(&o.key)) {
            last.insert(out.key.clone().unwrap(), out.value.clone());
        }
        let mut found: Vec<Value> = last.into_values().flatten()
            .map(|v| serde_json::from_str(&v).unwrap())
            .filter(|row: &Value| row["k"] != "k9")
            .collect();
        let mut expected: Vec<Value> = sums.into_iter().filter(|(_, (s, _))| *s != 0).map(|((k, w), (s, c))| {
            json!({"k": k, "w": time(w), "s": s, "c": c})
        }).collect();
        let order = |a: &Value, b: &Value| a.to_string().cmp(&b.to_string());
        found.sort_by(order);
        expected.sort_by(order);
        prop_assert_eq!(found, expected);
        prop_assert!(rig.values("p.late").is_empty() && rig.values("p.dlq").is_empty());
    }
}

/// Milliseconds of the first day of 1970 as they stand in results.
fn time(ms: i64) -> String {
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, rest) = (ms / 1000 % 60, ms % 1000);
    format!("1970-01-01T{hour:02}:{minute:02}:{second:02}.{rest:03}Z")
}

/// Without event time the clock says when, and after a crash it goes on as before.
#[test]
fn by_the_clock_where_there_is_no_event_time() {
    let sql = "CREATE STREAM t (k VARCHAR, n BIGINT); \
         CREATE PIPELINE p AS SELECT k, sum(n) AS s FROM t GROUP BY k EMIT EVERY INTERVAL '10' SECOND";
    let planned = plan(sql).remove(0);
    assert!(
        planned
            .explained
            .contains("changes every 10000 ms of the clock")
    );
    let mut rig = Rig::new(&planned, &[(1024, 0)]);
    let mut sent = Vec::new();
    for second in 0..35 {
        rig.now_ms = 1_000_000 + second * 1000;
        rig.send(1024, &[Record::of(r#"{"k": "a", "n": 1}"#)]);
        while rig.step() {
            rig.crash();
        }
        if rig.values("p").len() > sent.len() {
            sent = rig.values("p");
            assert_eq!(second % 10, 0, "{sent:?}");
        }
    }
    assert_eq!(
        sent,
        [
            r#"{"k":"a","s":10}"#,
            r#"{"k":"a","s":20}"#,
            r#"{"k":"a","s":30}"#
        ]
    );
    assert!(rig.task.deadline() <= Some(1_040_000));
}
