//! Requests and answers of the native protocol.
//!
//! The fields travel as postcard (<https://postcard.jamesmunns.com/wire-format>) in the header of a
//! [`crate::frame`]; batches travel as they are, in the payload. An answer's header is
//! `Result<Answer, Failure>`. Numbers of requests are explicit and never reused.

use crate::error::{ErrorCode, Failure};
use crate::ids::{Epoch, Offset, PartitionId, ProducerId, ShardId, TopicId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// When a produce request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acks {
    /// When the broker has taken it; it may still be lost.
    None,
    /// When it is in the page cache: survives `kill -9`, not a power cut.
    Written,
    /// When it is on disk: survives a power cut.
    #[default]
    Durable,
}

/// Up to where readers of a topic see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Only records that cannot vanish any more.
    #[default]
    Committed,
    /// Records in the page cache as well, for the lowest latency a reader can get.
    Written,
}

/// A request with its number and its answer.
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    /// The number in the frame.
    const API: u16;
    /// What the broker answers.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

macro_rules! request {
    ($name:ident = $api:literal -> $answer:ty) => {
        impl Request for $name {
            const API: u16 = $api;
            type Answer = $answer;
        }
    };
}

/// The first request of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name and version of the client, for logs.
    pub client: String,
    /// The worker that should serve this connection, as told by an earlier answer.
    pub worker: Option<u16>,
}
request!(Hello = 1 -> HelloAnswer);

/// What a client must know of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// Version of the broker.
    pub broker: String,
    /// Number of workers of the node.
    pub workers: u16,
    /// Number of shards; shard `s` is served by worker `s mod workers`.
    pub shards: u16,
}

/// Asks for topics: the named ones, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTopics {
    /// Names; empty for all.
    pub names: Vec<String>,
}
request!(ListTopics = 2 -> Vec<Topic>);

/// A topic and where its partitions live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Number of the topic.
    pub id: TopicId,
    /// Name of the topic.
    pub name: String,
    /// Its settings.
    pub settings: TopicSettings,
    /// Its partitions, in order of their index.
    pub partitions: Vec<Partition>,
}

/// Where a partition lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Cluster-wide number.
    pub id: PartitionId,
    /// Its shard.
    pub shard: ShardId,
}

/// Settings of a topic that can be chosen when it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// Placement group; topics that are processed together share one. `None`: a group of its own.
    pub placement: Option<String>,
    /// Bytes to keep per partition; `None` for no bound.
    pub retention_bytes: Option<u64>,
    /// Milliseconds to keep a record; `None` for ever.
    pub retention_ms: Option<u64>,
    /// Up to where readers see.
    pub visibility: Visibility,
    /// Whether of records with the same key only the newest is kept, as a table would.
    pub compact: bool,
    /// How long a record without a value, which deletes its key, stays in a compacted topic, in
    /// milliseconds; `None` for a day.
    pub tombstone_ms: Option<u64>,
    /// Bytes to keep per partition on the node, where there is a tier that has a copy; `None` for no
    /// bound.
    pub local_retention_bytes: Option<u64>,
    /// Milliseconds to keep a record on the node, where there is a tier that has a copy; `None` for
    /// as long as it is kept at all.
    pub local_retention_ms: Option<u64>,
}

/// Makes a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// Its settings.
    pub settings: TopicSettings,
}
request!(CreateTopic = 3 -> Topic);

/// Deletes a topic and all its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// Name of the topic.
    pub name: String,
}
request!(DeleteTopic = 4 -> ());

/// Appends the one batch in the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Produce {
    /// Where to.
    pub partition: PartitionId,
    /// When to answer.
    pub acks: Acks,
}
request!(Produce = 5 -> ProduceAnswer);

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceAnswer {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Whether it had been stored before and this was a retry.
    pub duplicate: bool,
}

