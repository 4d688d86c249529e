//! The results of pipelines against those of DataFusion's own engine over the same rows.
//!
//! The rows come in random order within the lateness, in random batches, over random partitions,
//! with crashes between the steps; each window must come out once, as the batch engine has it.

use crate::rig::{Record, Rig, plan};
use crate::spread::{Shards, Site};
use datafusion::arrow::array::{
    Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How far rows come out of order.
const DISORDER_MS: i64 = 5_000;
/// The last row of each partition: it closes everything before it.
const END_MS: i64 = 10_000_000;

pub(crate) const STREAM: &str = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, x DOUBLE, \
     WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);";

/// Memory for a few entries of the state: the others are read back when they are needed.
const TIGHT: &str = "WITH (state_bytes_max = 1024)";

#[derive(Clone, Debug)]
pub(crate) struct Row {
    ts: i64,
    k: Option<String>,
    n: Option<i64>,
    x: Option<f64>,
}

fn row() -> impl Strategy<Value = Row> {
    let k = prop_oneof![1 => Just(None), 6 => (0u8..5).prop_map(|k| Some(format!("k{k}")))];
    let n = prop_oneof![1 => Just(None), 6 => (-20i64..20).prop_map(Some)];
    // Quarters add up without rounding, in whichever order.
    let x =
        prop_oneof![1 => Just(None), 6 => (-400i32..400).prop_map(|q| Some(f64::from(q) / 4.0))];
    (0i64..90_000, k, n, x).prop_map(|(ts, k, n, x)| Row { ts, k, n, x })
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) rows: Vec<Row>,
    /// For each row how much later than its time it arrives.
    delays: Vec<i64>,
    partitions: u32,
    pub(crate) batch: usize,
    pub(crate) max_records: usize,
    crash_every: usize,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let rows = prop::collection::vec((row(), 0..DISORDER_MS), 1..120);
    (rows, 1u32..4, 1usize..40, 1usize..60, 1usize..6).prop_map(
        |(rows, partitions, batch, max_records, crash_every)| {
            let (rows, delays) = rows.into_iter().unzip();
            Case {
                rows,
                delays,
                partitions,
                batch,
                max_records,
                crash_every,
            }
        },
    )
}

pub(crate) fn json(row: &Row) -> String {
    serde_json::json!({"ts": row.ts, "k": row.k, "n": row.n, "x": row.x}).to_string()
}

/// Runs a pipeline over the case; gives the records of its topic. The same must come out where it runs in two
/// parts on several shards.
fn streamed(sql: &str, case: &Case) -> Vec<String> {
    let planned = plan(&format!("{STREAM} CREATE PIPELINE p AS {sql}")).remove(0);
    let partitions: Vec<(u32, u16)> = (0..case.partitions).map(|p| (1024 + p, 0)).collect();
    let whole = feed(&mut Rig::new(&planned, &partitions), &partitions, case);
    let tight = plan(&format!("{STREAM} CREATE PIPELINE p {TIGHT} AS {sql}")).remove(0);
    let read_back = feed(&mut Rig::new(&tight, &partitions), &partitions, case);
    // Sums of fractions go by the order in which rows are taken together.
    assert_eq!(
        comparable(&read_back),
        comparable(&whole),
        "with memory for less than the state"
    );
    if let Some(spread) = &planned.spread {
        let parts = feed(&mut Shards::new(spread, &partitions, 3), &partitions, case);
        assert_eq!(
            comparable(&parts),
            comparable(&whole),
            "{}",
            spread.back_explained
        );
    }
    whole
}

