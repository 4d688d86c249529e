//! Headers of every request and answer of the native protocol.

use flowstone_wire::native::{self, Request};
use flowstone_wire::{ErrorCode, Failure, Offset, PartitionId, ShardId, TopicId};
use serde::Serialize;

const PARTITION: PartitionId = PartitionId(1024);
const OFFSET: Offset = Offset(300);

/// Every request, and its answer both ways.
pub(super) fn headers() -> Vec<Vec<u8>> {
    [node(), topics(), records(), groups()].concat()
}

/// The row of a topic in the catalog.
pub(super) fn topic_row() -> Vec<u8> {
    encode(&topic())
}

fn request<R: Request>(request: &R, answer: R::Answer) -> Vec<Vec<u8>> {
    let first = R::API as u8 - 1;
    let coded = |first: u8, header: Vec<u8>| [&[first][..], &header].concat();
    let failed: Result<R::Answer, Failure> = Err(Failure::new(ErrorCode::Busy, "slow down"));
    let done: Result<R::Answer, Failure> = Ok(answer);
    vec![
        coded(first, encode(request)),
        coded(first | 0x80, encode(&done)),
        coded(first | 0x80, encode(&failed)),
    ]
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    native::encode(value).expect("it is plain data")
}

fn topic() -> native::Topic {
    let partition = |i: u32| native::Partition {
        id: PartitionId(1024 + i),
        shard: ShardId(i as u16),
    };
    native::Topic {
        id: TopicId(3),
        name: "orders".into(),
        settings: native::TopicSettings {
            placement: Some("g".into()),
            retention_bytes: Some(1 << 40),
            retention_ms: None,
            visibility: native::Visibility::Written,
            compact: true,
            tombstone_ms: Some(5),
            local_retention_bytes: Some(6),
            local_retention_ms: None,
        },
        partitions: (0..4).map(partition).collect(),
    }
}

fn node() -> Vec<Vec<u8>> {
    let hello = native::Hello {
        client: "test 1".into(),
        worker: Some(3),
    };
    let answer = native::HelloAnswer {
        broker: "flowstone".into(),
        workers: 2,
        shards: 4,
    };
    let shard = native::ShardStatus {
        shard: ShardId(3),
        epoch: flowstone_wire::Epoch(9),
        written_lsn: 300,
        durable_lsn: 299,
        fenced: Some("it is full".into()),
    };
    let mut all = request(&hello, answer);
    all.extend(request(&native::ListShards {}, vec![shard; 2]));
    let tier = native::TierStatus {
        url: "s3://b/p".into(),
        epoch: Some(3),
        month_cost: Some(1.5),
        ..native::TierStatus::default()
    };
    all.extend(request(&native::GetTier {}, Some(tier)));
    all
}

fn topics() -> Vec<Vec<u8>> {
    let topic = topic();
    let name = topic.name.clone();
    let list = native::ListTopics {
        names: vec![name.clone()],
    };
    let create = native::CreateTopic {
        name: name.clone(),
        partitions: 4,
        settings: topic.settings.clone(),
    };
    let status = native::TopicStatus {
        topic: topic.clone(),
        partitions: vec![native::PartitionStatus::default(); 4],
    };
    let delete = native::DeleteTopic { name: name.clone() };
    let mut all = request(&list, vec![topic.clone(); 2]);
    all.extend(request(&create, topic));
    all.extend(request(&delete, ()));
    all.extend(request(&native::DescribeTopic { name }, status));
    all
}

fn records() -> Vec<Vec<u8>> {
    let (partition, offset) = (PARTITION, OFFSET);
    let acks = native::Acks::Durable;
    let produced = native::ProduceAnswer {
        base_offset: offset,
        duplicate: true,
    };
    let fetch = native::Fetch {
        partition,
        offset,
        max_bytes: 1 << 20,
        wait_ms: 500,
    };
    let fetched = native::FetchAnswer {
        start: Offset(0),
        end: offset,
    };
    let place = native::Place::Time(1_700_000_000_000);
    let mut all = request(&native::Produce { partition, acks }, produced);
    all.extend(request(&fetch, fetched));
    all.extend(request(&native::FindOffset { partition, place }, offset));
    all
}

fn groups() -> Vec<Vec<u8>> {
    let (partition, offset) = (PARTITION, OFFSET);
    let position = native::GroupOffset {
        partition,
        offset,
        note: "n".into(),
    };
    let group = "g".to_string();
    let commit = native::CommitOffsets {
        group: group.clone(),
        offsets: vec![position.clone(); 3],
    };
    let read = native::ReadOffsets {
        group: group.clone(),
        partitions: vec![partition; 3],
    };
    let mut all = request(&commit, ());
    all.extend(request(&read, vec![position; 3]));
    all.extend(request(&native::ListGroups {}, vec![group; 3]));
    all
}
