//! Replay gives the state of the live task, and the cut into steps does not show.

use crate::builtin::Window;
use crate::rig::{Event, Out, Rig, by};
use crate::{Pipeline, PipelineOptions, ProcessError, StepLimits, Task, TimeKind, Timer};
use flowstone_wire::{ErrorCode, Offset, PartitionId};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A pipeline with two branches that uses everything: state, scans, both kinds of timers, late
/// records, failures of both kinds that follow `script` and not the input.
fn busy_pipeline(script: Vec<u8>) -> Pipeline {
    let turn = Arc::new(AtomicUsize::new(0));
    let fate = move || {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        match script.get(turn % script.len().max(1)).copied().unwrap_or(9) {
            0 => Err(ProcessError::Reject("reject".into())),
            1 | 2 => Err(ProcessError::Retry("retry".into())),
            _ => Ok(()),
        }
    };
    let first_fate = fate.clone();
    let first = by(move |event, ctx| {
        let key = match event {
            Event::Record(record) => {
                let key = record.key.unwrap_or_default();
                let count = ctx.get(key).map_or(0, |v| v[0]);
                ctx.put(key, &[count.wrapping_add(1)]);
                ctx.put(b"last", key);
                let kind = if count % 2 == 0 {
                    TimeKind::Event
                } else {
                    TimeKind::Processing
                };
                let at_ms = record.timestamp + i64::from(count) * 7;
                ctx.set_timer(Timer {
                    kind,
                    at_ms,
                    key: key.to_vec(),
                });
                if count % 5 == 4 {
                    ctx.delete(key);
                    ctx.cancel_timer(Timer {
                        kind,
                        at_ms,
                        key: key.to_vec(),
                    });
                }
                ctx.forward(record);
                key.to_vec()
            }
            Event::Timer(timer) => timer.key.clone(),
        };
        let entries = ctx.scan(&key).count() as u8;
        ctx.emit(5, Some(&key), Some(&[entries]), &[]);
        first_fate()
    });
    let second = by(move |event, ctx| {
        if let Event::Record(record) = event {
            ctx.put(record.value.unwrap_or_default(), b"seen");
            ctx.emit_late(record.timestamp, record.key, None, record.headers);
        }
        fate()
    });
    let mut b = Pipeline::new("busy").unwrap();
    b.source("in").options(PipelineOptions {
        max_attempts: 3,
        ..PipelineOptions::default()
    });
    let first = b.add(crate::NodeRef::INPUT, "first", first);
    b.sink(first, "out");
    b.add(first, "second", second);
    b.build().unwrap()
}

fn records() -> impl Strategy<Value = Vec<(u32, i64, u8)>> {
    prop::collection::vec((0u32..3, 0i64..200, 0u8..4), 1..40)
}

