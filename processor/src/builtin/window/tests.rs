//! Windows close on time, count right, and send what is late away.

use super::*;
use crate::rig::{Event, Rig, by};
use crate::{NodeRef, Pipeline};
use serde_json::{Value, json};

fn pipeline(size_ms: i64, allowed_lateness_ms: i64) -> Pipeline {
    let spec = Window {
        field: "n".into(),
        size_ms,
        allowed_lateness_ms,
    };
    Pipeline::chain("p", "in")
        .window(spec)
        .to("out")
        .build()
        .unwrap()
}

fn closed(rig: &Rig) -> Vec<Value> {
    rig.at("out")
        .map(|out| serde_json::from_str(out.value.as_deref().unwrap()).unwrap())
        .collect()
}

#[test]
fn a_window_says_what_it_saw_when_the_watermark_reaches_its_end() {
    let mut rig = Rig::new(&pipeline(100, 0), &[5]);
    rig.send(
        5,
        &[
            (100, Some("a"), Some(r#"{"n":3}"#)),
            (150, None, Some(r#"{"n":7}"#)),
            (199, Some("a"), Some(r#"{"n":-1.5}"#)),
            (199, Some(""), Some(r#"{"n":8}"#)),
        ],
    );
    rig.run();
    assert!(closed(&rig).is_empty());
    rig.send(5, &[(200, Some("a"), Some(r#"{"n":9}"#))]);
    rig.run();
    let of = |key: Value, count: i64, sum: f64, min: f64, max: f64| {
        json!({"key": key, "window_start": 100, "window_end": 200, "count": count,
            "sum": sum, "min": min, "max": max, "avg": sum / count as f64})
    };
    assert_eq!(
        closed(&rig),
        [
            of(Value::Null, 1, 7.0, 7.0, 7.0),
            of("".into(), 1, 8.0, 8.0, 8.0),
            of("a".into(), 2, 1.5, -1.5, 3.0),
        ]
    );
    let keys: Vec<_> = rig
        .at("out")
        .map(|o| (o.key.as_deref(), o.key_changed))
        .collect();
    assert_eq!(keys, [(None, false), (Some(""), false), (Some("a"), false)]);
    assert!(
        rig.at("out")
            .all(|out| out.timestamp == 199 && out.partition == 5)
    );
}

#[test]
fn late_records_are_counted_within_the_lateness_and_sent_away_unchanged_after_it() {
    let mut rig = Rig::new(&pipeline(100, 50), &[0]);
    for (timestamp, n) in [(150, 1), (249, 2), (199, 3), (250, 4), (120, 5)] {
        let value = format!("{{\"n\":{n}}}");
        rig.send(0, &[(timestamp, Some("a"), Some(&value))]);
    }
    rig.run();
    let windows = closed(&rig);
    assert_eq!(windows.len(), 1);
    assert_eq!(
        (&windows[0]["count"], &windows[0]["sum"]),
        (&json!(2), &json!(4.0))
    );
    let late: Vec<_> = rig.at("p.late").collect();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].value.as_deref(), Some(r#"{"n":5}"#));
    assert_eq!(
        (late[0].timestamp, late[0].key.as_deref()),
        (120, Some("a"))
    );
    assert_eq!(late[0].headers["x-late-window"], "100..200");
    assert_eq!(rig.task.stats().late, 1);
}

#[test]
fn closed_windows_leave_no_state() {
    let mut rig = Rig::new(&pipeline(10, 0), &[0]);
    for i in 0..50 {
        rig.send(
            0,
            &[(i * 10, Some(&format!("k{}", i % 3)), Some(r#"{"n":1}"#))],
        );
    }
    rig.run();
    assert_eq!(closed(&rig).len(), 49);
    let stored = rig.task.snapshot();
    let open = |tag: u8| stored.iter().filter(|(key, _)| key[0] == tag).count();
    assert_eq!((open(b's'), open(b't')), (1, 1));
}

#[test]
fn windows_before_1970_start_at_multiples_too() {
    let stage = Windows {
        window: Window {
            field: String::new(),
            size_ms: 100,
            allowed_lateness_ms: 0,
        },
        state_key: Vec::new(),
    };
    assert_eq!(stage.bounds(-1), (-100, 0));
    assert_eq!(stage.bounds(-100), (-100, 0));
    assert_eq!(stage.bounds(0), (0, 100));
    assert!(stage.bounds(i64::MAX).1 >= stage.bounds(i64::MAX).0);
    assert!(stage.bounds(i64::MIN).0 <= stage.bounds(i64::MIN).1);
}

#[test]
fn a_sum_out_of_range_is_null_and_no_number_is_rejected() {
    let mut rig = Rig::new(&pipeline(100, 0), &[0]);
    for n in ["1e308", "1e308", "\"x\"", "null", "1e999"] {
        rig.send(0, &[(1, None, Some(&format!("{{\"n\":{n}}}")))]);
    }
    rig.send(0, &[(100, None, Some(r#"{"n":1}"#))]);
    rig.run();
    let windows = closed(&rig);
    assert_eq!(
        (&windows[0]["sum"], &windows[0]["avg"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&windows[0]["count"], &windows[0]["max"]),
        (&json!(2), &json!(1e308))
    );
    assert_eq!(rig.at("p.dlq").count(), 3);
}

#[test]
fn a_window_that_cannot_be_handed_on_ends_in_the_dead_letters_with_its_result() {
    let spec = Window {
        field: "n".into(),
        size_ms: 100,
        allowed_lateness_ms: 0,
    };
    let mut b = Pipeline::new("p").unwrap();
    b.source("in");
    let first = b.add(NodeRef::INPUT, "w", window(spec).unwrap());
    let refuse = by(|event, _| match event {
        Event::Record(_) => Err(reject("no")),
        Event::Timer(_) => Ok(()),
    });
    b.add(first, "refuse", refuse);
    let mut rig = Rig::new(&b.build().unwrap(), &[0]);
    rig.send(
        0,
        &[
            (1, Some("a"), Some(r#"{"n":1}"#)),
            (100, None, Some(r#"{"n":2}"#)),
        ],
    );
    rig.run();
    let letter = rig.at("p.dlq").next().unwrap();
    assert_eq!(letter.headers["x-dlq-stage"], "refuse");
    assert_eq!(letter.headers["x-dlq-timer"], "event 100");
    let value: Value = serde_json::from_str(letter.value.as_deref().unwrap()).unwrap();
    assert_eq!((&value["key"], &value["sum"]), (&json!("a"), &json!(1.0)));
    assert_eq!(
        rig.task
            .snapshot()
            .iter()
            .filter(|(k, _)| k[0] == b's')
            .count(),
        1
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    for (size_ms, allowed_lateness_ms) in [(0, 0), (-1, 0), (1, -1)] {
        let spec = Window {
            field: "n".into(),
            size_ms,
            allowed_lateness_ms,
        };
        assert!(window(spec).is_err());
    }
}