/// Reads batches of one partition; they come in the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Where from.
    pub partition: PartitionId,
    /// The first record wanted; its batch is given whole.
    pub offset: Offset,
    /// At most so many bytes; one batch is always given.
    pub max_bytes: u32,
    /// How long to wait for something to read, in milliseconds.
    pub wait_ms: u32,
}
request!(Fetch = 6 -> FetchAnswer);

/// The bounds of a partition when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchAnswer {
    /// First offset that is still kept.
    pub start: Offset,
    /// Behind the last record that readers may see.
    pub end: Offset,
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The first offset that is kept.
    Start,
    /// Behind the last record that readers may see.
    End,
    /// The first record with a timestamp at or after this, milliseconds since 1970.
    Time(i64),
}

/// Asks for the offset of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindOffset {
    /// Where.
    pub partition: PartitionId,
    /// Which place.
    pub place: Place,
}
request!(FindOffset = 7 -> Offset);

/// Asks for the number of an idempotent producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProducer {}
request!(InitProducer = 8 -> InitProducerAnswer);

/// A new idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProducerAnswer {
    /// Its number.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: u16,
}

/// A position of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// Where.
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
    /// Free text of the consumer, at most 1 KiB.
    pub note: String,
}

/// Stores positions of a consumer group; answered when they are durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// Name of the group.
    pub group: String,
    /// The positions.
    pub offsets: Vec<GroupOffset>,
}
request!(CommitOffsets = 9 -> ());

/// Reads positions of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOffsets {
    /// Name of the group.
    pub group: String,
    /// Which partitions; empty for all that the group has.
    pub partitions: Vec<PartitionId>,
}
request!(ReadOffsets = 10 -> Vec<GroupOffset>);

/// Asks how a topic stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopic {
    /// Name of the topic.
    pub name: String,
}
request!(DescribeTopic = 11 -> TopicStatus);

/// How a topic stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicStatus {
    /// The topic.
    pub topic: Topic,
    /// One row per partition.
    pub partitions: Vec<PartitionStatus>,
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Cluster-wide number.
    pub id: PartitionId,
    /// First offset that is kept.
    pub start: Offset,
    /// Behind the last record that readers may see.
    pub committed: Offset,
    /// Behind the last record that was written.
    pub end: Offset,
    /// Bytes kept, hot and settled.
    pub bytes: u64,
    /// Settled segments.
    pub settled_segments: u32,
}

/// Asks for the consumer groups that have positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGroups {}
request!(ListGroups = 13 -> Vec<String>);

/// The epoch of each shard's leader, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// Its leader's epoch.
    pub epoch: Epoch,
    /// Last LSN written.
    pub written_lsn: u64,
    /// Last LSN on disk.
    pub durable_lsn: u64,
    /// Why it takes nothing any more, if so.
    pub fenced: Option<String>,
}

/// Asks how the shards stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListShards {}
request!(ListShards = 14 -> Vec<ShardStatus>);

/// How the tier of a node stands: the shards' part of it, and requests since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TierStatus {
    /// Where it is.
    pub url: String,
    /// `open`; `closed` before the bucket has answered; `lost` when another node has taken it over.
    pub state: String,
    /// Why it is not open.
    pub why: Option<String>,
    /// Under which epoch this node owns it.
    pub epoch: Option<u32>,
    /// Bytes of settled segments that have a copy there.
    pub copied_bytes: u64,
    /// Bytes of those that are there only.
    pub remote_bytes: u64,
    /// Bytes of settled segments that have none yet.
    pub waiting_bytes: u64,
    /// For how long the oldest of those has waited, in milliseconds, by the node's clock; counted anew
    /// after a start.
    pub waiting_ms: Option<u64>,
    /// The last upload of a shard failed.
    pub failing: bool,
    /// Bytes sent.
    pub up_bytes: u64,
    /// Bytes received.
    pub down_bytes: u64,
    /// Requests that write.
    pub put_requests: u64,
    /// Requests that read.
    pub get_requests: u64,
    /// Requests that list.
    pub list_requests: u64,
    /// Requests that failed for good.
    pub errors: u64,
    /// Chunks found in the local cache.
    pub cache_hits: u64,
    /// Chunks that had to be fetched.
    pub cache_misses: u64,
    /// Bytes in the local cache.
    pub cache_bytes: u64,
    /// What a month costs with what is stored now and requests as since the start, by the price list
    /// of the settings.
    pub month_cost: Option<f64>,
}

