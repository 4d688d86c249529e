//! Timers: units that are kept and undone, and the order in which they fire.

use super::*;

fn id(at_ms: i64, node: u16) -> TimerId {
    TimerId {
        at_ms,
        node,
        key: vec![1],
    }
}

#[test]
fn an_undone_unit_leaves_no_trace() {
    let mut timers = Timers::default();
    timers.set(TimeKind::Event, id(5, 0), Origin::default());
    timers.commit_unit();
    let size_bytes = timers.size_bytes();
    timers.take_first(TimeKind::Event).unwrap();
    timers.set(TimeKind::Processing, id(1, 0), Origin::default());
    timers.roll_back_unit();
    assert_eq!(timers.size_bytes(), size_bytes);
    assert_eq!(timers.iter().count(), 1);
    let mut changes = Vec::new();
    timers.finish_step(|_, id, origin| changes.push((id, origin.is_some())));
    assert_eq!(changes, [(id(5, 0), true)]);
}

#[test]
fn event_timers_come_first_and_a_stage_before_the_ones_behind_it() {
    let mut timers = Timers::default();
    for (kind, at_ms, node) in [
        (TimeKind::Processing, 1, 0),
        (TimeKind::Event, 7, 1),
        (TimeKind::Event, 7, 0),
    ] {
        timers.set(kind, id(at_ms, node), Origin::default());
    }
    let mut order = Vec::new();
    while let Some(kind) = timers.due(7, 1) {
        let (id, _) = timers.take_first(kind).unwrap();
        order.push((kind, id.node));
    }
    assert_eq!(
        order,
        [
            (TimeKind::Event, 0),
            (TimeKind::Event, 1),
            (TimeKind::Processing, 0)
        ]
    );
    assert_eq!(timers.due(i64::MAX, i64::MAX), None);
}

#[test]
fn what_came_and_went_within_a_step_is_in_no_delta() {
    let mut timers = Timers::default();
    timers.set(TimeKind::Event, id(5, 0), Origin::default());
    timers.cancel(TimeKind::Event, id(5, 0));
    timers.commit_unit();
    timers.finish_step(|_, id, _| panic!("{id:?}"));
    assert_eq!(timers.size_bytes(), 0);
}
