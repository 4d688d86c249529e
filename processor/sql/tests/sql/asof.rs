//! ASOF joins against a search through all rows, and over real prices.

use crate::data::lines;
use crate::rig::{Record, Rig, plan};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PAIR: &str = "CREATE STREAM a (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND); \
     CREATE STREAM b (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);";
/// How far rows come out of order.
const DISORDER_MS: i64 = 5_000;

#[derive(Clone, Debug)]
struct Row {
    ts: i64,
    delay: i64,
    k: Option<u8>,
    left: bool,
}

fn row() -> impl Strategy<Value = Row> {
    let k = prop_oneof![1 => Just(None), 8 => (0u8..4).prop_map(Some)];
    (0i64..40, 0..DISORDER_MS, k, any::<bool>()).prop_map(|(ts, delay, k, left)| Row {
        ts: ts * 1000,
        delay,
        k,
        left,
    })
}

fn record(row: &Row, n: usize) -> Record {
    let k = row.k.map(|k| format!("k{k}"));
    Record::of(json!({"ts": row.ts, "k": k, "n": n}).to_string())
}

/// Rows as they come, by their number.
fn run(sql: &str, rows: &[Row], batch: usize, max_records: usize) -> Rig {
    let mut rig = Rig::new(
        &plan(&format!("{PAIR} CREATE PIPELINE p AS {sql}")).remove(0),
        &[(1024, 0), (1025, 1)],
    );
    rig.limits.max_records = max_records;
    for chunk in rows.iter().enumerate().collect::<Vec<_>>().chunks(batch) {
        for (partition, left) in [(1024, true), (1025, false)] {
            let of = chunk.iter().filter(|(_, r)| r.left == left);
            let records: Vec<Record> = of.map(|(n, r)| record(r, *n)).collect();
            if !records.is_empty() {
                rig.send(partition, &records);
            }
        }
        rig.step();
        rig.crash();
    }
    for partition in [1024, 1025] {
        for ts in [10_000_000, 20_000_000] {
            rig.send(
                partition,
                &[Record::of(json!({"ts": ts, "k": "end"}).to_string())],
            );
        }
    }
    while rig.step() {
        rig.crash();
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_row_meets_the_latest_not_after_it(
        rows in prop::collection::vec(row(), 1..120), batch in 1usize..30, max_records in 1usize..50,
        strict in any::<bool>(), shift_s in -8i64..8,
    ) {
        let mut rows = rows;
        rows.sort_by_key(|r| r.ts + r.delay);
        let op = if strict { ">" } else { ">=" };
        let sql = format!("SELECT a.n AS l, b.n AS r FROM a ASOF JOIN b \
             MATCH_CONDITION (a.ts + INTERVAL '{shift_s}' SECOND {op} b.ts) ON a.k = b.k");
        let mut expected: Vec<(usize, Option<usize>)> = Vec::new();
        for (l, left) in rows.iter().enumerate().filter(|(_, r)| r.left) {
            let most = left.ts + shift_s * 1000 - i64::from(strict);
            let fits = |r: &Row| !r.left && r.k.is_some() && r.k == left.k && r.ts <= most;
            let found = (0..rows.len()).filter(|n| fits(&rows[*n])).max_by_key(|n| (rows[*n].ts, *n));
            expected.push((l, found));
        }
        expected.sort_unstable();
        let rig = run(&sql, &rows, batch, max_records);
        prop_assert!(rig.values("p.late").is_empty() && rig.values("p.dlq").is_empty());
        let number = |v: &Value| v.as_u64().map(|n| n as usize);
        let mut found: Vec<(usize, Option<usize>)> = rig.values("p").iter().filter_map(|v| {
            let row: Value = serde_json::from_str(v).unwrap();
            Some((number(&row["l"])?, number(&row["r"])))
        }).collect();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
        // What is left: one row of the right side for each key, and those at the end.
        let left = rig.task.state_bytes();
        prop_assert!(left < 12 * 400, "{} bytes", left);
    }
}

/// The prices of a month beside those of the month before, against a plain look-up.
#[test]
fn prices_a_month_earlier() {
    let Some(all) = lines("stocks.csv") else {
        return;
    };
    let sql = "CREATE STREAM stocks (ts TIMESTAMP, symbol VARCHAR, price DOUBLE, WATERMARK FOR ts AS ts); \
         CREATE PIPELINE p AS SELECT a.symbol, a.ts, a.price, b.price AS earlier FROM stocks AS a \
         ASOF JOIN stocks AS b MATCH_CONDITION (a.ts > b.ts) ON a.symbol = b.symbol";
    let mut rows: Vec<(i64, String, f64)> = Vec::new();
    for line in &all[1..] {
        let fields: Vec<&str> = line.split(',').collect();
        rows.push((
            first_of_month_ms(fields[1]),
            fields[0].into(),
            fields[2].parse().unwrap(),
        ));
    }
    rows.sort_by_key(|(ts, ..)| *ts);
    let mut rig = Rig::new(&plan(sql).remove(0), &[(1024, 0)]);
    for chunk in rows.chunks(37) {
        let record = |(ts, symbol, price): &(i64, String, f64)| {
            Record::of(json!({"ts": ts, "symbol": symbol, "price": price}).to_string())
        };
        rig.send(1024, &chunk.iter().map(record).collect::<Vec<_>>());
        rig.step();
        rig.crash();
    }
    let end = json!({"ts": 4_000_000_000_000_i64, "symbol": "end"});
    rig.send(1024, &[Record::of(end.to_string())]);
    rig.run();
    let mut last: BTreeMap<&str, f64> = BTreeMap::new();
    let mut expected = Vec::new();
    for (ts, symbol, price) in &rows {
        let earlier = last.insert(symbol, *price);
        expected.push((*ts, symbol.clone(), *price, earlier));
    }
    let mut found: Vec<(i64, String, f64, Option<f64>)> = Vec::new();
    for value in rig.values("p") {
        let row: Value = serde_json::from_str(&value).unwrap();
        if row["symbol"] == "end" {
            continue;
        }
        let ts = flowstone_processor::rfc3339::parse_ms(row["ts"].as_str().unwrap()).unwrap();
        found.push((
            ts,
            row["symbol"].as_str().unwrap().into(),
            row["price"].as_f64().unwrap(),
            row["earlier"].as_f64(),
        ));
    }
    let order = |a: &(i64, String, f64, Option<f64>), b: &(i64, String, f64, Option<f64>)| {
        (a.0, &a.1).cmp(&(b.0, &b.1))
    };
    found.sort_by(order);
    expected.sort_by(order);
    assert!(found.len() > 500);
    assert_eq!(found, expected);
}

/// `Jan 1 2000` as milliseconds since 1970.
fn first_of_month_ms(day: &str) -> i64 {
    let parts: Vec<&str> = day.split(' ').collect();
    let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = names.find(parts[0]).unwrap() / 3 + 1;
    let text = format!("{}-{month:02}-01T00:00:00Z", parts[2]);
    flowstone_processor::rfc3339::parse_ms(&text).unwrap()
}
