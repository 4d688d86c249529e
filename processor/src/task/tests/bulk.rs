//! A stage that takes many records at once: kept, undone and cut as if they came one by one.

use crate::bulk::{Bulk, BulkProcessor, BulkRecord, Cause, Reading};
use crate::rig::Rig;
use crate::{Context, Pipeline, PipelineOptions, ProcessError, TimeKind, Timer};
use proptest::prelude::*;

/// Emits `value@watermark`, counts in its state, rejects the value `bad`, cannot read `unreadable`,
/// and says at every tenth millisecond of event time how many it has seen.
struct Echo;

impl BulkProcessor for Echo {
    fn read(&mut self, records: &[BulkRecord<'_>]) -> Vec<Result<Reading, String>> {
        let read = |r: &BulkRecord<'_>| match r.view.value {
            Some(b"unreadable") => Err("it says so".into()),
            _ => Ok(Some(r.view.timestamp).into()),
        };
        records.iter().map(read).collect()
    }

    fn process(&mut self, bulk: &Bulk<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        for ((record, watermark), readable) in
            bulk.records.iter().zip(bulk.watermarks).zip(bulk.readable)
        {
            if !readable {
                continue;
            }
            let view = &record.view;
            let text = String::from_utf8_lossy(view.value.unwrap_or_default()).into_owned();
            let cause = Cause {
                partition: record.partition,
                offset: view.offset,
                rekeyed: false,
            };
            let said = format!("{text}@{watermark}");
            ctx.emit_for(cause, view.timestamp, None, Some(said.as_bytes()), &[]);
            let seen = ctx.get(b"n").map_or(0, |n| n[0]) + 1;
            ctx.put(b"n", &[seen]);
            let at_ms = view.timestamp - view.timestamp.rem_euclid(10) + 10;
            // As a window does: what is due already was due before this record.
            if at_ms > *watermark {
                ctx.set_timer(Timer {
                    kind: TimeKind::Event,
                    at_ms,
                    key: vec![],
                });
            }
            if text == "bad" {
                return Err(ProcessError::Reject("it is bad".into()));
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let said = format!("tick {}", timer.at_ms);
        ctx.emit(timer.at_ms, None, Some(said.as_bytes()), &[]);
        Ok(())
    }

    fn on_timer_rejected(&mut self, _: &Timer, _: &mut Context<'_>) -> Option<Vec<u8>> {
        None
    }
}

fn pipeline() -> Pipeline {
    let mut builder = Pipeline::new("p").unwrap();
    builder.source("a");
    let stage = builder.add_bulk("echo", || Box::new(Echo));
    builder.sink(stage, "out");
    builder.options(PipelineOptions {
        out_of_order_ms: 3,
        ..PipelineOptions::default()
    });
    builder.build().unwrap()
}

/// What comes out, by topic, in the order of the topic.
fn run(records: &[(i64, &str)], cuts: &[usize], max_records: usize) -> Vec<(String, String)> {
    let mut rig = Rig::new(&pipeline(), &[1024]);
    rig.limits.max_records = max_records;
    let mut rest = records;
    for cut in cuts.iter().copied().chain([records.len()]) {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        if !now.is_empty() {
            let batch: Vec<_> = now.iter().map(|(ts, v)| (*ts, None, Some(*v))).collect();
            rig.send(1024, &batch);
        }
        rest = later;
    }
    while rig.step().unwrap() {}
    assert_eq!(rig.task.stats().processed, records.len() as u64);
    let mut outs: Vec<_> = rig
        .outs
        .iter()
        .map(|o| (o.sink.clone(), o.value.clone().unwrap_or_default()))
        .collect();
    // Ticks come behind the records of their unit, wherever it was cut.
    outs.sort_by_key(|(sink, value)| (sink.clone(), value.starts_with("tick")));
    outs
}

#[test]
fn bad_records_go_to_the_dead_letters_alone() {
    let records = [
        (1, "x"),
        (2, "bad"),
        (3, "unreadable"),
        (4, "y"),
        (5, "bad"),
    ];
    let outs = run(&records, &[], 100);
    let of = |sink: &str| -> Vec<&str> {
        let all = outs.iter().filter(|(s, _)| s == sink);
        all.map(|(_, v)| &v[..]).collect()
    };
    assert_eq!(of("p.dlq").len(), 3);
    // What fails does not move time.
    let lowest = i64::MIN;
    assert_eq!(of("out"), [format!("x@{lowest}"), "y@-2".into()]);
}

#[test]
fn a_bulk_stage_is_alone_behind_the_input() {
    let mut builder = Pipeline::new("p").unwrap();
    builder.source("a");
    builder.add_bulk("echo", || Box::new(Echo));
    builder.sink(crate::NodeRef::INPUT, "copy");
    let failure = builder.build().unwrap_err();
    assert!(failure.message.contains("not alone"), "{failure}");
}

proptest! {
    #[test]
    fn results_do_not_depend_on_how_the_input_is_cut(
        records in prop::collection::vec(
            (0i64..60, prop_oneof![8 => Just("v"), 1 => Just("bad"), 1 => Just("unreadable")]),
            1..60,
        ),
        cuts in prop::collection::vec(1usize..20, 0..8),
        max_records in 1usize..30,
    ) {
        prop_assert_eq!(run(&records, &cuts, max_records), run(&records, &[], 1_000));
    }
}
