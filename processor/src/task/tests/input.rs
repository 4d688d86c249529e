//! Positions, limits, keys and damaged input.

use crate::builtin;
use crate::rig::{Batch, Event, Rig, by};
use crate::{NodeRef, Pipeline, ProcessError, StepLimits, Task, TimeKind, Timer};
use flowstone_wire::batch::FLAG_CONTROL;
use flowstone_wire::{ErrorCode, Header, Offset, PartitionId};

fn copy() -> Pipeline {
    Pipeline::chain("p", "in").to("out").build().unwrap()
}

#[test]
fn a_large_batch_is_read_in_pieces() {
    let mut rig = Rig::new(&copy(), &[0]);
    let texts: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    let records: Vec<_> = texts.iter().map(|t| (1, None, Some(&t[..]))).collect();
    rig.send(0, &records);
    rig.limits.max_records = 7;
    for n in 1..=14 {
        assert!(rig.step().unwrap());
        assert_eq!(rig.outs.len(), n * 7);
        if n % 3 == 0 {
            rig.fail_over(n % 2 == 0);
        }
    }
    rig.limits = StepLimits {
        max_records: usize::MAX,
        max_output_bytes: 0,
    };
    assert!(rig.step().unwrap());
    assert_eq!(rig.outs.len(), 99, "one record is always dealt with");
    rig.run();
    assert_eq!(rig.values("out"), texts);
}

#[test]
fn gaps_skipped_records_and_control_batches() {
    let mut rig = Rig::new(&copy(), &[0]);
    let mut compacted = Batch::new(0, 10, &[(1, None, Some("a")), (1, None, Some("b"))]);
    compacted.header.last_offset_delta = 9;
    let mut control = Batch::new(0, 20, &[(1, None, Some("control"))]);
    control.header.flags |= FLAG_CONTROL;
    rig.log = vec![
        compacted,
        control,
        Batch::new(0, 25, &[(1, None, Some("c"))]),
    ];
    rig.run();
    assert_eq!(rig.values("out"), ["a", "b", "c"]);
    assert_eq!(rig.task.position(PartitionId(0)), Some(Offset(26)));

    let mut task = Task::new(&copy(), &[(PartitionId(0), Offset(11))]);
    let input: Vec<_> = rig.log.iter().map(Batch::input).collect();
    let delta = task
        .step(0, &input, StepLimits::default())
        .unwrap()
        .unwrap();
    assert_eq!(delta.outputs.iter().next().unwrap().value, Some(&b"b"[..]));
}

#[test]
fn what_is_good_before_the_damage_is_given_out_first() {
    let mut rig = Rig::new(&copy(), &[0]);
    rig.send(0, &[(1, None, Some("good")), (1, None, Some("cut off"))]);
    rig.log[0].body.truncate(15);
    assert!(rig.step().unwrap());
    assert_eq!(rig.values("out"), ["good"]);
    for _ in 0..2 {
        let failure = rig.step().unwrap_err();
        assert_eq!(failure.code, ErrorCode::Damaged);
        assert!(failure.message.contains("partition 0"), "{failure}");
    }
    rig.log[0].header.base_offset = Offset(u64::MAX);
    assert_eq!(rig.step().unwrap_err().code, ErrorCode::Damaged);

    rig.log = vec![Batch::new(9, 0, &[(1, None, Some("x"))])];
    assert_eq!(rig.step().unwrap_err().code, ErrorCode::UnknownPartition);
}

