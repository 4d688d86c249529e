//! Outputs for partitions of another shard: there once, in order, whatever happens on the way.

use super::*;

/// A shard whose task counts A into B, and B lives on the other one.
struct Pair {
    here: Rig,
    there: Rig,
}

fn far(sink: PartitionId) -> TaskConfig {
    let mut config = numbers(sink);
    config.sinks[2][0].local = false;
    config
}

impl Pair {
    fn new(config: ShardConfig) -> Self {
        let mut here = Rig::new(config);
        here.partitions.retain(|(p, _)| *p != B);
        here.task = Some(far(B));
        let mut there = Rig::new(CONFIG);
        there.partitions.retain(|(p, _)| *p == B);
        Self {
            here: Rig::open(SimDisk::default(), config, here.partitions, here.task),
            there: Rig::open(SimDisk::default(), CONFIG, there.partitions, None),
        }
    }

    fn produce(&mut self, count: usize) {
        for _ in 0..count {
            self.here.produce(plain("x", 1), Acks::Written).unwrap();
        }
    }

    /// Brings what is under way to the other shard. `answer` tells whether to bring its answer back.
    fn deliver(&mut self, answer: impl Fn(u64) -> bool) {
        let mut number = 0;
        while let Some(parcel) = self.here.parcels.pop_front() {
            let (lane, lsn, batch) = (parcel.lane, parcel.lsn, parcel.batch);
            let result = self.there.get(|ticket| Input::Deliver { ticket, batch });
            if answer(number) {
                let result = result.map(drop);
                self.here.step(Input::Carried { lane, lsn, result });
                self.here.step(Input::Turn);
            }
            number += 1;
        }
    }

    fn there(&mut self) -> Vec<String> {
        self.there.values(B, Offset(0))
    }

    fn waiting(&self) -> u64 {
        self.here.shard.outbound.waiting_bytes(1)
    }
}

fn up_to(count: usize) -> Vec<String> {
    (1..=count).map(|n| n.to_string()).collect()
}

#[test]
fn outputs_reach_the_other_shard_in_order_and_are_let_go() {
    let mut pair = Pair::new(CONFIG);
    pair.produce(20);
    assert_eq!(pair.there(), up_to(0));
    pair.deliver(|_| true);
    assert_eq!(pair.there(), up_to(20));
    assert_eq!(pair.waiting(), 0);
    let here = pair.here.get(|ticket| fetch(ticket, B, Offset(0), 0));
    assert_eq!(here.unwrap_err().code, ErrorCode::UnknownPartition);
}

#[test]
fn what_is_not_durable_does_not_leave() {
    let mut pair = Pair::new(CONFIG);
    pair.here.held_syncs = Some(Vec::new());
    pair.produce(1);
    assert!(pair.here.parcels.is_empty());
    let jobs = pair.here.held_syncs.as_ref().unwrap();
    assert_eq!(jobs.len(), 1, "the other shard waits: it is synced at once");
    pair.here.run_syncs();
    assert_eq!(pair.here.parcels.len(), 1);
}

#[test]
fn what_was_not_answered_goes_again_after_a_restart_and_counts_once() {
    // Stored as rows of the state store, and read again from the log.
    for materialize_bytes in [1, 1 << 20] {
        for answered in [0, 3, 11] {
            let mut pair = Pair::new(ShardConfig {
                materialize_bytes,
                ..CONFIG
            });
            for _ in 0..12 {
                pair.produce(1);
                let before = pair.here.produce(plain("bad", 1), Acks::Durable);
                before.unwrap();
                pair.deliver(|_| false);
                // Four are under way at most.
                let (here, there) = (pair.here.reopen(), pair.there);
                pair = Pair { here, there };
            }
            pair.deliver(|number| number < answered);
            let mut pair = Pair {
                here: pair.here.power_cut(),
                there: pair.there.power_cut(),
            };
            pair.produce(3);
            pair.deliver(|_| true);
            assert_eq!(pair.there(), up_to(15), "{materialize_bytes} {answered}");
            assert_eq!(pair.waiting(), 0);
        }
    }
}

#[test]
fn what_the_other_shard_loses_comes_again() {
    let mut pair = Pair::new(CONFIG);
    pair.produce(2);
    pair.deliver(|_| true);
    pair.there.held_syncs = Some(Vec::new());
    pair.produce(2);
    let parcel = pair.here.parcels.pop_front().unwrap();
    let ticket = pair.there.ask(|ticket| Input::Deliver {
        ticket,
        batch: parcel.batch,
    });
    pair.there.step(Input::Turn);
    assert!(
        !pair.there.answers.contains_key(&ticket),
        "it is not durable"
    );
    let mut pair = Pair {
        here: pair.here.reopen(),
        there: pair.there.power_cut(),
    };
    assert_eq!(pair.there(), up_to(2));
    pair.deliver(|_| true);
    assert_eq!(pair.there(), up_to(4));
}

