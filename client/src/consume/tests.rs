//! Consumers against a broker that breaks, damages and misplaces.

use crate::fake_broker::{Door, FakeBroker, until_all_wait};
use crate::{Client, Codec, Consumer, Error, ErrorCode, Offset, ReadFrom, Record};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

fn client(broker: &Arc<FakeBroker>) -> Client {
    Client::over(Arc::new(Door(Arc::clone(broker))))
}

/// Stores batches of four records each; the value of a record is its offset.
async fn fill(broker: &Arc<FakeBroker>, partition: u32, batches: u32) {
    let codec = if partition == 0 {
        Codec::None
    } else {
        Codec::Zstd
    };
    let builder = client(broker).producer("t").linger_ms(1_000).codec(codec);
    let producer = builder.open().await.unwrap();
    for batch in 0..batches {
        for number in batch * 4..batch * 4 + 4 {
            let record = Record::new(number.to_string()).partition(partition);
            let record = record
                .timestamp(i64::from(number) * 10)
                .key("key key key key key");
            let _ticket = producer.enqueue(record).await.unwrap();
        }
        producer.flush().await.unwrap();
    }
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let records = consumer.next_batch().await.unwrap();
        for record in &records {
            assert_eq!(record.value, Some(record.offset.to_string().as_bytes()));
            seen.push((records.partition(), record.offset.0));
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_once_and_in_order() {
    let broker = FakeBroker::new(2);
    fill(&broker, 0, 5).await;
    fill(&broker, 1, 5).await;
    let mut consumer = client(&broker)
        .consumer("t")
        .max_bytes(300)
        .open()
        .await
        .unwrap();
    assert_eq!(consumer.lag(), None);
    let seen = read(&mut consumer, 40).await;
    for partition in 0..2 {
        let offsets = seen
            .iter()
            .filter(|(p, _)| *p == partition)
            .map(|(_, o)| *o);
        assert!(offsets.eq(0..20), "{seen:?}");
    }
    assert_eq!(consumer.lag(), Some(0));
    let nothing = consumer.next_batch().await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!((nothing.start(), nothing.end()), (Offset(0), Offset(20)));
    fill(&broker, 1, 1).await;
    let records = consumer.next_batch().await.unwrap();
    assert_eq!((records.partition(), records.len()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn records_before_the_position_are_skipped() {
    let broker = FakeBroker::new(1);
    fill(&broker, 0, 3).await;
    let builder = client(&broker)
        .consumer("t")
        .from(ReadFrom::Offset(Offset(6)));
    let mut consumer = builder.open().await.unwrap();
    let records = consumer.next_batch().await.unwrap();
    assert_eq!(records.len(), 6);
    assert!(records.iter().map(|r| r.offset.0).eq(6..12));
    assert_eq!(consumer.position(0).unwrap(), Offset(12));
}

#[tokio::test(start_paused = true)]
async fn a_seek_drops_what_was_read_ahead() {
    let broker = FakeBroker::new(2);
    fill(&broker, 0, 5).await;
    let builder = client(&broker).consumer("t").max_bytes(1).partitions([0]);
    let mut consumer = builder.open().await.unwrap();
    assert_eq!(read(&mut consumer, 4).await.len(), 4);
    // The next answer has come already.
    until_all_wait().await;
    consumer.seek(0, Offset(13)).unwrap();
    assert_eq!(read(&mut consumer, 3).await, [(0, 13), (0, 14), (0, 15)]);
    // Batches are found by their newest record.
    assert_eq!(consumer.seek_to_time(0, 50).await.unwrap(), Offset(4));
    assert_eq!(read(&mut consumer, 4).await[0], (0, 4));
    assert!(consumer.seek(1, Offset(0)).is_err());
    consumer.seek(0, Offset(99)).unwrap();
    let error = consumer.next_batch().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    assert!(error.to_string().contains("outside 0 to 20"), "{error}");
    consumer.seek(0, Offset(19)).unwrap();
    assert_eq!(read(&mut consumer, 1).await, [(0, 19)]);
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_where_it_committed() {
    let broker = FakeBroker::new(1);
    fill(&broker, 0, 4).await;
    let open = || client(&broker).consumer("t").group("g").max_bytes(1).open();
    let mut consumer = open().await.unwrap();
    read(&mut consumer, 8).await;
    consumer.commit().await.unwrap();
    read(&mut consumer, 4).await;
    drop(consumer);
    let mut consumer = open().await.unwrap();
    assert_eq!(read(&mut consumer, 4).await[0], (0, 8));
    let mut alone = client(&broker).consumer("t").open().await.unwrap();
    assert!(matches!(alone.commit().await, Err(Error::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn broken_connections_are_not_noticed_for_a_while() {
    let broker = FakeBroker::new(1);
    fill(&broker, 0, 2).await;
    broker.state.lock().unwrap().break_fetches = 10;
    let mut consumer = client(&broker).consumer("t").open().await.unwrap();
    read(&mut consumer, 8).await;
    broker.state.lock().unwrap().break_fetches = usize::MAX;
    consumer.seek(0, Offset(0)).unwrap();
    let started = tokio::time::Instant::now();
    let error = loop {
        match consumer.next_batch().await {
            Ok(records) => assert!(records.is_empty()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Disconnected(_)), "{error}");
    let took_s = started.elapsed().as_secs();
    assert!((30..33).contains(&took_s), "{took_s}");
}

/// Flips one bit in the last value of a stored batch: only its checksum can tell.
fn damage(broker: &FakeBroker, batch: usize) {
    let stored = &mut broker.state.lock().unwrap().logs[0].batches[batch].1;
    let mut bytes = BytesMut::from(&stored[..]);
    let in_value = bytes.len() - 2;
    bytes[in_value] ^= 1;
    *stored = bytes.freeze();
}

#[tokio::test(start_paused = true)]
async fn damage_is_reported_where_it_is_and_not_before() {
    let broker = FakeBroker::new(1);
    fill(&broker, 0, 4).await;
    damage(&broker, 2);
    let mut consumer = client(&broker).consumer("t").open().await.unwrap();
    read(&mut consumer, 8).await;
    for _ in 0..2 {
        match consumer.next_batch().await {
            Err(Error::Damaged {
                offset, partition, ..
            }) => {
                assert_eq!((offset, partition), (Offset(8), 0));
            }
            other => panic!("{other:?}"),
        }
    }
    consumer.seek(0, Offset(12)).unwrap();
    assert_eq!(read(&mut consumer, 4).await[0], (0, 12));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_batches_or_of_elsewhere_are_damage() {
    let broker = FakeBroker::new(2);
    fill(&broker, 1, 1).await;
    let elsewhere = broker.state.lock().unwrap().logs[1].batches[0].clone();
    for bytes in [
        Bytes::from_static(b"FSB1"),
        Bytes::from(vec![0; 100]),
        elsewhere.1,
    ] {
        {
            let log = &mut broker.state.lock().unwrap().logs[0];
            log.batches = vec![(elsewhere.0, bytes)];
            log.end = 4;
        }
        let builder = client(&broker).consumer("t").partitions([0]);
        let error = builder
            .open()
            .await
            .unwrap()
            .next_batch()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
