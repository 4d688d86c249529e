//! Tasks: what they did is there after whatever happens, and nothing is of those that are gone.

use super::*;
use flowstone_processor::{NodeRef, SourceOptions, TimeKind, Timer};
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

/// The time that a step takes itself is part of how long a pipeline takes.
#[test]
fn latency_goes_from_the_append_to_the_end_of_the_step() {
    let mut rig = Rig::new(CONFIG);
    rig.task = Some(numbers(B));
    let mut rig = rig.reopen();
    let (now, mut out) = (rig.now, Outbox::default());
    rig.shard.ended(now);
    for _ in 0..3 {
        rig.shard
            .step(now, send(None, A, plain("x", 1), Acks::None), &mut out);
        rig.shard.step(now, Input::Turn, &mut out);
        assert!(rig.shard.has_to_end());
        let mono_us = now.mono_us + 700;
        rig.shard.ended(Now { mono_us, ..now });
        assert!(!rig.shard.has_to_end());
    }
    let Ok(Reply::Status(status)) = rig.get(|ticket| Input::Status { ticket }) else {
        panic!("a status")
    };
    assert!((700.0..790.0).contains(&status.tasks[0].latency_p50_us));
}

/// Counts each value that it has seen.
struct Tally;

impl Processor for Tally {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let value = record.value.unwrap_or_default();
        let count = ctx.get(value).map_or(0, |n| n[0]) + 1;
        ctx.put(value, &[count]);
        let text = format!("{} {count}", value.escape_ascii());
        ctx.emit(
            record.timestamp,
            record.key,
            Some(text.as_bytes()),
            record.headers,
        );
        Ok(())
    }
}

#[test]
fn a_state_that_is_larger_than_its_memory_is_read_when_it_is_needed() {
    let mut rig = Rig::new(CONFIG);
    let options = PipelineOptions {
        state_bytes_max: 2_000,
        ..PipelineOptions::default()
    };
    let chain = Pipeline::chain("numbers", "a")
        .stage("n", || Box::new(Tally))
        .to("b");
    rig.task = Some(TaskConfig {
        pipeline: chain.options(options).build().unwrap(),
        ..numbers(B)
    });
    let mut rig = rig.reopen();
    let mut wanted = Vec::new();
    for round in 1..=4 {
        for key in 0..80 {
            rig.produce(plain(&format!("{key}"), 1), Acks::Durable)
                .unwrap();
            wanted.push(format!("{key} {round}"));
        }
        let Ok(Reply::Status(status)) = rig.get(|ticket| Input::Status { ticket }) else {
            panic!()
        };
        let task = &status.tasks[0];
        assert!(task.state_bytes <= 2_000, "{task:?}");
        assert!(task.spilled_bytes > 3_000, "{task:?}");
        rig = rig.power_cut();
        rig.advance(10_000);
    }
    assert_eq!(rig.values(B, Offset(0)), wanted);
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
    rig.advance(10_000);
    assert_eq!(stored(&rig), 0, "of one that ran");
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

#[test]
fn a_source_that_comes_first_is_read_to_its_end_before_the_others() {
    // Most of it is in settled segments, which are read aside while the others lie in the hot log.
    let mut rig = Rig::new(ShardConfig {
        hot_bytes: 2048,
        ..CONFIG
    });
    let table: Vec<String> = (0..60)
        .map(|n| format!("table {n} {}", "x".repeat(90)))
        .collect();
    for value in &table {
        rig.produce(plain(value, 1), Acks::Durable).unwrap();
    }
    for value in ["row 1", "row 2"] {
        let batch = plain(value, 1);
        let answer = rig.get(|ticket| send(Some(ticket), LATE, batch, Acks::Durable));
        answer.unwrap();
    }
    assert!(rig.shard.log().first_lsn().0 > 10, "segments were settled");
    let mut builder = Pipeline::new("both").unwrap();
    let first = SourceOptions {
        first: true,
        ..SourceOptions::default()
    };
    builder.source_with("table", first).source("rows");
    let stage = builder.add(NodeRef::INPUT, "pass", || Box::new(Pass));
    builder.sink(stage, "b");
    let local = |id| vec![SinkPartition { id, local: true }];
    rig.task = Some(TaskConfig {
        id: 1,
        pipeline: builder.build().unwrap(),
        inputs: vec![(A, 0), (LATE, 0)],
        sources: vec![0, 1],
        starts: Default::default(),
        sinks: vec![local(DLQ), local(DLQ), local(B)],
        share: 0..0,
    });
    let mut rig = rig.reopen();
    let mut wanted = table;
    wanted.extend(["row 1".into(), "row 2".into()]);
    assert_eq!(rig.values(B, Offset(0)), wanted);
    rig.produce(plain("table again", 1), Acks::Durable).unwrap();
    wanted.push("table again".into());
    assert_eq!(rig.values(B, Offset(0)), wanted);
}

/// Sets a timer for the next millisecond.
struct Soon;

impl Processor for Soon {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let timer = Timer {
            kind: TimeKind::Processing,
            at_ms: ctx.now_ms() + 1,
            key: Vec::new(),
        };
        ctx.set_timer(timer);
        ctx.forward(record);
        Ok(())
    }
}

