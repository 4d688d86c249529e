//! Watermarks, idle partitions, timers and deadlines.

use crate::rig::{Event, Rig, by};
use crate::{Pipeline, PipelineOptions, TimeKind, Timer};
use flowstone_wire::PartitionId;

const OPTIONS: PipelineOptions = PipelineOptions {
    max_attempts: 5,
    backoff_ms: 100,
    backoff_max_ms: 10_000,
    out_of_order_ms: 0,
    idle_ms: 30_000,
    max_future_skew_ms: 300_000,
    state_bytes_max: 1 << 20,
};

/// Sets the timers that values ask for, like "event 500 name"; emits what fires, with the time that
/// the stage sees.
fn alarm_clock(options: PipelineOptions) -> Pipeline {
    let stage = by(|event, ctx| {
        match event {
            Event::Timer(timer) => {
                let text = format!(
                    "{} {} wm {}",
                    String::from_utf8_lossy(&timer.key),
                    timer.at_ms,
                    ctx.watermark()
                );
                ctx.emit(timer.at_ms, None, Some(text.as_bytes()), &[]);
            }
            Event::Record(record) => {
                let text = std::str::from_utf8(record.value.unwrap()).unwrap();
                let words: Vec<_> = text.split(' ').collect();
                let [kind, at, name] = words[..] else {
                    return Ok(());
                };
                let timer = Timer {
                    kind: if kind.ends_with("event") {
                        TimeKind::Event
                    } else {
                        TimeKind::Processing
                    },
                    at_ms: at.parse().unwrap(),
                    key: name.into(),
                };
                if kind.starts_with('-') {
                    ctx.cancel_timer(timer);
                } else {
                    ctx.set_timer(timer);
                }
            }
        }
        Ok(())
    });
    Pipeline::chain("p", "in")
        .stage("clock", stage)
        .to("out")
        .options(options)
        .build()
        .unwrap()
}

#[test]
fn the_watermark_follows_time_less_the_disorder_and_never_goes_back() {
    let options = PipelineOptions {
        out_of_order_ms: 50,
        ..OPTIONS
    };
    let mut rig = Rig::new(&alarm_clock(options), &[0]);
    let mut seen = Vec::new();
    for timestamp in [1_000, 1_200, 900, 1_201, 0] {
        rig.send(0, &[(timestamp, None, Some("x"))]);
        rig.run();
        seen.push(rig.task.watermark());
    }
    assert_eq!(seen, [950, 1_150, 1_150, 1_151, 1_151]);
}

#[test]
fn one_record_from_the_future_does_not_close_everything() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0]);
    rig.send(0, &[(i64::MAX, None, Some("x"))]);
    rig.run_at(5_000_000);
    assert_eq!(rig.task.watermark(), 5_300_000);
}

#[test]
fn the_slowest_partition_holds_back_until_it_is_idle() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0, 1]);
    rig.send(0, &[(500, None, Some("event 400 a"))]);
    rig.run_at(10_000);
    assert_eq!(
        rig.task.watermark(),
        i64::MIN,
        "the other has not said anything yet"
    );
    rig.send(1, &[(300, None, Some("x"))]);
    rig.run_at(20_000);
    assert_eq!(rig.task.watermark(), 300);
    rig.send(0, &[(600, None, Some("x"))]);
    rig.run_at(25_000);
    assert_eq!(
        rig.task.deadline(),
        Some(50_000),
        "partition 1 becomes idle"
    );
    rig.run_at(49_999);
    assert_eq!((rig.task.watermark(), rig.values("out").len()), (300, 0));
    rig.run_at(50_000);
    assert_eq!(rig.task.watermark(), 600);
    assert_eq!(rig.values("out"), ["a 400 wm 400"]);
    assert_eq!(rig.task.deadline(), None);
    // It comes back with older records: they do not pull the watermark back, but hold it again.
    rig.send(1, &[(310, None, Some("x"))]);
    rig.send(0, &[(700, None, Some("x"))]);
    rig.run_at(51_000);
    assert_eq!(rig.task.watermark(), 600);
    rig.send(1, &[(650, None, Some("x"))]);
    rig.run_at(52_000);
    assert_eq!(rig.task.watermark(), 650);
}

#[test]
fn if_all_partitions_are_idle_the_latest_says_what_time_it_is() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0, 1]);
    rig.send(0, &[(500, None, Some("event 450 a"))]);
    rig.send(1, &[(400, None, Some("x"))]);
    rig.run_at(10_000);
    assert_eq!(rig.task.watermark(), 400);
    assert_eq!(rig.task.deadline(), Some(40_000), "then both are idle");
    rig.run_at(40_000);
    assert_eq!(rig.task.watermark(), 500);
    assert_eq!(rig.values("out"), ["a 450 wm 450"]);
    assert_eq!(rig.task.deadline(), None, "nothing to wait for");
    rig.send(1, &[(499, None, Some("x"))]);
    rig.run_at(90_001);
    assert_eq!(rig.task.watermark(), 500, "never back");
}

