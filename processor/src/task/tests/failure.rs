//! What fails is undone as a whole, tried again, and ends with the dead letters.

use crate::rig::{Batch, Event, Rig, by};
use crate::{
    Context, NodeRef, Pipeline, PipelineOptions, ProcessError, Processor, Record, TimeKind, Timer,
};
use flowstone_wire::{Header, Offset, PartitionId, limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Emits, stores and sets a timer, then a stage behind it fails while `failures` lasts, for values
/// that start with "bad".
fn tree(failures: u32, error: fn(String) -> ProcessError) -> Pipeline {
    let left = Arc::new(AtomicU32::new(failures));
    let front = by(|event, ctx| {
        if let Event::Record(r) = event {
            let n = ctx.get(b"n").map_or(0, |v| v[0]);
            ctx.put(b"n", &[n + 1]);
            ctx.delete(b"gone");
            ctx.put(r.value.unwrap(), b"");
            ctx.set_timer(Timer {
                kind: TimeKind::Processing,
                at_ms: i64::MAX,
                key: r.value.unwrap().to_vec(),
            });
            ctx.emit(r.timestamp, None, Some(&[b'0' + n + 1]), &[]);
            ctx.forward(r);
        }
        Ok(())
    });
    let back = by(move |event, ctx| {
        if let Event::Record(r) = event {
            ctx.put(r.value.unwrap(), b"");
            let fails = r.value.unwrap().starts_with(b"bad")
                && left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_ok();
            if fails {
                return Err(error("broken".into()));
            }
        }
        Ok(())
    });
    let mut b = Pipeline::new("p").unwrap();
    b.source("in");
    let front = b.add(NodeRef::INPUT, "front", front);
    b.sink(front, "out");
    b.add(front, "back", back);
    b.build().unwrap()
}

#[test]
fn a_failing_record_leaves_no_trace_until_it_succeeds() {
    let mut rig = Rig::new(&tree(2, ProcessError::Retry), &[0]);
    rig.send(
        0,
        &[
            (1, None, Some("good")),
            (2, None, Some("bad")),
            (3, None, Some("more")),
        ],
    );
    rig.run();
    let before = rig.task.snapshot();
    assert_eq!(rig.values("out"), ["1", "good"]);
    assert_eq!(rig.task.position(PartitionId(0)), Some(Offset(1)));
    assert_eq!(rig.task.deadline(), Some(rig.now_ms + 100));

    rig.run_at(rig.now_ms + 99);
    assert_eq!(rig.task.stats().retried, 1, "not before its time");
    rig.run_at(rig.now_ms + 1);
    assert_eq!(rig.task.stats().retried, 2);
    assert_eq!(rig.task.deadline(), Some(rig.now_ms + 200));
    assert_eq!(rig.task.snapshot(), before, "undone as a whole");

    rig.run_at(rig.now_ms + 200);
    assert_eq!(rig.values("out"), ["1", "good", "2", "bad", "3", "more"]);
    let stats = rig.task.stats();
    assert_eq!((stats.processed, stats.emitted, stats.failed), (3, 6, 0));
}

#[test]
fn after_the_last_attempt_it_goes_to_the_dead_letters() {
    let mut rig = Rig::new(&tree(u32::MAX, ProcessError::Retry), &[7]);
    let headers = [Header {
        name: b"own",
        value: Some(b"1"),
    }];
    rig.log.push(Batch::with_headers(
        7,
        0,
        &[(5, Some("k"), Some("bad"))],
        &headers,
    ));
    rig.log.push(Batch::new(7, 1, &[(6, None, Some("good"))]));
    for attempt in 0..5 {
        assert_eq!(rig.task.stats().retried, attempt);
        rig.run();
        rig.now_ms = rig.task.deadline().unwrap().min(rig.now_ms + 10_000);
    }
    let letters: Vec<_> = rig.at("p.dlq").cloned().collect();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(
        (
            letter.timestamp,
            letter.key.as_deref(),
            letter.value.as_deref()
        ),
        (5, Some("k"), Some("bad"))
    );
    assert_eq!((letter.partition, letter.key_changed), (7, false));
    let headers: Vec<_> = letter
        .headers
        .iter()
        .map(|(k, v)| (&k[..], &v[..]))
        .collect();
    assert_eq!(
        headers,
        [
            ("own", "1"),
            ("x-dlq-attempts", "5"),
            ("x-dlq-offset", "0"),
            ("x-dlq-partition", "7"),
            ("x-dlq-pipeline", "p"),
            ("x-dlq-reason", "broken"),
            ("x-dlq-stage", "back"),
        ]
    );
    assert_eq!(rig.values("out"), ["1", "good"]);
    assert_eq!(rig.task.position(PartitionId(7)), Some(Offset(2)));
    assert_eq!(rig.task.stats().failed, 1);
}

#[test]
fn a_rejected_record_does_not_wait() {
    let mut rig = Rig::new(&tree(u32::MAX, ProcessError::Reject), &[0]);
    rig.send(
        0,
        &[
            (1, None, Some("bad1")),
            (2, None, Some("good")),
            (3, None, Some("bad2")),
        ],
    );
    rig.run();
    assert_eq!(rig.values("p.dlq"), ["bad1", "bad2"]);
    assert_eq!(rig.values("out"), ["1", "good"]);
    assert!(
        rig.at("p.dlq")
            .all(|out| out.headers["x-dlq-attempts"] == "1")
    );
}

#[test]
fn a_swallowed_error_of_a_stage_behind_still_counts() {
    // The front stage never sees that the back stage failed, and goes on emitting.
    let mut rig = Rig::new(&tree(1, ProcessError::Reject), &[0]);
    rig.send(0, &[(1, None, Some("bad"))]);
    rig.run();
    assert_eq!(rig.at("out").count(), 0);
    assert_eq!(rig.values("p.dlq"), ["bad"]);
}

#[test]
fn a_letter_with_full_headers_keeps_what_fits() {
    let mut rig = Rig::new(&tree(u32::MAX, ProcessError::Reject), &[0]);
    let many = vec![
        Header {
            name: b"h",
            value: None
        };
        limits::RECORD_HEADERS_MAX
    ];
    rig.log
        .push(Batch::with_headers(0, 0, &[(5, None, Some("bad"))], &many));
    rig.run();
    let letter = rig.at("p.dlq").next().unwrap();
    assert_eq!(letter.headers["x-dlq-left-out"], "7 headers");
    assert_eq!(letter.headers["x-dlq-stage"], "back");
}

/// Sets a timer for every record; it fails as its key says, and the state is put in order.
struct Timers;

impl Processor for Timers {
    fn process(&mut self, r: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        ctx.put(r.value.unwrap(), b"kept");
        ctx.set_timer(Timer {
            kind: TimeKind::Event,
            at_ms: r.timestamp,
            key: r.value.unwrap().to_vec(),
        });
        Ok(())
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        ctx.delete(&timer.key);
        ctx.emit(timer.at_ms, None, Some(&timer.key), &[]);
        match &timer.key[..] {
            b"retry" => Err(ProcessError::Retry("not now".into())),
            b"reject" => Err(ProcessError::Reject("never".into())),
            _ => Ok(()),
        }
    }

    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        let rest = ctx.get(&timer.key).map(<[u8]>::to_vec);
        ctx.emit(0, None, Some(b"must not come out"), &[]);
        ctx.delete(&timer.key);
        rest
    }
}

