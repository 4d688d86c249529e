//! Tasks: what they did is there after whatever happens, and nothing is of those that are gone.

use super::*;
use std::collections::BTreeSet;

#[test]
fn a_task_goes_on_where_it_was_and_what_fails_is_kept() {
    for materialize_bytes in [1, 1 << 20] {
        let mut rig = Rig::new(ShardConfig {
            materialize_bytes,
            ..CONFIG
        });
        rig.task = Some(numbers(B));
        let mut rig = rig.reopen();
        for value in ["x", "bad", "y"] {
            rig.produce(plain(value, 1), Acks::Durable).unwrap();
        }
        let mut rig = rig.power_cut();
        rig.produce(plain("z", 1), Acks::Durable).unwrap();
        assert_eq!(rig.values(B, Offset(0)), ["1", "2", "3"]);
        assert_eq!(rig.values(DLQ, Offset(0)), ["bad"]);
        let mut rig = rig.reopen();
        assert_eq!(rig.values(B, Offset(0)), ["1", "2", "3"]);
    }
}

#[test]
fn of_a_pipeline_that_is_gone_nothing_stays() {
    let mut rig = Rig::new(ShardConfig {
        materialize_bytes: 1,
        ..CONFIG
    });
    rig.task = Some(numbers(B));
    let mut rig = rig.reopen();
    let stored = |rig: &Rig| {
        let mut rows = 0;
        let mut count = |key: &[u8], _: &[u8]| rows += usize::from(matches!(key[0], b't' | b'd'));
        rig.state.load(&mut count).unwrap();
        rows
    };
    rig.produce(plain("x", 1), Acks::Durable).unwrap();
    rig.advance(10_000);
    assert!(stored(&rig) > 0);
    let id = numbers(B).id;
    let others = |below| Input::ForgetTasks {
        known: BTreeSet::new(),
        below,
    };
    rig.step(others(id));
    rig.produce(plain("y", 1), Acks::Durable).unwrap();
    assert_eq!(
        rig.values(B, Offset(0)),
        ["1", "2"],
        "it may be a newer one"
    );
    rig.step(others(id + 1));
    rig.produce(plain("z", 1), Acks::Durable).unwrap();
    assert_eq!(rig.values(B, Offset(0)), ["1", "2"]);
    rig.task = None;
    let mut rig = rig.reopen();
    rig.step(others(id + 1));
    rig.produce(plain("z", 1), Acks::Durable).unwrap();
    rig.advance(10_000);
    assert_eq!(stored(&rig), 0);
}

#[test]
fn a_step_without_room_is_not_stored_as_done() {
    // The disk is full when the task has computed its step: its group has no place in the log.
    let log = LogConfig {
        min_free_bytes: 1 << 20,
        ..CONFIG.log
    };
    let mut rig = Rig::new(ShardConfig { log, ..CONFIG });
    rig.task = Some(numbers(B));
    let mut rig = rig.reopen();
    rig.fill_disk(1 << 20);
    while rig
        .produce(plain(&"x".repeat(100), 1), Acks::Durable)
        .is_ok()
    {}
    while rig.produce(plain("x", 1), Acks::Durable).is_ok() {}
    let sent = rig.values(A, Offset(0)).len();
    // Deleting a topic has the state store brought up to date.
    rig.step(Input::ClosePartition { partition: LATE });
    rig.step(Input::Turn);
    rig.partitions.retain(|(p, _)| *p != LATE);
    rig.disk.set_capacity(None);
    let mut rig = rig.power_cut();
    rig.advance(2_000_000);
    let wanted: Vec<String> = (1..=sent).map(|n| n.to_string()).collect();
    assert_eq!(rig.values(B, Offset(0)), wanted);
}