proptest! {
    /// The rig checks after every step; here the task is also replaced in the middle.
    #[test]
    fn replay_and_load_give_the_live_state(
        records in records(),
        script in prop::collection::vec(0u8..8, 1..20),
        max_records in 1usize..6,
        max_output_bytes in 0usize..200,
        fail_overs in prop::collection::vec(prop::option::of(any::<bool>()), 12),
    ) {
        let mut rig = Rig::new(&busy_pipeline(script), &[0, 1, 2]);
        rig.limits = StepLimits { max_records, max_output_bytes };
        let keys = ["a", "b", "ab", ""];
        for (chunk, fail_over) in records.chunks(4).zip(fail_overs) {
            for (partition, timestamp, key) in chunk {
                rig.send(*partition, &[(*timestamp, Some(keys[usize::from(*key)]), Some("v"))]);
            }
            for _ in 0..3 {
                rig.now_ms += 40;
                let _ = rig.step().unwrap();
            }
            if let Some(from_store) = fail_over {
                rig.fail_over(from_store);
            }
        }
        // An hour is longer than all pauses: everything is dealt with in the end.
        for _ in 0..200 {
            rig.run_at(rig.now_ms + 10_000);
        }
        for (partition, position) in rig.task.positions() {
            let sent = records.iter().take(48).filter(|r| r.0 == partition.0).count();
            prop_assert_eq!(position, Offset(sent as u64));
        }
    }

    /// A window behind a window, in one partition, with disorder: same outputs and state for any cut.
    #[test]
    fn the_cut_into_steps_does_not_show(
        records in prop::collection::vec((0i64..2_000, 0u8..3), 1..60),
        cuts in prop::collection::vec((1usize..8, 0usize..300), 1..10),
        per_batch in 1usize..10,
        lateness_ms in 0i64..50,
    ) {
        let whole = windows_run(&records, &[(usize::MAX, usize::MAX)], per_batch, lateness_ms);
        let pieces = windows_run(&records, &cuts, per_batch, lateness_ms);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn extreme_numbers_do_no_harm(
        times in prop::collection::vec(prop::sample::select(
            &[i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX][..]), 1..12),
        nows in prop::collection::vec(prop::sample::select(&[i64::MIN, 0, i64::MAX][..]), 1..4),
    ) {
        let pipeline = Pipeline::chain("p", "in")
            .stage("shift", by(|event, ctx| {
                if let Event::Record(r) = event {
                    let at: i64 = std::str::from_utf8(r.key.unwrap()).unwrap().parse().unwrap();
                    for kind in [TimeKind::Event, TimeKind::Processing] {
                        ctx.set_timer(Timer { kind, at_ms: at, key: vec![] });
                    }
                    ctx.emit(at, r.key, r.value, r.headers);
                }
                Ok(())
            }))
            .window(Window { field: "n".into(), size_ms: i64::MAX, allowed_lateness_ms: i64::MAX })
            .to("x")
            .stage("again", by(|_, _| Ok(())))
            .options(PipelineOptions {
                out_of_order_ms: i64::MAX,
                idle_ms: i64::MAX,
                max_future_skew_ms: i64::MAX,
                ..PipelineOptions::default()
            })
            .build()
            .unwrap();
        let mut rig = Rig::new(&pipeline, &[0]);
        for (i, time) in times.iter().enumerate() {
            rig.send(0, &[(*time, Some(&time.to_string()), Some(r#"{"n":1}"#))]);
            rig.run_at(nows[i % nows.len()]);
            let _ = rig.task.deadline();
        }
        prop_assert!(rig.at("p.dlq").next().is_none());
    }
}

type Run = (Vec<Out>, Vec<(Vec<u8>, Vec<u8>)>);

fn windows_run(
    records: &[(i64, u8)],
    cuts: &[(usize, usize)],
    per_batch: usize,
    lateness_ms: i64,
) -> Run {
    let window = |field: &str, size_ms| Window {
        field: field.into(),
        size_ms,
        allowed_lateness_ms: lateness_ms,
    };
    let pipeline = Pipeline::chain("p", "in")
        .window(window("n", 20))
        .to("small")
        .window(window("sum", 100))
        .to("large")
        .options(PipelineOptions {
            out_of_order_ms: 10,
            ..PipelineOptions::default()
        })
        .build()
        .unwrap();
    let mut rig = Rig::new(&pipeline, &[0]);
    for chunk in records.chunks(per_batch) {
        let texts: Vec<_> = chunk
            .iter()
            .map(|(t, n)| (*t, format!("k{n}"), format!("{{\"n\":{n}}}")))
            .collect();
        let batch: Vec<_> = texts
            .iter()
            .map(|(t, k, v)| (*t, Some(&k[..]), Some(&v[..])))
            .collect();
        rig.send(0, &batch);
    }
    let mut cuts = cuts.iter().cycle();
    loop {
        let (max_records, max_output_bytes) = *cuts.next().unwrap();
        rig.limits = StepLimits {
            max_records,
            max_output_bytes,
        };
        if !rig.step().unwrap() {
            return (rig.outs, rig.task.snapshot());
        }
    }
}

#[test]
fn a_window_behind_a_window_loses_nothing_when_time_jumps() {
    let records: Vec<_> = (0..50).map(|i| (i * 7, 1)).chain([(100_000, 1)]).collect();
    let (outs, _) = windows_run(&records, &[(1, 0)], 3, 0);
    assert!(outs.iter().all(|out| out.sink != "p.late"), "{outs:?}");
    let counts = |sink: &str| -> i64 {
        let of = |out: &Out| -> serde_json::Value {
            serde_json::from_str(out.value.as_deref().unwrap()).unwrap()
        };
        let at = outs.iter().filter(|out| out.sink == sink);
        at.map(|out| of(out)["count"].as_i64().unwrap()).sum()
    };
    assert_eq!(counts("small"), 50);
    assert_eq!(
        counts("large") as usize,
        outs.iter().filter(|o| o.sink == "small").count()
    );
}

#[test]
fn the_first_step_pins_the_start_and_a_new_partition_too() {
    let pipeline = Pipeline::chain("p", "in").to("out").build().unwrap();
    let start = [(PartitionId(1), Offset(40))];
    let mut task = Task::new(&pipeline, &start);
    assert_eq!(task.deadline(), Some(i64::MIN));
    let delta = task.step(0, &[], StepLimits::default()).unwrap().unwrap();
    assert_eq!(delta.state.positions().collect::<Vec<_>>(), start);
    assert_eq!(task.step(0, &[], StepLimits::default()), Ok(None));
    assert_eq!(task.deadline(), None);
    task.add_partition(PartitionId(1), Offset(0));
    task.add_partition(PartitionId(2), Offset(7));
    let delta = task.step(0, &[], StepLimits::default()).unwrap().unwrap();
    let added = [(PartitionId(2), Offset(7))];
    assert_eq!(delta.state.positions().collect::<Vec<_>>(), added);
    assert_eq!(task.position(PartitionId(1)), Some(Offset(40)));
    assert_eq!(task.position(PartitionId(3)), None);
}

#[test]
fn state_follows_the_name_of_its_stage() {
    let store = || {
        by(|event, ctx| {
            if let Event::Record(r) = event {
                ctx.put(b"k", b"v");
                ctx.set_timer(Timer {
                    kind: TimeKind::Event,
                    at_ms: 1 << 40,
                    key: vec![],
                });
                let _ = r;
            }
            Ok(())
        })
    };
    let old = Pipeline::chain("p", "in")
        .stage("a", store())
        .build()
        .unwrap();
    let mut rig = Rig::new(&old, &[0]);
    rig.send(0, &[(1, None, None)]);
    rig.run();
    let entries = rig.task.snapshot();

    let grown = Pipeline::chain("p", "in")
        .filter(|_| true)
        .stage("a", store())
        .build()
        .unwrap();
    let task = Task::load(&grown, entries.clone()).unwrap();
    assert_eq!((task.unclaimed(), task.snapshot()), (0, entries.clone()));

    let without = Pipeline::chain("p", "in")
        .stage("b", store())
        .build()
        .unwrap();
    let mut task = Task::load(&without, entries).unwrap();
    assert_eq!(task.unclaimed(), 2);
    assert_eq!(task.position(PartitionId(0)), Some(Offset(1)));
    assert!(task.take_dirty().is_empty());
}

#[test]
fn an_entry_that_cannot_be_read_is_reported() {
    let pipeline = Pipeline::chain("p", "in").to("out").build().unwrap();
    for (key, value) in [
        (&b""[..], &b""[..]),
        (b"x", b""),
        (b"i123", b""),
        (b"i12345", b"\0\0"),
        (b"w", b"\xff"),
        (b"s12", b""),
        (b"t\x02123456781234", b"\0\0\0\0"),
    ] {
        let failure = Task::load(&pipeline, [(key, value)]).err().unwrap();
        assert_eq!(failure.code, ErrorCode::Damaged, "{failure}");
    }
}