/// The driver would turn for nothing until the disk is there.
#[test]
fn a_task_that_waits_for_the_disk_has_nothing_due() {
    let log = LogConfig {
        segment_bytes: 1 << 20,
        ..CONFIG.log
    };
    let mut rig = Rig::new(ShardConfig { log, ..CONFIG });
    let chain = Pipeline::chain("numbers", "a").stage("n", || Box::new(Soon));
    rig.step(Input::StartTask(Box::new(TaskConfig {
        pipeline: chain.to("b").build().unwrap(),
        ..numbers(B)
    })));
    rig.held_syncs = Some(Vec::new());
    for _ in 0..40 {
        let batch = plain(&"x".repeat(900), 1);
        rig.step(send(None, A, batch, Acks::None));
        rig.step(Input::Turn);
    }
    for _ in 0..3 {
        rig.advance(5_000);
        rig.step(Input::Turn);
    }
    let now_us = rig.now.mono_us;
    let due = rig.shard.deadline();
    assert!(due.is_none_or(|at_us| at_us > now_us), "{due:?} {now_us}");
    rig.run_syncs();
    (0..5).for_each(|_| rig.advance(2_000));
    let taken = rig.values(A, Offset(0)).len();
    assert!(taken > 10, "{taken}");
    assert_eq!(rig.values(B, Offset(0)).len(), taken);
}

/// What is behind a partition that cannot be read is waited for: its records would be late.
#[test]
fn a_partition_that_cannot_be_read_is_not_idle() {
    let mut rig = Rig::new(ShardConfig {
        hot_bytes: 2048,
        ..CONFIG
    });
    for n in 0..60 {
        let value = format!("{n} {}", "x".repeat(90));
        rig.produce(plain(&value, n), Acks::Durable).unwrap();
    }
    let batch = plain("much later", 900_000);
    rig.get(|ticket| send(Some(ticket), LATE, batch, Acks::Durable))
        .unwrap();
    assert!(rig.shard.log().first_lsn().0 > 10, "segments were settled");
    rig.step(Input::StartTask(Box::new(TaskConfig {
        inputs: vec![(A, 0), (LATE, 0)],
        ..numbers(B)
    })));
    rig.cold_fails = true;
    for _ in 0..100 {
        rig.advance(1_000_000);
    }
    let watermark = |rig: &mut Rig| {
        let Ok(Reply::Status(status)) = rig.get(|ticket| Input::Status { ticket }) else {
            panic!("a status")
        };
        status.tasks[0].watermark_ms
    };
    assert_eq!(watermark(&mut rig), None);
    rig.cold_fails = false;
    for _ in 0..5 {
        rig.advance(1_000_000);
    }
    assert_eq!(watermark(&mut rig), Some(59));
    assert_eq!(rig.values(B, Offset(0)).len(), 61);
}

/// Gives everything out as it is.
struct Pass;

impl Processor for Pass {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        ctx.forward(record);
        Ok(())
    }
}