#[test]
fn a_refusal_is_tried_again_in_order_after_a_pause() {
    let mut pair = Pair::new(CONFIG);
    pair.produce(6);
    let busy = || Err(Failure::new(ErrorCode::Busy, "no room"));
    let first = pair.here.parcels.pop_front().unwrap();
    let (lane, lsn) = (first.lane, first.lsn);
    // Those behind it are refused for the gap.
    let mut results = vec![(lsn, busy())];
    while let Some(parcel) = pair.here.parcels.pop_front() {
        let (lsn, batch) = (parcel.lsn, parcel.batch);
        let result = pair.there.get(|ticket| Input::Deliver { ticket, batch });
        let code = result.as_ref().unwrap_err().code;
        assert_eq!(code, ErrorCode::UnknownProducer);
        results.push((lsn, result.map(drop)));
    }
    for (lsn, result) in results {
        assert!(
            pair.here.parcels.is_empty(),
            "no answer is waited for twice"
        );
        pair.here.step(Input::Carried { lane, lsn, result });
        pair.here.step(Input::Turn);
    }
    assert!(pair.here.parcels.is_empty());
    for _ in 0..100 {
        let at = pair.here.shard.deadline().unwrap();
        pair.here.advance(at.saturating_sub(pair.here.now.mono_us));
    }
    assert!(!pair.here.parcels.is_empty());
    pair.deliver(|_| true);
    assert_eq!(pair.there(), up_to(6));
    assert_eq!(
        pair.here.reports,
        Vec::<String>::new(),
        "busy is nothing to report"
    );
}

#[test]
fn a_shard_that_stays_away_stops_the_pipeline_and_says_so() {
    let mut pair = Pair::new(ShardConfig {
        pending_bytes: 64 << 20,
        log: LogConfig {
            segment_bytes: 8 << 20,
            ..CONFIG.log
        },
        ..CONFIG
    });
    let value = "x".repeat(900_000);
    let echo = Pipeline::chain("numbers", "a")
        .stage("e", || Box::new(Echo))
        .to("b");
    let mut config = far(B);
    config.pipeline = echo.build().unwrap();
    pair.here.task = Some(config);
    pair.here = pair.here.reopen();
    let sent = 30;
    for _ in 0..sent {
        pair.here.produce(plain(&value, 1), Acks::Durable).unwrap();
    }
    assert!(
        (8 << 20..12 << 20).contains(&pair.waiting()),
        "{}",
        pair.waiting()
    );
    let parcel = pair.here.parcels.pop_front().unwrap();
    let (lane, lsn) = (parcel.lane, parcel.lsn);
    let result = Err(Failure::new(ErrorCode::ShardFenced, "its disk broke"));
    pair.here.step(Input::Carried { lane, lsn, result });
    assert_eq!(pair.here.reports.len(), 1);
    let status = pair.here.get(|ticket| Input::Status { ticket });
    let Ok(Reply::Status(status)) = status else {
        panic!("{status:?}")
    };
    assert_eq!(status.tasks[0].state, "retrying");
    assert!(status.tasks[0].outbound_bytes > 8 << 20);
    // It comes back, and everything goes on.
    pair.there = Rig::open(
        SimDisk::default(),
        pair.here.config,
        pair.there.partitions,
        None,
    );
    pair.here = pair.here.reopen();
    for _ in 0..100 {
        pair.deliver(|_| true);
        pair.here.advance(1000);
    }
    assert_eq!(pair.there().len(), sent);
    assert_eq!(pair.waiting(), 0);
}

struct Echo;

impl Processor for Echo {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        ctx.emit(record.timestamp, record.key, record.value, record.headers);
        Ok(())
    }
}

#[test]
fn what_goes_to_a_deleted_partition_is_dropped_and_reported() {
    let mut pair = Pair::new(CONFIG);
    pair.produce(3);
    pair.there.step(Input::ClosePartition { partition: B });
    pair.deliver(|_| true);
    assert_eq!(pair.waiting(), 0);
    assert!(
        pair.here.reports[0].contains("deleted"),
        "{:?}",
        pair.here.reports
    );
}

#[test]
fn no_client_can_write_as_another_shard() {
    let mut pair = Pair::new(CONFIG);
    pair.produce(1);
    let forged = pair.here.parcels.pop_front().unwrap().batch;
    let code = code(pair.there.produce(forged, Acks::Durable));
    assert_eq!(code, ErrorCode::InvalidRequest);
}