#[test]
fn a_failing_timer_is_treated_like_a_record() {
    let pipeline = Pipeline::chain("p", "in")
        .stage("timers", || Box::new(Timers))
        .to("out")
        .options(PipelineOptions {
            max_attempts: 2,
            ..PipelineOptions::default()
        })
        .build()
        .unwrap();
    let mut rig = Rig::new(&pipeline, &[3]);
    rig.send(
        3,
        &[
            (1, None, Some("reject")),
            (2, None, Some("retry")),
            (3, None, Some("fine")),
        ],
    );
    rig.run();
    // The timer of the second record holds back the third.
    assert_eq!(rig.task.position(PartitionId(3)), Some(Offset(2)));
    assert_eq!(rig.values("out"), [""; 0]);
    assert_eq!(rig.task.deadline(), Some(rig.now_ms + 100));
    rig.run_at(rig.now_ms + 100);
    assert_eq!(rig.values("out"), ["fine"]);
    let letters: Vec<_> = rig.at("p.dlq").collect();
    let said: Vec<_> = letters
        .iter()
        .map(|l| {
            (
                l.key.as_deref().unwrap(),
                l.value.as_deref().unwrap(),
                &l.headers["x-dlq-timer"][..],
            )
        })
        .collect();
    assert_eq!(
        said,
        [("reject", "kept", "event 1"), ("retry", "kept", "event 2")]
    );
    assert_eq!(letters[1].headers["x-dlq-attempts"], "2");
    assert_eq!(letters[1].headers["x-dlq-offset"], "1");
    assert_eq!(letters[1].partition, 3);
    assert_eq!(rig.task.state_bytes(), 0);
    let stats = rig.task.stats();
    assert_eq!((stats.processed, stats.timers, stats.failed), (3, 3, 2));
}

#[test]
fn over_a_limit_a_record_is_rejected_and_state_can_still_shrink() {
    let pipeline = Pipeline::chain("p", "in")
        .stage(
            "hoard",
            by(|event, ctx| {
                if let Event::Record(r) = event {
                    match r.value {
                        Some(b"free") => ctx.delete(b"a"),
                        Some(b"long key") => ctx.put(&vec![0; (64 << 10) + 1], b""),
                        Some(b"flood") => (0..30).for_each(|i| ctx.put(&[i], &vec![i; 100_000])),
                        _ => ctx.put(r.value.unwrap(), &[0; 600]),
                    }
                }
                Ok(())
            }),
        )
        .options(PipelineOptions {
            state_bytes_max: 1000,
            ..PipelineOptions::default()
        })
        .build()
        .unwrap();
    let mut rig = Rig::new(&pipeline, &[0]);
    for value in ["a", "b", "free", "b", "long key", "flood"] {
        rig.send(0, &[(1, None, Some(value))]);
    }
    rig.run();
    let letters: Vec<_> = rig
        .at("p.dlq")
        .map(|l| (l.value.as_deref().unwrap(), &l.headers["x-dlq-reason"][..]))
        .collect();
    assert_eq!(letters.len(), 3, "{letters:?}");
    assert!(letters[0].0 == "b" && letters[0].1.contains("state_bytes_max"));
    assert!(letters[1].0 == "long key" && letters[1].1.contains("65537 bytes"));
    assert!(letters[2].0 == "flood", "{letters:?}");
    assert_eq!(
        rig.task
            .snapshot()
            .iter()
            .filter(|(k, _)| k[0] == b's')
            .count(),
        1
    );
}
