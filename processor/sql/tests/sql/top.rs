//! The first rows of each group, as they change: against DataFusion's own engine, and one by one.

use crate::oracle::{Case, STREAM, batch, case, comparable, json, table};
use crate::rig::{Record, Rig, plan};
use crate::spread::{Shards, Site};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeMap;

/// What the records of a topic leave: the last one of each key, without those that are gone.
fn left(rig: &mut impl Site, case: &Case, end: &[Record]) -> Vec<String> {
    rig.limit(case.max_records);
    for rows in case.rows.chunks(case.batch) {
        let records: Vec<Record> = rows.iter().map(|r| Record::of(json(r))).collect();
        rig.send(1024, &records);
        rig.step();
        rig.crash();
    }
    if !end.is_empty() {
        rig.send(1024, end);
    }
    while rig.step() {
        rig.crash();
    }
    assert_eq!(rig.values("p.dlq"), [""; 0], "nothing fails");
    let mut last = BTreeMap::new();
    for out in rig.outs() {
        last.insert(out.key.clone(), out.value.clone());
    }
    last.into_values().flatten().collect()
}

/// In one task, with memory for a few entries only, and in two parts over several shards.
pub(crate) fn agree(sql: &str, case: &Case) -> Result<(), TestCaseError> {
    agree_when("CHANGES", sql, case, &[])
}

