//! The lane alone: answers that overtake one another, and sequences that wrap.

use super::*;
use crate::produce::budget::{Budget, Taken};
use flowstone_wire::{BatchBuilder, BatchHeader, Codec, Offset};
use std::sync::Arc;

fn gathered(records: u32) -> Gathered {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..records {
        assert!(builder.push(1, None, Some(b"x"), &[]));
    }
    Gathered {
        builder,
        completion: Completion::new(0, Taken::new(&Arc::new(Budget::new(1)), 0)),
        opened_at: Instant::now(),
    }
}

fn lane(next_sequence: u32) -> Lane {
    let identity = Identity::Known {
        id: ProducerId(7),
        epoch: 1,
        next_sequence,
    };
    Lane::new(0, identity)
}

fn sequence(outgoing: Option<(u64, Bytes)>) -> u32 {
    BatchHeader::decode(&outgoing.unwrap().1)
        .unwrap()
        .base_sequence
}

fn refused(code: ErrorCode) -> Result<ProduceAnswer, Failure> {
    Err(Failure::new(code, "test"))
}

fn stored() -> Result<ProduceAnswer, Failure> {
    Ok(ProduceAnswer {
        base_offset: Offset(0),
        duplicate: false,
    })
}

#[test]
fn sequences_count_records_and_wrap() {
    let mut lane = lane(u32::MAX - 1);
    for expected in [u32::MAX - 1, 1, 4] {
        lane.admit(gathered(3));
        assert_eq!(sequence(lane.next_outgoing()), expected);
    }
}

#[test]
fn a_batch_that_overtook_the_one_before_is_sent_again_under_its_number() {
    let (mut lane, options, now) = (lane(0), Options::default(), Instant::now());
    for _ in 0..2 {
        lane.admit(gathered(1));
        assert!(lane.next_outgoing().is_some());
    }
    let second = Arc::clone(lane.under_way[1].completion.as_ref().unwrap().outcome());
    lane.on_answer(1, refused(ErrorCode::OutOfOrderSequence), now, &options);
    lane.on_answer(0, stored(), now, &options);
    let Want::Timer(at) = lane.wants(now, &options) else {
        panic!("{lane:?}");
    };
    assert_eq!(lane.wants(at, &options), Want::Timer(at));
    assert_eq!(sequence(lane.next_outgoing()), 1);
    assert!(!second.is_known());
    // Alone at the front it has nothing to blame: this gap is real.
    lane.on_answer(1, refused(ErrorCode::OutOfOrderSequence), at, &options);
    assert!(second.is_known());
    assert!(matches!(lane.identity, Identity::Missing));
}

#[test]
fn nothing_is_sent_again_before_all_answers_are_in() {
    let (mut lane, options, now) = (lane(0), Options::default(), Instant::now());
    for _ in 0..3 {
        lane.admit(gathered(1));
        assert!(lane.next_outgoing().is_some());
    }
    lane.on_answer(0, refused(ErrorCode::Disconnected), now, &options);
    assert_eq!(lane.wants(now, &options), Want::Answer);
    assert!(lane.next_outgoing().is_none());
    lane.on_answer(2, stored(), now, &options);
    lane.on_answer(1, refused(ErrorCode::Busy), now, &options);
    let Want::Timer(at) = lane.wants(now, &options) else {
        panic!("{lane:?}");
    };
    lane.wants(at, &options);
    assert_eq!(sequence(lane.next_outgoing()), 0);
    assert_eq!(sequence(lane.next_outgoing()), 1);
    assert!(lane.next_outgoing().is_none());
}
