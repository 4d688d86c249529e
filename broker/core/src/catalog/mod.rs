//! The catalog: topics, producer numbers, pipelines, nodes and who holds which shard: what a cluster
//! agrees on.
//!
//! A pure state machine: a [`Command`] is checked and applied, and answered with an [`Event`] and
//! the rows that changed. The driver stores the rows durably before it tells anybody.

mod cluster;
mod command;
mod nodes;
mod pipelines;
pub mod placement;
mod replays;
mod rows;
mod shards;
mod topics;

pub use cluster::{Authority, COPIES_MAX, Cluster, ClusterCommand, Hash, Token};
pub use command::{Command, Event};
pub use nodes::{Addresses, Node, NodeCommand, NodeSpec, NodeState, Role};
pub use pipelines::Deployed;
pub use replays::Starts;
pub use rows::Row;
pub use shards::{Active, Appointment, Placed, REPLICAS_MAX, ShardCommand, UNKNOWN_LIFE};

use crate::input::PartitionConfig;
use flowstone_wire::native::{Topic, TopicSettings};
use flowstone_wire::{Failure, NodeId, PartitionId, ProducerId, ShardId, TopicId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counters of things that are never numbered twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counters {
    next_topic: u32,
    next_partition: u32,
    next_producer: u64,
    next_pipeline: u32,
    next_home: u32,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            next_topic: 1,
            next_partition: PartitionId::FIRST_USER,
            next_producer: 1,
            next_pipeline: 1,
            next_home: 0,
        }
    }
}

/// The catalog of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    shards: u16,
    counters: Counters,
    topics: BTreeMap<String, Topic>,
    /// Home shard of each placement group.
    homes: BTreeMap<String, u32>,
    pipelines: BTreeMap<String, u32>,
    /// Pipelines of SQL, and the streams that new ones can name.
    deployed: BTreeMap<String, Deployed>,
    streams: BTreeMap<String, String>,
    /// Where pipelines begin that do not begin at the start.
    starts: BTreeMap<String, Starts>,
    /// Partitions of deleted topics that the tier may still have something of.
    left_in_tier: BTreeMap<TopicId, Vec<PartitionId>>,
    /// `None` before the first node has founded it.
    cluster: Option<Cluster>,
    authority: Option<Authority>,
    tokens: BTreeMap<Hash, Token>,
    /// Copies wanted of placement groups that want another number than the cluster.
    copies: BTreeMap<String, u8>,
    nodes: BTreeMap<NodeId, Node>,
    placed: BTreeMap<ShardId, Placed>,
}

impl Catalog {
    /// An empty catalog of a data directory with this many shards.
    pub fn new(shards: u16) -> Self {
        Self {
            shards,
            counters: Counters::default(),
            topics: BTreeMap::new(),
            homes: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            deployed: BTreeMap::new(),
            streams: BTreeMap::new(),
            starts: BTreeMap::new(),
            left_in_tier: BTreeMap::new(),
            cluster: None,
            authority: None,
            tokens: BTreeMap::new(),
            copies: BTreeMap::new(),
            nodes: BTreeMap::new(),
            placed: BTreeMap::new(),
        }
    }

    /// Checks and applies a command. Returns what it did and the rows that changed.
    ///
    /// # Errors
    /// What is wrong with the command; nothing is changed then.
    pub fn apply(&mut self, command: Command) -> Result<(Event, Vec<Row>), Failure> {
        match command {
            Command::CreateTopic {
                name,
                partitions,
                settings,
            } => self.create_topic(name, partitions, settings),
            Command::DeleteTopic { name, in_tier } => self.delete_topic(&name, in_tier),
            Command::ForgetInTier { topic } => {
                self.left_in_tier.remove(&topic);
                Ok((Event::ForgottenInTier, vec![Row::not_left_in_tier(topic)]))
            }
            Command::TakeProducers { count } => {
                let first = ProducerId(self.counters.next_producer);
                self.counters.next_producer = first.0.saturating_add(count);
                Ok((Event::ProducersTaken(first), vec![self.counters_row()]))
            }
            Command::Skip {
                partition,
                producers,
            } => {
                let next = self.counters.next_partition.max(partition.0);
                self.counters.next_partition = next;
                self.counters.next_producer = self.counters.next_producer.saturating_add(producers);
                Ok((Event::Skipped, vec![self.counters_row()]))
            }
            Command::RegisterPipeline { name } => self.register_pipeline(name),
            Command::Cluster(command) => self.apply_to_cluster(command),
            Command::Node(command) => self.apply_to_node(command),
            Command::Shard(command) => self.apply_to_shard(command),
            Command::Deploy { streams, pipelines } => self.deploy(streams, pipelines),
            Command::PausePipeline { name, paused } => self.pause(&name, paused),
            Command::ForgetPipeline { name } => self.forget_pipeline(&name),
            Command::Upgrade { streams, pipelines } => self.upgrade(streams, pipelines),
            Command::Replay { pipelines, starts } => self.replay(pipelines, starts),
            Command::Switch { pipelines, topics } => self.switch(pipelines, &topics),
        }
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Partitions of deleted topics that the tier may still have something of.
    pub fn left_in_tier(&self) -> impl Iterator<Item = (TopicId, &[PartitionId])> {
        self.left_in_tier.iter().map(|(id, all)| (*id, &all[..]))
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// [`flowstone_wire::ErrorCode::UnknownTopic`].
    pub fn topic(&self, name: &str) -> Result<&Topic, Failure> {
        self.topics
            .get(name)
            .ok_or_else(|| topics::unknown_topic(name))
    }

    /// No partition has had this number yet, or a higher one.
    pub fn next_partition(&self) -> PartitionId {
        PartitionId(self.counters.next_partition)
    }

    /// Number of shards of the data directory.
    pub fn shards(&self) -> u16 {
        self.shards
    }
}

/// What a shard must know of the partitions of a topic.
pub fn partition_config(settings: &TopicSettings) -> PartitionConfig {
    PartitionConfig {
        retention_bytes: settings.retention_bytes,
        retention_ms: settings.retention_ms,
        visibility: settings.visibility,
        compact: settings.compact,
        tombstone_ms: settings.tombstone_ms.unwrap_or(TOMBSTONE_MS),
        local_retention_bytes: settings.local_retention_bytes,
        local_retention_ms: settings.local_retention_ms,
    }
}

/// How long a tombstone stays where the topic does not say.
const TOMBSTONE_MS: u64 = 24 * 3600 * 1000;

/// The shard of a partition: `(home + index) mod shards`.
pub fn shard_of(home: u32, index: u32, shards: u16) -> ShardId {
    ShardId((home.wrapping_add(index) % u32::from(shards.max(1))) as u16)
}

#[cfg(test)]
mod tests;
