//! What is not the native protocol, or lies in it: a named error or a close, and nobody else notices.

use crate::raw::{Raw, Reaction, frame_of, frame_with, hello};
use crate::server::{Server, Site, within};
use flowstone_client::{Acks, Codec, ErrorCode, PartitionId, Record, TopicSettings};
use flowstone_wire::BatchBuilder;
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::frame::PREFIX_BYTES;
use flowstone_wire::limits::{BATCH_BYTES_MAX, FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use flowstone_wire::native::{CreateTopic, Fetch, ListTopics, Produce, Request};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Memory may grow by so much while all of this is sent.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Sends one record after the other until it is stopped. Returns how many were stored.
async fn healthy(server: &Server, stop: watch::Receiver<bool>) -> JoinHandle<u64> {
    let client = server.client().await;
    let producer = client.producer("healthy").open().await.unwrap();
    tokio::spawn(async move {
        let mut count = 0;
        while !*stop.borrow() {
            let receipt = within("an ack", producer.send(Record::new("fine")))
                .await
                .unwrap();
            assert_eq!(receipt.offset.0, count);
            count += 1;
        }
        count
    })
}

fn produce(partition: PartitionId, correlation: u64, batch: &[u8]) -> Vec<u8> {
    frame_of(
        &Produce {
            partition,
            acks: Acks::Written,
        },
        correlation,
        batch,
    )
}

fn batch(codec: Codec, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    assert!(builder.push(1_000, None, Some(value), &[]));
    builder.finish_for_sending().to_vec()
}

/// Makes the checksum of a changed batch right again.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32(&batch[8..]);
    batch[4..8].copy_from_slice(&crc.to_le_bytes());
    batch
}

/// IEEE CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Zeros that were packed again and again: 64 MiB in some kilobytes.
fn bomb(codec: Codec) -> Vec<u8> {
    let plain = batch(Codec::None, b"x");
    let mut packed = plain[..HEADER_BYTES].to_vec();
    flowstone_wire::compress::compress(codec, &vec![0; 64 << 20], &mut packed);
    let size = packed.len() as u32;
    packed[8..12].copy_from_slice(&size.to_le_bytes());
    packed[46..48].copy_from_slice(&codec.bits().to_le_bytes());
    sealed(packed)
}

fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

/// Bytes that end a connection that was greeted.
fn endings() -> Vec<(&'static str, Vec<u8>)> {
    let list = frame_of(&ListTopics::default(), 7, &[]);
    let too_large = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
    let header_too_large = (FRAME_HEADER_BYTES_MAX as u32 + 1).to_le_bytes();
    let large_frame = (FRAME_HEADER_BYTES_MAX as u32 * 2).to_le_bytes();
    let lying_header = with(with(list.clone(), 16, &header_too_large), 0, &large_frame);
    vec![
        ("a frame over the limit", with(list.clone(), 0, &too_large)),
        (
            "the largest number as a size",
            with(list.clone(), 0, &[0xff; 4]),
        ),
        (
            "a frame smaller than its front",
            with(list.clone(), 0, &3u32.to_le_bytes()),
        ),
        (
            "a header larger than its frame",
            with(list, 16, &500u32.to_le_bytes()),
        ),
        ("a header over the limit", lying_header),
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nhost: here\r\n\r\n".to_vec(),
        ),
    ]
}

