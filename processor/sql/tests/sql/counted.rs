//! Count windows against slices of the rows of each group.

use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const STREAM: &str = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);";

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_window_has_its_rows(
        rows in prop::collection::vec((0i64..90_000, prop::option::of(0u8..4), -20i64..20), 1..200),
        size in 1usize..12, slide in 1usize..12, batch in 1usize..40, max_records in 1usize..60,
    ) {
        let slide = slide.min(size);
        let sql = format!("{STREAM} CREATE PIPELINE p AS SELECT k, sum(n) AS s, min(n) AS lo, count(DISTINCT n) AS d, \
             CAST(window_start AS BIGINT) AS f, CAST(window_end AS BIGINT) AS t \
             FROM COUNT_WINDOW(t, {size}, {slide}) GROUP BY k, window_start, window_end");
        let mut rig = Rig::new(&plan(&sql).remove(0), &[(1024, 0)]);
        rig.limits.max_records = max_records;
        let mut groups: BTreeMap<Option<u8>, Vec<(i64, i64)>> = BTreeMap::new();
        let mut expected = Vec::new();
        for (ts, k, n) in &rows {
            let group = groups.entry(*k).or_default();
            group.push((*ts, *n));
            if group.len() >= size && (group.len() - size).is_multiple_of(slide) {
                let of = &group[group.len() - size..];
                let mut distinct: Vec<i64> = of.iter().map(|r| r.1).collect();
                distinct.sort_unstable();
                distinct.dedup();
                expected.push(json!({
                    "k": k.map(|k| format!("k{k}")), "s": of.iter().map(|r| r.1).sum::<i64>(),
                    "lo": distinct[0], "d": distinct.len(),
                    "f": of.iter().map(|r| r.0).min(), "t": of.iter().map(|r| r.0).max(),
                }));
            }
        }
        for chunk in rows.chunks(batch) {
            let record = |(ts, k, n): &(i64, Option<u8>, i64)| {
                Record::of(json!({"ts": ts, "k": k.map(|k| format!("k{k}")), "n": n}).to_string())
            };
            rig.send(1024, &chunk.iter().map(record).collect::<Vec<_>>());
            rig.step();
            rig.crash();
        }
        while rig.step() {
            rig.crash();
        }
        let found: Vec<Value> = rig.values("p").iter().map(|v| serde_json::from_str(v).unwrap()).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(rig.values("p.late").is_empty() && rig.values("p.dlq").is_empty());
        if slide == size && groups.values().all(|rows| rows.len().is_multiple_of(size)) {
            prop_assert_eq!(rig.task.state_bytes(), 0, "full windows leave nothing");
        }
    }
}