/// What one partition has said of the future, all others would pay for after a pause.
#[test]
fn if_all_partitions_are_idle_time_is_not_ahead_of_the_clock() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0, 1]);
    rig.send(0, &[(i64::MAX, None, Some("event 60000 a"))]);
    rig.send(1, &[(9_000, None, Some("x"))]);
    rig.run_at(10_000);
    assert_eq!(rig.task.watermark(), 9_000);
    rig.run_at(40_000);
    assert_eq!(rig.task.watermark(), 40_000);
    rig.send(1, &[(41_000, None, Some("x"))]);
    rig.run_at(41_000);
    assert_eq!(rig.task.watermark(), 41_000, "it holds back again");
    assert_eq!(rig.values("out"), [""; 0]);
    rig.send(0, &[(310_000, None, Some("event 80000 b"))]);
    rig.run_at(41_000);
    // Of what is ahead of the clock so much becomes true as lets a timer fire.
    for (due, after) in [(71_000, Some(80_000)), (80_000, None)] {
        assert_eq!(rig.task.deadline(), Some(due));
        rig.run_at(due);
        assert_eq!(rig.task.watermark(), due);
        assert_eq!(rig.task.deadline(), after);
    }
    assert_eq!(rig.values("out"), ["a 60000 wm 60000", "b 80000 wm 80000"]);
}

#[test]
fn a_partition_with_something_to_read_is_not_idle() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0, 1]);
    rig.send(0, &[(500, None, Some("event 450 a"))]);
    rig.send(1, &[(400, None, Some("x"))]);
    rig.run_at(10_000);
    for now_ms in [30_000, 50_000, 70_000] {
        rig.task.has_unread(PartitionId(1), now_ms);
        rig.run_at(now_ms);
        assert_eq!(rig.task.watermark(), 400);
    }
    assert_eq!(rig.task.deadline(), Some(100_000));
    rig.run_at(100_000);
    assert_eq!(rig.task.watermark(), 500);
}

/// A machine that was asleep, or whose clock was set, has heard nothing meanwhile.
#[test]
fn a_step_that_comes_much_too_late_finds_nobody_idle() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0, 1]);
    rig.send(0, &[(500, None, Some("event 450 a"))]);
    rig.send(1, &[(400, None, Some("x"))]);
    rig.run_at(10_000);
    assert_eq!(rig.task.deadline(), Some(40_000));
    rig.run_at(70_000);
    assert_eq!(rig.task.watermark(), 400);
    assert_eq!(rig.task.deadline(), Some(100_000));
    // Whoever is late every time is taken as it is.
    rig.run_at(130_000);
    assert_eq!(rig.task.watermark(), 500);
}

#[test]
fn waiting_to_try_again_makes_nobody_idle() {
    let pipeline = Pipeline::chain("p", "in")
        .map(|r| match r.value {
            Some(b"bad") => Err(crate::ProcessError::Retry("later".into())),
            _ => Ok(None),
        })
        .options(PipelineOptions {
            backoff_ms: 60_000,
            backoff_max_ms: 60_000,
            ..OPTIONS
        })
        .build()
        .unwrap();
    let mut rig = Rig::new(&pipeline, &[0, 1]);
    rig.send(0, &[(500, None, Some("x"))]);
    rig.send(1, &[(400, None, Some("x"))]);
    rig.run_at(10_000);
    rig.send(0, &[(501, None, Some("bad"))]);
    rig.run_at(20_000);
    rig.run_at(80_000);
    assert_eq!(rig.task.stats().retried, 2);
    assert_eq!(rig.task.watermark(), 400);
}

#[test]
fn event_timers_fire_in_order_when_the_watermark_has_reached_them() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0]);
    rig.send(
        0,
        &[
            (1, None, Some("event 300 c")),
            (2, None, Some("event 200 b")),
            (3, None, Some("event 200 a")),
            (4, None, Some("event 250 gone")),
            (5, None, Some("-event 250 gone")),
            (6, None, Some("-event 1 never-set")),
            (7, None, Some("event 200 a")),
        ],
    );
    rig.run();
    assert_eq!(rig.values("out"), [""; 0]);
    rig.send(0, &[(199, None, Some("x"))]);
    rig.run();
    assert_eq!(rig.values("out"), [""; 0]);
    rig.send(0, &[(1000, None, Some("event 10 past"))]);
    rig.run();
    // All but the last see time as it passes; a timer in the past does not turn time back.
    assert_eq!(
        rig.values("out"),
        [
            "past 10 wm 199",
            "a 200 wm 200",
            "b 200 wm 200",
            "c 300 wm 300"
        ]
    );
}

#[test]
fn processing_timers_fire_when_the_clock_has_reached_them() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0]);
    rig.send(
        0,
        &[(1, None, Some("at 2000 b")), (2, None, Some("at 1500 a"))],
    );
    rig.run_at(1_000);
    assert_eq!(rig.task.deadline(), Some(1_500));
    rig.run_at(1_499);
    assert_eq!(rig.values("out"), [""; 0]);
    rig.run_at(3_000);
    assert_eq!(rig.values("out"), ["a 1500 wm 2", "b 2000 wm 2"]);
    assert_eq!(rig.task.deadline(), None);
}

#[test]
fn timers_left_over_by_a_limit_are_due_at_once() {
    let mut rig = Rig::new(&alarm_clock(OPTIONS), &[0]);
    rig.limits.max_records = 3;
    rig.send(
        0,
        &[
            (1, None, Some("event 5 a")),
            (2, None, Some("event 6 b")),
            (9, None, Some("x")),
        ],
    );
    assert!(rig.step().unwrap());
    assert_eq!(rig.task.deadline(), Some(i64::MIN));
    for from_store in [true, false] {
        rig.fail_over(from_store);
    }
    rig.run();
    assert_eq!(rig.values("out"), ["a 5 wm 5", "b 6 wm 6"]);
    assert_eq!(rig.task.deadline(), None);
}