/// Asks how the tier stands; `None` where the node has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetTier {}
request!(GetTier = 15 -> Option<TierStatus>);

mod cluster;
mod pipeline;
mod query;

pub use cluster::{
    ChangeCluster, ClusterChange, ClusterStatus, CopyLag, GetCluster, LeaderMove, LeaderTold,
    MakeToken, MoveCause, NodeStatus, ShardPlace, TokenAnswer,
};
pub use pipeline::{
    ControlPipeline, DeployPipelines, DescribePipelines, ListPipelines, OperatorStatus,
    PipelineAction, PipelineDescription, PipelineShown, PipelineStatus, PipelineTrial,
    TRIAL_RECORDS_MAX, TryPipelines,
};
pub use query::{
    QUERY_WAIT_MS_MAX, QueryColumn, QueryKind, QueryRows, QueryStarted, QueryStatistics, ReadQuery,
    StartQuery, StopQuery,
};

/// Encodes a header.
///
/// # Errors
/// [`ErrorCode::Internal`] where the value cannot be encoded.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    postcard::to_stdvec(value).map_err(|e| {
        Failure::new(
            ErrorCode::Internal,
            format!("header cannot be encoded: {e}"),
        )
    })
}

/// Decodes a header; bytes left over are refused.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let invalid =
        |why: &str| Failure::new(ErrorCode::InvalidRequest, format!("frame header {why}"));
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(invalid("has bytes left over")),
        Err(e) => Err(invalid(&format!("cannot be decoded: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_what_they_always_were() {
        let all = [
            Hello::API,
            ListTopics::API,
            CreateTopic::API,
            DeleteTopic::API,
            Produce::API,
            Fetch::API,
            FindOffset::API,
            InitProducer::API,
            CommitOffsets::API,
            ReadOffsets::API,
            DescribeTopic::API,
            ListPipelines::API,
            ListGroups::API,
            ListShards::API,
            GetTier::API,
            GetCluster::API,
            ChangeCluster::API,
            DeployPipelines::API,
            DescribePipelines::API,
            ControlPipeline::API,
            MakeToken::API,
            StartQuery::API,
            ReadQuery::API,
            StopQuery::API,
        ];
        assert_eq!(all.to_vec(), (1..=24).collect::<Vec<u16>>());
    }

    #[test]
    fn header_bytes_are_what_they_always_were() {
        let produce = Produce {
            partition: PartitionId(1024),
            acks: Acks::Durable,
        };
        assert_eq!(encode(&produce).unwrap(), [0x80, 0x08, 2]);
        let fetch = Fetch {
            partition: PartitionId(1),
            offset: Offset(300),
            max_bytes: 5,
            wait_ms: 0,
        };
        assert_eq!(encode(&fetch).unwrap(), [1, 0xac, 2, 5, 0]);
        let failed: Result<Offset, Failure> = Err(Failure::new(ErrorCode::Busy, "x"));
        assert_eq!(encode(&failed).unwrap(), [1, 14, 1, b'x']);
    }

    #[test]
    fn left_over_and_missing_bytes_are_refused() {
        assert_eq!(
            decode::<Produce>(&[0, 2, 9]).unwrap_err().code,
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            decode::<Produce>(&[0]).unwrap_err().code,
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            decode::<Hello>(&[0xff; 9]).unwrap_err().code,
            ErrorCode::InvalidRequest
        );
    }
}
