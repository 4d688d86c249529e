//! What is said of each operator: rows, late and failed records, state.

use crate::rig::{Record, Rig, plan};
use flowstone_processor::PartStatus;

const TEXT: &str = "
CREATE STREAM s (ts TIMESTAMP, k VARCHAR, v BIGINT, WATERMARK FOR ts AS ts)
  WITH (topic = 's', format = 'json');
CREATE PIPELINE p AS
  SELECT k, window_start, sum(10 / v) AS q
  FROM TUMBLE(s, ts, INTERVAL '1' MINUTE)
  WHERE v >= 0
  GROUP BY k, window_start, window_end
  EMIT ON WINDOW CLOSE;";

fn event(minute: u32, k: &str, v: i64) -> Record {
    Record::of(format!(
        r#"{{"ts":"2026-01-01T00:{minute:02}:00Z","k":"{k}","v":{v}}}"#
    ))
}

/// Of the operator of a kind: rows in and out, late, failed, and whether it has state.
fn of(parts: &[PartStatus], kind: &str) -> (u64, u64, u64, u64, bool) {
    let of_kind: Vec<_> = parts.iter().filter(|p| p.name.ends_with(kind)).collect();
    assert_eq!(of_kind.len(), 1, "{kind} in {parts:?}");
    let (s, state) = (&of_kind[0].stats, of_kind[0].state_bytes);
    (s.rows_in, s.rows_out, s.late, s.failed, state > 0)
}

#[test]
fn each_operator_counts_what_it_did_and_nothing_that_was_undone() {
    let mut rig = Rig::new(&plan(TEXT)[0], &[(1024, 0)]);
    let records = [
        event(1, "a", 1),
        event(1, "b", -1),
        event(1, "b", 0),
        Record::of("no json"),
        event(1, "a", 5),
        event(3, "a", 2),
        event(1, "c", 2),
    ];
    rig.send(1024, &records);
    rig.run();
    let parts = rig.task.parts();
    // One cannot be read, one divides by zero: the attempts with it and others were undone.
    assert_eq!(of(&parts, "stream"), (5, 5, 0, 1, false));
    assert_eq!(of(&parts, "windows"), (5, 5, 0, 0, false));
    assert_eq!(of(&parts, "filter"), (5, 4, 0, 0, false));
    assert_eq!(of(&parts, "group"), (4, 1, 1, 1, true));
    assert_eq!(of(&parts, "sink"), (1, 1, 0, 0, false));
    assert_eq!(rig.values("p").len(), 1);
    assert_eq!(rig.values("p.late").len(), 1);
    assert_eq!(rig.values("p.dlq").len(), 2);
}

#[test]
fn counts_go_on_with_the_same_operators_and_begin_again_with_others() {
    let mut rig = Rig::new(&plan(TEXT)[0], &[(1024, 0)]);
    rig.send(1024, &[event(1, "a", 1)]);
    rig.run();
    let same = &plan(&TEXT.replace("v >= 0", "v >= 1"))[0].pipeline;
    rig.task.become_of(same).unwrap();
    assert_eq!(of(&rig.task.parts(), "group").0, 1);
    let other = &plan(&TEXT.replace("WHERE v >= 0", ""))[0].pipeline;
    rig.task.become_of(other).unwrap();
    assert_eq!(of(&rig.task.parts(), "group"), (0, 0, 0, 0, true));
}