#[test]
fn a_changed_key_is_known_to_the_end_of_the_tree_also_by_timers() {
    let timer = || {
        by(|event, ctx| {
            match event {
                Event::Record(r) => {
                    ctx.set_timer(Timer {
                        kind: TimeKind::Event,
                        at_ms: r.timestamp,
                        key: vec![],
                    });
                    ctx.put(b"key", r.key.unwrap());
                }
                Event::Timer(t) => {
                    let key = ctx.get(b"key").unwrap().to_vec();
                    ctx.emit(t.at_ms, Some(&key), Some(b"same"), &[]);
                    ctx.emit(t.at_ms, Some(b"z"), Some(b"other"), &[]);
                }
            }
            Ok(())
        })
    };
    let mut b = Pipeline::new("p").unwrap();
    b.source("in").sink(NodeRef::INPUT, "copy");
    let key = builtin::key_by(|r| Ok(r.value.map(<[u8]>::to_vec)));
    let rekeyed = b.add(NodeRef::INPUT, "key", key);
    let back = b.add(
        rekeyed,
        "back",
        builtin::key_by(|_| Ok(Some(b"k".to_vec()))),
    );
    b.sink(rekeyed, "rekeyed").sink(back, "back");
    let plain = b.add(NodeRef::INPUT, "plain", timer());
    let behind = b.add(rekeyed, "behind", timer());
    b.sink(plain, "plain").sink(behind, "behind");
    let mut rig = Rig::new(&b.build().unwrap(), &[4]);
    rig.send(4, &[(1, Some("k"), Some("v"))]);
    rig.run();
    let said: Vec<_> = rig
        .outs
        .iter()
        .map(|o| (&o.sink[..], o.key.as_deref().unwrap(), o.key_changed))
        .collect();
    assert_eq!(
        said,
        [
            ("copy", "k", false),
            ("rekeyed", "v", true),
            ("back", "k", true),
            ("plain", "k", false),
            ("plain", "z", true),
            ("behind", "v", true),
            ("behind", "z", true),
        ]
    );
    assert!(rig.outs.iter().all(|o| o.partition == 4));
}

#[test]
fn headers_pass_through_stages_and_can_be_added() {
    let stage = by(|event, ctx| {
        if let Event::Record(r) = event {
            assert_eq!(r.headers.get("a"), Some(&b"1"[..]));
            let mut headers: Vec<_> = r.headers.iter().collect();
            headers.push(Header {
                name: b"b",
                value: None,
            });
            ctx.emit(r.timestamp, r.key, r.value, &headers);
        }
        Ok(())
    });
    let pipeline = Pipeline::chain("p", "in")
        .filter(|r| !r.headers.is_empty())
        .stage("add", stage)
        .filter(|r| r.headers.iter().count() == 2)
        .to("out")
        .build()
        .unwrap();
    let mut rig = Rig::new(&pipeline, &[0]);
    let headers = [Header {
        name: b"a",
        value: Some(b"1"),
    }];
    rig.log
        .push(Batch::with_headers(0, 0, &[(1, None, Some("x"))], &headers));
    rig.log.push(Batch::new(
        0,
        1,
        &[(1, None, Some("dropped by the filter"))],
    ));
    rig.run();
    assert_eq!(rig.outs.len(), 1);
    assert_eq!(rig.outs[0].headers.len(), 2);
}

#[test]
fn event_time_comes_from_the_record_and_a_bad_one_moves_no_watermark() {
    let mut b = Pipeline::new("p").unwrap();
    b.source("in").sink(NodeRef::INPUT, "out").event_time(|r| {
        let text = std::str::from_utf8(r.value.unwrap_or_default()).unwrap_or_default();
        text.parse()
            .map_err(|_| ProcessError::Reject("no number".into()))
    });
    let mut rig = Rig::new(&b.build().unwrap(), &[0]);
    rig.send(0, &[(900, None, Some("70")), (999, None, Some("x"))]);
    rig.run();
    assert_eq!(rig.task.watermark(), 70);
    assert_eq!(rig.at("out").next().unwrap().timestamp, 70);
    let letter = rig.at("p.dlq").next().unwrap();
    assert_eq!(letter.timestamp, 999);
    assert_eq!(letter.headers["x-dlq-stage"], "event-time");
}

#[test]
fn too_much_output_of_one_record_is_rejected() {
    let pipeline = Pipeline::chain("p", "in")
        .stage(
            "flood",
            by(|event, ctx| {
                if let Event::Record(_) = event {
                    let value = vec![0; 3 << 20];
                    (0..20).for_each(|_| ctx.emit(1, None, Some(&value), &[]));
                }
                Ok(())
            }),
        )
        .to("out")
        .build()
        .unwrap();
    let mut rig = Rig::new(&pipeline, &[0]);
    rig.send(0, &[(1, None, Some("x"))]);
    rig.run();
    assert_eq!((rig.at("out").count(), rig.values("p.dlq")), (0, vec!["x"]));
}
