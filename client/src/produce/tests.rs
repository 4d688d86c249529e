//! Producers against a broker that loses, refuses, holds and forgets.

use crate::fake_broker::{Act, Door, FakeBroker, until_all_wait};
use crate::{Client, Codec, Error, ErrorCode, Producer, ProducerBuilder, Record, Ticket};
use std::sync::Arc;

fn builder(broker: &Arc<FakeBroker>) -> ProducerBuilder {
    Client::over(Arc::new(Door(Arc::clone(broker)))).producer("t")
}

/// A small generator, so that a run is its seed.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

async fn enqueue_numbers(producer: &Producer, numbers: std::ops::Range<u32>) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for number in numbers {
        let record = Record::new(number.to_le_bytes().to_vec()).partition(0);
        tickets.push(producer.enqueue(record).await.unwrap());
    }
    tickets
}

fn numbers(broker: &FakeBroker) -> Vec<u32> {
    let values = broker.values(0).into_iter();
    values
        .map(|v| u32::from_le_bytes(v.try_into().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_record_is_stored_once_and_in_order_whatever_is_lost() {
    for seed in 0..200 {
        let broker = FakeBroker::new(1);
        let mut dice = random(seed);
        broker.act_by(move || match dice(8) {
            0 => Act::LoseAnswer,
            1 => Act::LoseRequest,
            2 => Act::Refuse(ErrorCode::Busy),
            3 => Act::Refuse(ErrorCode::Internal),
            _ => Act::Answer,
        });
        // Small batches, so that five of them are under way most of the time.
        let producer = builder(&broker).batch_bytes(200).open().await.unwrap();
        let mut pauses = random(seed + 1_000);
        let mut tickets = Vec::new();
        for number in 0..150 {
            tickets.extend(enqueue_numbers(&producer, number..number + 1).await);
            if pauses(3) == 0 {
                tokio::task::yield_now().await;
            }
        }
        producer.flush().await.unwrap();
        assert_eq!(
            numbers(&broker),
            (0..150).collect::<Vec<_>>(),
            "seed {seed}"
        );
        for (offset, ticket) in (0..).zip(tickets) {
            assert_eq!(ticket.await.unwrap().offset.0, offset, "seed {seed}");
        }
        assert_eq!(producer.buffered_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_not_stored_twice_and_what_succeeds_is_stored_once() {
    for seed in 0..200 {
        let broker = FakeBroker::new(1);
        let mut dice = random(seed);
        broker.act_by(move || match dice(8) {
            0 => Act::LoseAnswer,
            1 => Act::LoseRequest,
            2 => Act::Refuse(ErrorCode::TooLarge),
            3 => Act::Refuse(ErrorCode::UnknownProducer),
            _ => Act::Answer,
        });
        let producer = builder(&broker).batch_bytes(200).open().await.unwrap();
        let mut results = Vec::new();
        for number in 0..100 {
            let tickets = enqueue_numbers(&producer, number..number + 1).await;
            results.extend(tickets);
            tokio::task::yield_now().await;
        }
        let _some_fail = producer.flush().await;
        let stored = numbers(&broker);
        assert!(stored.is_sorted_by(|a, b| a < b), "seed {seed}: {stored:?}");
        for (number, ticket) in (0..).zip(results) {
            if let Ok(receipt) = ticket.wait().await {
                assert_eq!(stored[receipt.offset.0 as usize], number, "seed {seed}");
            }
        }
        assert_eq!(producer.buffered_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_stored_batch_is_recognised() {
    let broker = FakeBroker::new(1);
    broker.script(&[Act::LoseAnswer]);
    let producer = builder(&broker).open().await.unwrap();
    let receipt = producer.send(Record::new("x")).await.unwrap();
    assert!(receipt.duplicate);
    assert_eq!(broker.values(0).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_for_good_does_not_take_the_next_ones_with_it() {
    let broker = FakeBroker::new(1);
    broker.script(&[Act::Answer, Act::Refuse(ErrorCode::CorruptBatch)]);
    let producer = builder(&broker).open().await.unwrap();
    producer.send(Record::new("a")).await.unwrap();
    let error = producer.send(Record::new("b")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CorruptBatch));
    producer.send(Record::new("c")).await.unwrap();
    assert_eq!(broker.values(0), [b"a", b"c"]);
    assert_eq!(broker.state.lock().unwrap().producers_given, 2);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_producer_appends_again_only_what_cannot_be_stored() {
    let forgotten = Act::Refuse(ErrorCode::UnknownProducer);
    let broker = FakeBroker::new(1);
    broker.script(&[forgotten]);
    let producer = builder(&broker).open().await.unwrap();
    producer.send(Record::new("a")).await.unwrap();
    broker.script(&[Act::LoseAnswer, forgotten]);
    let error = producer.send(Record::new("b")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownProducer));
    assert_eq!(broker.values(0), [b"a", b"b"]);
}

#[tokio::test(start_paused = true)]
async fn without_numbers_an_unknown_fate_is_an_error_and_a_refusal_is_tried_again() {
    let broker = FakeBroker::new(1);
    broker.script(&[Act::LoseAnswer, Act::Refuse(ErrorCode::Busy)]);
    let producer = builder(&broker).idempotent(false).open().await.unwrap();
    let error = producer.send(Record::new("a")).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(_)), "{error}");
    producer.send(Record::new("b")).await.unwrap();
    assert_eq!(broker.values(0), [b"a", b"b"]);
    assert_eq!(broker.state.lock().unwrap().producers_given, 0);
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_last_error() {
    let broker = FakeBroker::new(1);
    broker.act_by(|| Act::Refuse(ErrorCode::DiskFull));
    let producer = builder(&broker).retry_for_ms(5_000).open().await.unwrap();
    let started = tokio::time::Instant::now();
    let error = producer.send(Record::new("a")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::DiskFull));
    let took_s = started.elapsed().as_secs();
    assert!((5..8).contains(&took_s), "{took_s}");
    broker.script(&[]);
    producer.send(Record::new("b")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn enqueue_waits_while_the_buffer_is_full_and_memory_keeps_to_it() {
    let broker = FakeBroker::new(1);
    broker.act_by(|| Act::Hold);
    let producer = builder(&broker).buffer_bytes(4_096).open().await.unwrap();
    let filler = producer.clone();
    let task = tokio::spawn(async move {
        for _ in 0..100 {
            let _ticket = filler.enqueue(Record::new(&[7u8; 200])).await.unwrap();
        }
    });
    until_all_wait().await;
    assert!(!task.is_finished());
    let buffered = producer.buffered_bytes();
    assert!((3_800..=4_096).contains(&buffered), "{buffered}");
    broker.release();
    task.await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(broker.values(0).len(), 100);
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn records_gather_while_the_most_batches_are_under_way() {
    let broker = FakeBroker::new(1);
    broker.act_by(|| Act::Hold);
    let producer = builder(&broker).max_in_flight(2).open().await.unwrap();
    for number in 0..2 {
        let _ticket = enqueue_numbers(&producer, number..number + 1).await;
        broker
            .until(|s| s.produce_calls == number as usize + 1)
            .await;
    }
    let _tickets = enqueue_numbers(&producer, 2..50).await;
    until_all_wait().await;
    assert_eq!(broker.state.lock().unwrap().produce_calls, 2);
    broker.release();
    producer.flush().await.unwrap();
    assert_eq!(broker.state.lock().unwrap().produce_calls, 3);
    assert_eq!(numbers(&broker), (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn linger_holds_a_batch_back_and_flush_does_not_wait_for_it() {
    let broker = FakeBroker::new(1);
    let producer = builder(&broker).linger_ms(1_000).open().await.unwrap();
    let started = tokio::time::Instant::now();
    producer.send(Record::new("a")).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 1);
    let _ticket = producer.enqueue(Record::new("b")).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 1);
    assert_eq!(broker.values(0), [b"a", b"b"]);
}

#[tokio::test(start_paused = true)]
async fn keys_have_their_partition_and_the_rest_goes_round() {
    let broker = FakeBroker::new(4);
    let producer = builder(&broker).codec(Codec::Lz4).open().await.unwrap();
    for _ in 0..4 {
        let receipt = producer.send(Record::new("v").key("k")).await.unwrap();
        assert_eq!(receipt.partition, crate::partition_for_key(b"k", 4));
    }
    let mut seen = [false; 4];
    for _ in 0..4 {
        seen[producer.send(Record::new("v")).await.unwrap().partition as usize] = true;
    }
    assert_eq!(seen, [true; 4]);
    let error = producer
        .send(Record::new("v").partition(4))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no partition 4"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_dropped_producer_leaves_no_ticket_waiting() {
    let broker = FakeBroker::new(1);
    broker.act_by(|| Act::Hold);
    let producer = builder(&broker).open().await.unwrap();
    let tickets = enqueue_numbers(&producer, 0..3).await;
    drop(producer);
    for ticket in tickets {
        assert_eq!(ticket.wait().await, Err(Error::Closed));
    }
    broker.release();
    let producer = builder(&broker).open().await.unwrap();
    let clone = producer.clone();
    producer.close().await.unwrap();
    assert_eq!(clone.send(Record::new("x")).await, Err(Error::Closed));
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused() {
    let broker = FakeBroker::new(1);
    let refused = builder(&broker).max_in_flight(6).open().await.unwrap_err();
    assert!(
        refused.to_string().contains("max_in_flight = 6"),
        "{refused}"
    );
    builder(&broker)
        .idempotent(false)
        .max_in_flight(6)
        .open()
        .await
        .unwrap();
    assert!(builder(&broker).batch_bytes(9 << 20).open().await.is_err());
    let error = Client::over(Arc::new(Door(broker)))
        .producer("none")
        .open()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
}