/// The same where changes are held back until their time comes; the query leaves out the key `end`.
pub(crate) fn agree_every(sql: &str, case: &Case) -> Result<(), TestCaseError> {
    let end = Record::of(r#"{"ts":10000000,"k":"end"}"#);
    agree_when("EVERY INTERVAL '3' SECOND", sql, case, &[end])
}

fn agree_when(emit: &str, sql: &str, case: &Case, end: &[Record]) -> Result<(), TestCaseError> {
    let theirs = comparable(&batch(sql, table(&case.rows)));
    for with in ["", "WITH (state_bytes_max = 1024)"] {
        let text = format!("{STREAM} CREATE PIPELINE p {with} AS {sql} EMIT {emit}");
        let planned = plan(&text).remove(0);
        let ours = left(&mut Rig::new(&planned, &[(1024, 0)]), case, end);
        prop_assert_eq!(comparable(&ours), theirs.clone(), "{} {}", with, sql);
        if let Some(spread) = &planned.spread {
            let ours = left(&mut Shards::new(spread, &[(1024, 0)], 3), case, end);
            let how = &spread.back_explained;
            prop_assert_eq!(comparable(&ours), theirs.clone(), "{}", how);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_rows(case in case()) {
        agree("SELECT k, n, x, r FROM (SELECT *, row_number() OVER \
               (PARTITION BY k ORDER BY n DESC, x, ts) AS r FROM t) WHERE r <= 3", &case)?;
    }

    #[test]
    fn of_all_rows_without_their_rank(case in case()) {
        agree("SELECT k, n FROM (SELECT *, row_number() OVER (ORDER BY k NULLS FIRST, n, x, ts) AS r FROM t) \
               WHERE r < 5", &case)?;
    }

    #[test]
    fn of_groups_that_change(case in case()) {
        agree("SELECT k, c, s, r FROM (SELECT *, row_number() OVER (ORDER BY c DESC, k) AS r FROM \
               (SELECT k, count(*) AS c, sum(n) AS s FROM t GROUP BY k)) WHERE r <= 2", &case)?;
    }

    #[test]
    fn of_groups_that_come_and_go(case in case()) {
        agree("SELECT k, n, s, r FROM (SELECT *, row_number() OVER (PARTITION BY s % 3 ORDER BY s, n, k) AS r FROM \
               (SELECT k, n, sum(x) AS s FROM t GROUP BY k, n HAVING sum(x) > 0)) WHERE r <= 2", &case)?;
    }

    #[test]
    fn of_the_first_ones(case in case()) {
        agree("SELECT k, n, x, q FROM (SELECT *, row_number() OVER (ORDER BY n, k, x, ts) AS q FROM \
               (SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY x DESC, n, ts) AS r FROM t) \
                WHERE r <= 2)) WHERE q <= 4", &case)?;
    }
}

pub(crate) fn event(k: &str, n: i64) -> Record {
    Record::of(format!(r#"{{"ts":1,"k":"{k}","n":{n},"x":0.5}}"#))
}

fn rig(sql: &str) -> Rig {
    let planned = plan(&format!("{STREAM} CREATE PIPELINE p AS {sql}")).remove(0);
    Rig::new(&planned, &[(1024, 0)])
}

/// What comes out behind one more record: key and value.
pub(crate) fn said(rig: &mut Rig, record: Record) -> Vec<String> {
    let before = rig.outs.len();
    rig.send(1024, &[record]);
    rig.run();
    let text = |o: &Option<String>| o.clone().unwrap_or_else(|| "-".into());
    let fresh = rig.outs[before..].iter();
    fresh
        .map(|o| text(&o.key) + " " + &text(&o.value))
        .collect()
}

#[test]
fn only_ranks_that_change_are_given_out_and_only_what_is_wanted_is_kept() {
    let mut rig = rig(
        "SELECT k, n, r FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS r FROM t) \
                       WHERE r <= 2 EMIT CHANGES",
    );
    assert_eq!(
        said(&mut rig, event("a", 5)),
        [r#"["a",1] {"k":"a","n":5,"r":1}"#]
    );
    assert_eq!(
        said(&mut rig, event("a", 3)),
        [r#"["a",2] {"k":"a","n":3,"r":2}"#]
    );
    let bytes = rig.task.state_bytes();
    // Worse, and equal but later: nothing changes.
    assert_eq!(said(&mut rig, event("a", 1)), [""; 0]);
    assert_eq!(said(&mut rig, event("a", 3)), [""; 0]);
    assert_eq!(
        said(&mut rig, event("a", 9)),
        [
            r#"["a",1] {"k":"a","n":9,"r":1}"#,
            r#"["a",2] {"k":"a","n":5,"r":2}"#
        ]
    );
    assert_eq!(rig.task.state_bytes(), bytes, "no more rows than wanted");
}

#[test]
fn a_rank_that_nobody_has_any_more_is_taken_back() {
    let mut rig = rig(
        "SELECT k, s, r FROM (SELECT *, row_number() OVER (ORDER BY s DESC) AS r FROM \
                       (SELECT k, sum(n) AS s FROM t GROUP BY k HAVING sum(n) > 0)) WHERE r <= 2 EMIT CHANGES",
    );
    assert_eq!(
        said(&mut rig, event("a", 5)),
        [r#"1 {"k":"a","s":5,"r":1}"#]
    );
    assert_eq!(said(&mut rig, event("b", 7)).len(), 2);
    assert_eq!(
        said(&mut rig, event("c", 1)),
        [""; 0],
        "the third is not wanted, but kept"
    );
    assert_eq!(
        said(&mut rig, event("b", -7)),
        [r#"1 {"k":"a","s":5,"r":1}"#, r#"2 {"k":"c","s":1,"r":2}"#]
    );
    assert_eq!(said(&mut rig, event("c", -1)), ["2 -"]);
}

#[test]
fn results_whose_keys_look_the_same_are_two() {
    let mut rig = rig(
        "SELECT k, c, r FROM (SELECT *, row_number() OVER (ORDER BY c DESC) AS r FROM \
                       (SELECT k, count(*) AS c FROM t GROUP BY k)) WHERE r <= 3 EMIT CHANGES",
    );
    let nobody = || Record::of(r#"{"ts":1,"n":1}"#);
    said(&mut rig, nobody());
    assert_eq!(said(&mut rig, event("", 1)), [r#"2 {"k":"","c":1,"r":2}"#]);
    assert_eq!(
        said(&mut rig, nobody()),
        [r#"1 {"k":null,"c":2,"r":1}"#],
        "the other one stays"
    );
}

#[test]
fn what_is_ranked_by_may_be_any_text() {
    let mut rig = rig(
        "SELECT k, n FROM (SELECT *, row_number() OVER (PARTITION BY CAST(n AS VARCHAR) || k \
                       ORDER BY x) AS r FROM t) WHERE r = 1 EMIT CHANGES",
    );
    assert_eq!(
        said(&mut rig, event("a", 1)),
        [r#"["1a",1] {"k":"a","n":1}"#]
    );
    assert_eq!(
        said(&mut rig, event("a", 2)),
        [r#"["2a",1] {"k":"a","n":2}"#]
    );
}

/// More than is given out at once.
#[test]
fn many_ranks_that_change_at_once_are_all_given_out() {
    let (groups, ranks) = (60_i64, 150_i64);
    let mut rig = rig(
        "SELECT k, n, r FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS r FROM t) \
                       WHERE r <= 150 EMIT CHANGES",
    );
    let of_all =
        |n: i64| -> Vec<Record> { (0..groups).map(|g| event(&format!("k{g}"), n)).collect() };
    for n in (1..=ranks).rev() {
        rig.send(1024, &of_all(n));
    }
    rig.run();
    rig.send(1024, &of_all(1000));
    let before = rig.outs.len();
    rig.run();
    assert_eq!(rig.outs.len() - before, (groups * ranks) as usize);
    let mut last = BTreeMap::new();
    for out in &rig.outs {
        last.insert(out.key.clone(), out.value.clone().unwrap());
    }
    for group in 0..groups {
        for rank in 1..=ranks {
            let n = if rank == 1 { 1000 } else { ranks + 2 - rank };
            let key = format!(r#"["k{group}",{rank}]"#);
            let row = format!(r#"{{"k":"k{group}","n":{n},"r":{rank}}}"#);
            assert_eq!(last.get(&Some(key)), Some(&row));
        }
    }
}

#[test]
fn what_takes_results_back_must_find_them_as_they_were() {
    let signature = |having: &str, shown: &str, kept: &str| {
        let sql = format!(
            "SELECT k, s FROM (SELECT *, row_number() OVER (ORDER BY s DESC) AS r FROM \
             (SELECT k, {shown} AS s FROM t WHERE {kept} GROUP BY k HAVING sum(n) > {having})) WHERE r <= 3 EMIT CHANGES"
        );
        plan(&format!("{STREAM} CREATE PIPELINE p AS {sql}"))
            .remove(0)
            .signature
    };
    let before = signature("0", "sum(n)", "n > 1");
    assert_eq!(signature("0", "sum(n)", "n > 2"), before);
    assert_ne!(signature("1", "sum(n)", "n > 1"), before);
    assert_ne!(signature("0", "sum(n) * 2", "n > 1"), before);
}

#[test]
fn keys_of_several_streams_are_no_place_to_meet() {
    let text = "CREATE STREAM a (k VARCHAR FROM KEY, n BIGINT); CREATE STREAM b (k VARCHAR FROM KEY, n BIGINT); \
                CREATE PIPELINE p AS SELECT k, count(*) AS c FROM (SELECT k FROM a UNION ALL SELECT k FROM b) \
                GROUP BY k EMIT CHANGES";
    let planned = plan(text).remove(0);
    assert!(planned.gathers && planned.spread.is_some());
}

#[test]
fn of_equal_rows_those_that_came_first_are_first() {
    let mut rig = rig(
        "SELECT n, x, r FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY n) AS r FROM t) \
                       WHERE r <= 4 EMIT CHANGES",
    );
    let record = |x: f64| Record::of(format!(r#"{{"ts":1,"k":"a","n":1,"x":{x:?}}}"#));
    rig.send(1024, &[record(3.0), record(1.0), record(3.0)]);
    rig.run();
    rig.send(1024, &[record(2.0), record(0.0)]);
    rig.run();
    let expected = [3.0, 1.0, 3.0, 2.0].into_iter().zip(1..);
    let expected: Vec<String> = expected
        .map(|(x, r)| format!(r#"{{"n":1,"x":{x:?},"r":{r}}}"#))
        .collect();
    assert_eq!(rig.values("p"), expected);
}
