//! DEDUP against a map that is kept beside it.

use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

const STREAM: &str = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, \
     WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);";
const INTERVAL_MS: i64 = 6_000;
const DELAY_MS: i64 = 2_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rows in any order: whatever the steps and the crashes, each is passed, dropped or late as a map
    /// from keys to times says that sees one row after the other.
    #[test]
    fn the_first_of_each_key_passes(
        rows in prop::collection::vec((0i64..60_000, 0u8..6), 1..150),
        batch in 1usize..30, max_records in 1usize..50, disorder in 1i64..30_000,
    ) {
        // Mostly forward, with rows that are far behind.
        let mut rows = rows;
        rows.sort_by_key(|(ts, _)| ts / disorder);
        let sql = format!("{STREAM} CREATE PIPELINE p AS SELECT k, n FROM DEDUP(t, ts, INTERVAL '6' SECOND, k)");
        let mut rig = Rig::new(&plan(&sql).remove(0), &[(1024, 0)]);
        rig.limits.max_records = max_records;
        let (mut known, mut watermark) = (BTreeMap::<u8, i64>::new(), i64::MIN);
        let (mut passed, mut late) = (Vec::new(), Vec::new());
        for (n, (ts, k)) in rows.iter().enumerate() {
            let row = json!({"k": k.to_string(), "n": n});
            if ts + INTERVAL_MS <= watermark {
                late.push(json!({"ts": ts, "k": k.to_string(), "n": n}));
            } else if known.get(k).is_none_or(|first| first + INTERVAL_MS <= watermark) {
                known.insert(*k, *ts);
                passed.push(row);
            }
            watermark = watermark.max(ts - DELAY_MS);
        }
        for (at, chunk) in rows.chunks(batch).enumerate() {
            let records = chunk.iter().enumerate().map(|(i, (ts, k))| {
                Record::of(json!({"ts": ts, "k": k.to_string(), "n": at * batch + i}).to_string())
            });
            rig.send(1024, &records.collect::<Vec<_>>());
            rig.step();
            rig.crash();
        }
        while rig.step() {
            rig.crash();
        }
        let values = |topic: &str| -> Vec<serde_json::Value> {
            rig.values(topic).iter().map(|v| serde_json::from_str(v).unwrap()).collect()
        };
        prop_assert_eq!(values("p"), passed);
        prop_assert_eq!(values("p.late"), late);
        prop_assert!(values("p.dlq").is_empty());
        // A row far ahead: all other keys are forgotten.
        rig.send(1024, &[Record::of(json!({"ts": 1_000_000, "k": "end"}).to_string())]);
        rig.run();
        let left = rig.task.state_bytes();
        prop_assert!(left < 400, "{} bytes for one key", left);
    }
}