fn feed(rig: &mut impl Site, partitions: &[(u32, u16)], case: &Case) -> Vec<String> {
    rig.limit(case.max_records);
    let mut order: Vec<usize> = (0..case.rows.len()).collect();
    order.sort_by_key(|i| case.rows[*i].ts + case.delays[*i]);
    let mut waiting: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for (at, i) in order.iter().enumerate() {
        let partition = 1024 + (*i as u32 * 7 + 3) % case.partitions;
        waiting
            .entry(partition)
            .or_default()
            .push(Record::of(json(&case.rows[*i])));
        if at % case.batch == 0 {
            send(rig, &mut waiting);
            if at % case.crash_every == 0 {
                rig.step();
                rig.crash();
            }
        }
    }
    send(rig, &mut waiting);
    for (partition, _) in partitions {
        let end = Row {
            ts: END_MS,
            k: Some("end".into()),
            n: None,
            x: None,
        };
        rig.send(*partition, &[Record::of(json(&end))]);
    }
    while rig.step() {
        rig.crash();
    }
    assert_eq!(rig.values("p.late"), [""; 0], "nothing is late");
    assert_eq!(rig.values("p.dlq"), [""; 0], "nothing fails");
    rig.values("p")
}

fn send(rig: &mut impl Site, waiting: &mut BTreeMap<u32, Vec<Record>>) {
    for (partition, records) in std::mem::take(waiting) {
        rig.send(partition, &records);
    }
}

pub(crate) fn table(rows: &[Row]) -> RecordBatch {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let fields = vec![
        Field::new("ts", time, true),
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
    ];
    let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(
            rows.iter().map(|r| r.ts),
        )),
        Arc::new(rows.iter().map(|r| r.k.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.n).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.x).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// What the batch engine says.
pub(crate) fn batch(sql: &str, rows: RecordBatch) -> Vec<String> {
    batch_of(sql, &[("t", rows)])
}

fn batch_of(sql: &str, tables: &[(&str, RecordBatch)]) -> Vec<String> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for (name, rows) in tables {
        ctx.register_batch(*name, rows.clone()).unwrap();
    }
    let batches = block_on(async {
        let mut all = Vec::new();
        // Stream by stream: to run them at once the engine would start threads.
        for stream in ctx
            .sql(sql)
            .await
            .unwrap()
            .execute_stream_partitioned()
            .await
            .unwrap()
        {
            all.extend(
                datafusion::physical_plan::common::collect(stream)
                    .await
                    .unwrap(),
            );
        }
        all
    });
    let mut lines = Vec::new();
    let builder = datafusion::arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, datafusion::arrow::json::writer::LineDelimited>(&mut lines);
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.finish().unwrap();
    drop(writer);
    String::from_utf8(lines)
        .unwrap()
        .lines()
        .map(Into::into)
        .collect()
}

/// Polls until it is done: nothing here waits for anything.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
    }
}

/// Rows in an order of their own, times as milliseconds, numbers as floats, without the rows of the
/// end marker.
pub(crate) fn comparable(lines: &[String]) -> Vec<String> {
    let mut all: Vec<String> = lines
        .iter()
        .map(|line| {
            let row: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
            let said = row
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)));
            said.collect::<Vec<_>>().join(" ")
        })
        .filter(|row| !row.contains("=end"))
        .collect();
    all.sort();
    all
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let zoned = if text.ends_with('Z') {
                text.clone()
            } else {
                format!("{text}Z")
            };
            flowstone_processor::rfc3339::parse_ms(&zoned).map_or(text.clone(), |ms| ms.to_string())
        }
        Value::Number(number) => format!("{:.9}", number.as_f64().unwrap()),
        other => other.to_string(),
    }
}

#[track_caller]
fn agree(stream_sql: &str, batch_sql: &str, case: &Case) -> Result<(), TestCaseError> {
    let ours = comparable(&streamed(stream_sql, case));
    let theirs = comparable(&batch(batch_sql, table(&case.rows)));
    prop_assert_eq!(ours, theirs, "{}", stream_sql);
    Ok(())
}