/// Requests that are refused by name; the connection goes on.
fn refusals(partition: PartitionId) -> Vec<(&'static str, Vec<u8>, ErrorCode)> {
    use ErrorCode::{CorruptBatch, InvalidName, InvalidRequest, TooLarge, UnsupportedVersion};
    let good = batch(Codec::None, b"value");
    let crc_wrong = with(good.clone(), good.len() - 1, b"!");
    let count = |n: u32| sealed(with(good.clone(), 40, &n.to_le_bytes()));
    let counts = |n: u32| sealed(with(count(n), 36, &(n - 1).to_le_bytes()));
    let flags = |bits: u16| sealed(with(good.clone(), 46, &bits.to_le_bytes()));
    let size = |n: u32| sealed(with(good.clone(), 8, &n.to_le_bytes()));
    let ask = |bytes: &[u8]| produce(partition, 9, bytes);
    let version = with(
        frame_of(&ListTopics::default(), 9, &[]),
        6,
        &77u16.to_le_bytes(),
    );
    let name = |name: &str| {
        let (name, settings) = (name.to_string(), TopicSettings::default());
        frame_of(
            &CreateTopic {
                name,
                partitions: 1,
                settings,
            },
            9,
            &[],
        )
    };
    let not_utf8 = frame_with(CreateTopic::API, 9, &[2, 0xff, 0xfe, 1, 0, 0, 0, 0], &[]);
    let oversize = vec![0; BATCH_BYTES_MAX + 1];
    vec![
        ("an unknown version", version, UnsupportedVersion),
        (
            "an unknown request",
            frame_with(999, 9, &[], &[]),
            InvalidRequest,
        ),
        (
            "no header",
            frame_with(Produce::API, 9, &[], &good),
            InvalidRequest,
        ),
        (
            "a header that is cut off",
            frame_with(Produce::API, 9, &[0x80], &good),
            InvalidRequest,
        ),
        ("a name that is no UTF-8", not_utf8, InvalidRequest),
        (
            "a name that is a path",
            name("../../etc/passwd"),
            InvalidName,
        ),
        ("a name with a zero", name("a\0b"), InvalidName),
        ("no batch", ask(&[]), CorruptBatch),
        ("no batch but text", ask(&[b'x'; 100]), CorruptBatch),
        ("a wrong checksum", ask(&crc_wrong), CorruptBatch),
        ("half a batch", ask(&good[..good.len() / 2]), CorruptBatch),
        (
            "more than a batch",
            ask(&[&good[..], &good[..]].concat()),
            CorruptBatch,
        ),
        ("a size that lies", ask(&size(1 << 20)), CorruptBatch),
        ("no records", ask(&count(0)), CorruptBatch),
        ("a count that lies by itself", ask(&count(2)), CorruptBatch),
        ("a count that lies", ask(&counts(2)), CorruptBatch),
        (
            "more records than there may be",
            ask(&counts(u32::MAX)),
            CorruptBatch,
        ),
        ("the shard's own flag", ask(&flags(1 << 4)), CorruptBatch),
        ("an unfinished group", ask(&flags(1 << 3)), CorruptBatch),
        ("an unknown codec", ask(&flags(7)), CorruptBatch),
        (
            "a body that is no zstd",
            ask(&flags(Codec::Zstd.bits())),
            CorruptBatch,
        ),
        ("a zstd bomb", ask(&bomb(Codec::Zstd)), CorruptBatch),
        ("a gzip bomb", ask(&bomb(Codec::Gzip)), CorruptBatch),
        ("an lz4 bomb", ask(&bomb(Codec::Lz4)), CorruptBatch),
        ("a snappy bomb", ask(&bomb(Codec::Snappy)), CorruptBatch),
        ("a batch over the limit", ask(&oversize), TooLarge),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_name_and_harm_nobody() {
    let site = Site::new("", "");
    let server = site.start();
    let client = server.client().await;
    client
        .create_topic("healthy", 1, TopicSettings::default())
        .await
        .unwrap();
    let topic = client
        .create_topic("target", 1, TopicSettings::default())
        .await
        .unwrap();
    let partition = topic.partitions[0].id;
    let (stop, stopped) = watch::channel(false);
    let others = healthy(&server, stopped).await;
    let before = server.anonymous_bytes();
    let mut raw = Raw::greeted(server.native()).await;
    for round in 0..5 {
        for (what, bytes, code) in refusals(partition) {
            raw.say(&bytes).await;
            let reaction = raw.reaction::<Produce>().await;
            assert_eq!(
                reaction,
                Reaction::Refused(9, code),
                "{what} (round {round})"
            );
        }
        let unknown = produce(PartitionId(999_999), 3, &batch(Codec::None, b"value"));
        raw.say(&unknown).await;
        let expected = Reaction::Refused(3, ErrorCode::UnknownPartition);
        assert_eq!(raw.reaction::<Produce>().await, expected);
        // The connection is as good as before.
        raw.say(&produce(partition, 4, &batch(Codec::Zstd, &[7; 1000])))
            .await;
        assert_eq!(raw.reaction::<Produce>().await, Reaction::Done(4));
        for (what, bytes) in endings() {
            let mut raw = Raw::greeted(server.native()).await;
            raw.say(&bytes).await;
            assert_eq!(
                raw.reaction::<ListTopics>().await,
                Reaction::Closed,
                "{what}"
            );
        }
    }
    let status = client.describe("target").await.unwrap();
    assert_eq!(
        status.partitions[0].end.0, 5,
        "only the good ones are stored"
    );
    stop.send_replace(true);
    let count = within("the healthy producer", others).await.unwrap();
    assert!(count > 5, "it was held up: {count}");
    let grown = server.anonymous_bytes().saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "memory has grown by {grown} bytes"
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_greet_is_let_go() {
    let site = Site::new("", "");
    let server = site.start();
    let hello = hello();
    let not_first = frame_of(&ListTopics::default(), 1, &[]);
    let cut_off = with(hello.clone(), 16, &1u32.to_le_bytes());
    let unknown_version = with(hello.clone(), 6, &9u16.to_le_bytes());
    for (what, bytes) in [
        ("another request first", not_first),
        ("a greeting that is cut off", cut_off),
        ("a greeting of another version", unknown_version),
        ("noise", vec![0xaa; 4096]),
    ] {
        let mut raw = Raw::silent(server.native()).await;
        raw.say(&bytes).await;
        assert_eq!(
            raw.reaction::<ListTopics>().await,
            Reaction::Closed,
            "{what}"
        );
    }
    // Open connections that say nothing, or not all of it, time out; meanwhile others are served.
    let before = server.anonymous_bytes();
    let mut half_open = Vec::new();
    for n in 0..200 {
        let mut raw = Raw::silent(server.native()).await;
        raw.say(&hello[..n % PREFIX_BYTES]).await;
        half_open.push(raw);
    }
    let client = server.client().await;
    client
        .create_topic("meanwhile", 1, TopicSettings::default())
        .await
        .unwrap();
    for raw in &mut half_open {
        assert_eq!(raw.reaction::<ListTopics>().await, Reaction::Closed);
    }
    let grown = server.anonymous_bytes().saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "memory has grown by {grown} bytes"
    );
    client.describe("meanwhile").await.unwrap();
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_correlation_for_two_requests_ends_the_connection() {
    let site = Site::new("", "");
    let server = site.start();
    let client = server.client().await;
    let topic = client
        .create_topic("quiet", 1, TopicSettings::default())
        .await
        .unwrap();
    let fetch = Fetch {
        partition: topic.partitions[0].id,
        offset: flowstone_client::Offset(0),
        max_bytes: 1 << 20,
        wait_ms: 60_000,
    };
    let mut raw = Raw::greeted(server.native()).await;
    // The first one waits for records that do not come.
    raw.say(&[frame_of(&fetch, 5, &[]), frame_of(&fetch, 5, &[])].concat())
        .await;
    assert_eq!(raw.reaction::<Fetch>().await, Reaction::Closed);
    client.describe("quiet").await.unwrap();
    server.stop();
}
