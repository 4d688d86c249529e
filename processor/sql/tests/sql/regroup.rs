//! Grouping results that change: against DataFusion's own engine, and one by one.

use crate::oracle::{STREAM, case};
use crate::rig::{Rig, plan};
use crate::top::{agree, agree_every, event, said};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_of_groups(case in case()) {
        agree("SELECT c, count(*) AS g, sum(s) AS t, avg(s) AS a, min(k) AS mi, max(s) AS ma, count(s) AS cs FROM \
               (SELECT k, count(*) AS c, sum(n) AS s FROM t GROUP BY k) GROUP BY c", &case)?;
    }

    #[test]
    fn groups_that_come_and_go(case in case()) {
        agree("SELECT s % 3 AS r, min(n) AS mi, max(x) AS ma, sum(n) FILTER (WHERE k <> 'k1') AS f FROM \
               (SELECT k, n, sum(n) AS s, avg(x) AS x FROM t GROUP BY k, n HAVING sum(x) > 0) \
               GROUP BY s % 3 HAVING count(*) > 1", &case)?;
    }

    #[test]
    fn all_groups(case in case()) {
        agree("SELECT count(*) AS g, max(c) AS m, min(s) AS mi, avg(c) AS a FROM \
               (SELECT k, count(*) AS c, sum(n) AS s FROM t GROUP BY k)", &case)?;
    }

    #[test]
    fn groups_of_groups_now_and_then(case in case()) {
        agree_every("SELECT c, count(*) AS g, max(s) AS ma, min(k) AS mi FROM (SELECT k, count(*) AS c, sum(n) AS s FROM t \
                     WHERE k IS DISTINCT FROM 'end' GROUP BY k) GROUP BY c", &case)?;
    }

    #[test]
    fn distinct_results(case in case()) {
        agree("SELECT DISTINCT c, s FROM (SELECT k, count(*) AS c, sum(n) % 4 AS s FROM t GROUP BY k)", &case)?;
    }

    #[test]
    fn groups_of_first_rows(case in case()) {
        agree("SELECT n, count(*) AS c, sum(x) AS s FROM (SELECT * FROM (SELECT *, row_number() OVER \
               (PARTITION BY k ORDER BY x DESC, n, ts) AS r FROM t) WHERE r <= 3) GROUP BY n", &case)?;
    }

    #[test]
    fn the_first_of_groups_of_groups(case in case()) {
        agree("SELECT c, g, r FROM (SELECT *, row_number() OVER (ORDER BY g DESC, c) AS r FROM \
               (SELECT c, count(*) AS g FROM (SELECT k, n, count(*) AS c FROM t GROUP BY k, n) GROUP BY c)) \
               WHERE r <= 2", &case)?;
    }
}

fn rig(sql: &str) -> Rig {
    let planned = plan(&format!("{STREAM} CREATE PIPELINE p AS {sql} EMIT CHANGES")).remove(0);
    Rig::new(&planned, &[(1024, 0)])
}

#[test]
fn a_group_whose_last_row_is_taken_back_is_gone_with_what_was_kept_of_it() {
    let mut rig = rig("SELECT c, count(*) AS g, max(k) AS m FROM \
                       (SELECT k, count(*) AS c FROM t GROUP BY k) GROUP BY c");
    assert_eq!(
        said(&mut rig, event("a", 1)),
        [r#"1 {"c":1,"g":1,"m":"a"}"#]
    );
    let bytes = rig.task.state_bytes();
    assert_eq!(
        said(&mut rig, event("b", 1)),
        [r#"1 {"c":1,"g":2,"m":"b"}"#]
    );
    assert_eq!(
        said(&mut rig, event("b", 1)),
        [r#"2 {"c":2,"g":1,"m":"b"}"#, r#"1 {"c":1,"g":1,"m":"a"}"#]
    );
    assert_eq!(
        said(&mut rig, event("a", 1)),
        [r#"2 {"c":2,"g":2,"m":"b"}"#, "1 -"]
    );
    // Two rows in the group below, and one group here with two values: nothing of the group that is gone.
    let of_kind = |n: usize| rig.task.parts()[n].state_bytes;
    assert!(of_kind(1) > 0 && of_kind(3) > 0, "{:?}", rig.task.parts());
    assert!(rig.task.state_bytes() < 2 * bytes + bytes / 2);
}

#[test]
fn without_group_by_there_is_a_result_of_no_rows() {
    let mut rig = rig("SELECT count(*) AS g, sum(s) AS t, max(s) AS m FROM \
                       (SELECT k, sum(n) AS s FROM t GROUP BY k HAVING sum(n) <> 0)");
    said(&mut rig, event("a", 2));
    assert_eq!(said(&mut rig, event("b", 4)), [r#"- {"g":2,"t":6,"m":4}"#]);
    assert_eq!(said(&mut rig, event("b", -4)), [r#"- {"g":1,"t":2,"m":2}"#]);
    assert_eq!(
        said(&mut rig, event("a", -2)),
        [r#"- {"g":0,"t":null,"m":null}"#]
    );
}