const AGGREGATES: &str = "count(*) AS c, count(n) AS cn, sum(n) AS s, min(n) AS mi, max(x) AS ma, \
     avg(x) AS av, count(DISTINCT n) AS d, sum(x) FILTER (WHERE n > 0) AS f, stddev(n) AS sd, \
     bool_and(n > -15) AS ba, approx_distinct(k) AS ad";

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn filter_and_project(case in case()) {
        let sql = "SELECT upper(k) AS k, n * 2 + 1 AS n, x / 4.0 AS x, \
                   CASE WHEN n > 3 THEN 'high' ELSE 'low' END AS l FROM t WHERE n % 2 = 0 OR k IS NULL";
        agree(sql, sql, &case)?;
    }

    #[test]
    fn tumbling(case in case()) {
        let ours = format!("SELECT k, window_start AS s0, window_end AS e0, {AGGREGATES} \
             FROM TUMBLE(t, ts, INTERVAL '10' SECOND) WHERE n IS DISTINCT FROM 7 \
             GROUP BY k, window_start, window_end");
        let theirs = format!("SELECT k, date_bin(INTERVAL '10' SECOND, ts, TIMESTAMP '1970-01-01') AS s0, \
             date_bin(INTERVAL '10' SECOND, ts, TIMESTAMP '1970-01-01') + INTERVAL '10' SECOND AS e0, {AGGREGATES} \
             FROM t WHERE n IS DISTINCT FROM 7 GROUP BY k, s0, e0");
        agree(&ours, &theirs, &case)?;
    }

    #[test]
    fn tumbling_with_having_over_an_expression(case in case()) {
        let ours = "SELECT k || '!' AS kk, window_end AS e0, count(*) + 1 AS c \
             FROM TUMBLE(t, ts, INTERVAL '7' SECOND) GROUP BY k || '!', window_start, window_end HAVING count(*) > 1";
        let theirs = "SELECT k || '!' AS kk, date_bin(INTERVAL '7' SECOND, ts, TIMESTAMP '1970-01-01') + INTERVAL '7' SECOND AS e0, \
             count(*) + 1 AS c FROM t GROUP BY kk, e0 HAVING count(*) > 1";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn hopping(case in case()) {
        let ours = "SELECT k, window_start AS s0, count(*) AS c, sum(n) AS s, avg(x) AS a \
             FROM HOP(t, ts, INTERVAL '3' SECOND, INTERVAL '12' SECOND) GROUP BY k, window_start, window_end";
        let theirs = "SELECT k, b - o AS s0, count(*) AS c, sum(n) AS s, avg(x) AS a FROM \
             (SELECT *, date_bin(INTERVAL '3' SECOND, ts, TIMESTAMP '1970-01-01') AS b FROM t) \
             CROSS JOIN (VALUES (INTERVAL '0' SECOND), (INTERVAL '3' SECOND), (INTERVAL '6' SECOND), (INTERVAL '9' SECOND)) AS w(o) \
             GROUP BY k, s0";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn cumulative(case in case()) {
        let ours = "SELECT k, window_start AS s0, window_end AS e0, count(*) AS c, max(n) AS m \
             FROM CUMULATE(t, ts, INTERVAL '2' SECOND, INTERVAL '6' SECOND) GROUP BY k, window_start, window_end";
        let theirs = "SELECT k, b AS s0, b + o AS e0, count(*) AS c, max(n) AS m FROM \
             (SELECT *, date_bin(INTERVAL '6' SECOND, ts, TIMESTAMP '1970-01-01') AS b FROM t) \
             CROSS JOIN (VALUES (INTERVAL '2' SECOND), (INTERVAL '4' SECOND), (INTERVAL '6' SECOND)) AS w(o) \
             WHERE ts < b + o GROUP BY k, s0, e0";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn sessions(case in case()) {
        let ours = "SELECT k, window_start AS s0, window_end AS e0, count(*) AS c, sum(n) AS s \
             FROM SESSION(t, ts, INTERVAL '4' SECOND) GROUP BY k, window_start, window_end";
        let theirs = "SELECT k, min(ts) AS s0, max(ts) + INTERVAL '4' SECOND AS e0, count(*) AS c, sum(n) AS s FROM \
             (SELECT *, sum(fresh) OVER (PARTITION BY k ORDER BY ts ROWS UNBOUNDED PRECEDING) AS g FROM \
               (SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts) < INTERVAL '4' SECOND THEN 0 ELSE 1 END AS fresh FROM t)) \
             GROUP BY k, g";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn distinct(case in case()) {
        agree("SELECT DISTINCT k, n FROM t", "SELECT DISTINCT k, n FROM t", &case)?;
    }

    #[test]
    fn distinct_in_windows(case in case()) {
        let ours = "SELECT DISTINCT k, window_start AS s0, window_end AS e0 FROM TUMBLE(t, ts, INTERVAL '10' SECOND)";
        let theirs = "SELECT DISTINCT k, date_bin(INTERVAL '10' SECOND, ts, TIMESTAMP '1970-01-01') AS s0, \
             date_bin(INTERVAL '10' SECOND, ts, TIMESTAMP '1970-01-01') + INTERVAL '10' SECOND AS e0 FROM t";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn windows_over_windows(case in case()) {
        let ours = "WITH small AS (SELECT k, window_start, window_end, count(*) AS c \
               FROM TUMBLE(t, ts, INTERVAL '5' SECOND) GROUP BY k, window_start, window_end), \
             renamed AS (SELECT k, window_end AS at, c FROM small) \
             SELECT k, window_start AS s0, max(c) AS m, count(*) AS w FROM TUMBLE(renamed, at, INTERVAL '20' SECOND) \
             GROUP BY k, window_start, window_end";
        let theirs = "SELECT k, date_bin(INTERVAL '20' SECOND, at, TIMESTAMP '1970-01-01') AS s0, max(c) AS m, count(*) AS w FROM \
             (SELECT k, date_bin(INTERVAL '5' SECOND, ts, TIMESTAMP '1970-01-01') + INTERVAL '5' SECOND AS at, count(*) AS c FROM t GROUP BY k, at) \
             GROUP BY k, s0";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn groups_of_windows_that_were_grouped(case in case()) {
        let grouped = |counted: &str| format!("SELECT max(c) AS m, count(*) AS g, s0, e0 FROM ({counted}) GROUP BY s0, e0");
        let ours = grouped("SELECT k, window_start AS s0, window_end AS e0, count(*) AS c \
             FROM HOP(t, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end");
        let theirs = grouped("SELECT k, b - o AS s0, b - o + INTERVAL '10' SECOND AS e0, count(*) AS c FROM \
             (SELECT *, date_bin(INTERVAL '5' SECOND, ts, TIMESTAMP '1970-01-01') AS b FROM t) \
             CROSS JOIN (VALUES (INTERVAL '0' SECOND), (INTERVAL '5' SECOND)) AS w(o) GROUP BY k, s0, e0");
        agree(&ours, &theirs, &case)?;
    }

    #[test]
    fn the_first_of_each_window(case in case()) {
        let ours = "SELECT k, s0, c, r FROM (SELECT k, window_start AS s0, c, \
             row_number() OVER (PARTITION BY window_start, window_end ORDER BY c DESC, k) AS r FROM \
             (SELECT k, window_start, window_end, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '15' SECOND) \
              GROUP BY k, window_start, window_end)) WHERE r <= 2";
        let theirs = "SELECT k, s0, c, r FROM (SELECT k, s0, c, \
             row_number() OVER (PARTITION BY s0 ORDER BY c DESC, k) AS r FROM \
             (SELECT k, date_bin(INTERVAL '15' SECOND, ts, TIMESTAMP '1970-01-01') AS s0, count(*) AS c FROM t \
              GROUP BY k, s0)) WHERE r <= 2";
        agree(ours, theirs, &case)?;
    }

    #[test]
    fn union_all(case in case()) {
        let sql = "SELECT k, n FROM t WHERE n > 0 UNION ALL SELECT upper(k), n + 1 FROM t WHERE n < 5";
        agree(sql, sql, &case)?;
    }

    /// The last record of each key is the row of the batch result; a tombstone means there is none.
    #[test]
    fn changes_end_in_the_result(case in case()) {
        let sql = "SELECT k, count(*) AS c, sum(n) AS s FROM t GROUP BY k HAVING sum(n) > 3";
        let planned = plan(&format!("{STREAM} CREATE PIPELINE p AS {sql} EMIT CHANGES")).remove(0);
        let mut rig = Rig::new(&planned, &[(1024, 0)]);
        rig.limits.max_records = case.max_records;
        for rows in case.rows.chunks(case.batch) {
            let records: Vec<Record> = rows.iter().map(|r| Record::of(json(r))).collect();
            rig.send(1024, &records);
            rig.step();
            rig.crash();
        }
        rig.run();
        let mut last = BTreeMap::new();
        for out in &rig.outs {
            last.insert(out.key.clone(), out.value.clone());
        }
        let ours: Vec<String> = last.into_values().flatten().collect();
        prop_assert_eq!(comparable(&ours), comparable(&batch(sql, table(&case.rows))));
    }
}

/// Two streams in one case: rows of `t` whose number is even, and the others.
const PAIR: &str = "CREATE STREAM a (ts TIMESTAMP, k VARCHAR, n BIGINT, x DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND); \
     CREATE STREAM b (ts TIMESTAMP, k VARCHAR, n BIGINT, x DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);";

fn joined(sql: &str, case: &Case) -> Vec<String> {
    let planned = plan(&format!("{PAIR} CREATE PIPELINE p AS {sql}")).remove(0);
    let partitions = [(1024, 0), (1025, 1)];
    let whole = feed_both(&mut Rig::new(&planned, &partitions), case);
    let tight = plan(&format!("{PAIR} CREATE PIPELINE p {TIGHT} AS {sql}")).remove(0);
    let read_back = feed_both(&mut Rig::new(&tight, &partitions), case);
    // Pairs come in the order in which rows of both sides are taken together.
    assert_eq!(
        comparable(&read_back),
        comparable(&whole),
        "with memory for less than the state"
    );
    let spread = planned.spread.as_ref().unwrap();
    let parts = feed_both(&mut Shards::new(spread, &partitions, 3), case);
    assert_eq!(
        comparable(&parts),
        comparable(&whole),
        "{}",
        spread.back_explained
    );
    whole
}

fn feed_both(rig: &mut impl Site, case: &Case) -> Vec<String> {
    rig.limit(case.max_records);
    let mut order: Vec<usize> = (0..case.rows.len()).collect();
    order.sort_by_key(|i| case.rows[*i].ts + case.delays[*i]);
    for rows in order.chunks(case.batch) {
        for side in 0..2 {
            let of = rows.iter().filter(|i| **i % 2 == side);
            let records: Vec<Record> = of.map(|i| Record::of(json(&case.rows[*i]))).collect();
            if !records.is_empty() {
                rig.send(1024 + side as u32, &records);
            }
        }
        rig.step();
        rig.crash();
    }
    for partition in [1024, 1025] {
        for ts in [END_MS, 2 * END_MS] {
            let end = Row {
                ts,
                k: Some("end".into()),
                n: None,
                x: None,
            };
            rig.send(partition, &[Record::of(json(&end))]);
        }
    }
    while rig.step() {
        rig.crash();
    }
    assert_eq!(rig.values("p.late"), [""; 0], "nothing is late");
    assert_eq!(rig.values("p.dlq"), [""; 0], "nothing fails");
    rig.values("p")
}

fn join_agrees(kind: &str, case: &Case) -> Result<(), TestCaseError> {
    let sql = format!(
        "SELECT a.k AS k, a.n AS n, b.n AS m, b.k AS o FROM a {kind} JOIN b ON a.k = b.k \
         AND b.ts BETWEEN a.ts - INTERVAL '7' SECOND AND a.ts + INTERVAL '3' SECOND AND a.n <> b.n"
    );
    let ours = comparable(&joined(&sql, case));
    let side = |s: usize| -> Vec<Row> {
        let of = case.rows.iter().enumerate().filter(|(i, _)| i % 2 == s);
        of.map(|(_, r)| r.clone()).collect()
    };
    let theirs = comparable(&batch_of(
        &sql,
        &[("a", table(&side(0))), ("b", table(&side(1)))],
    ));
    prop_assert_eq!(ours, theirs, "{}", sql);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inner_join_within_bounds(case in case()) {
        join_agrees("INNER", &case)?;
    }

    #[test]
    fn left_join_within_bounds(case in case()) {
        join_agrees("LEFT", &case)?;
    }

    #[test]
    fn full_join_within_bounds(case in case()) {
        join_agrees("FULL", &case)?;
    }
}
