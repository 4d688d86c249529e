//! What can be asked of the catalog, and what comes of it. Commands travel in the log that nodes agree on.
//!
//! Both are stored and sent as postcard: the number of a variant is its place, so variants are added at
//! the end and never moved. `tests/golden/format/v1/catalog.txt` holds them.

use super::cluster::ClusterCommand;
use super::nodes::NodeCommand;
use super::pipelines::Deployed;
use super::replays::Starts;
use super::shards::ShardCommand;
use crate::replica::Config;
use flowstone_wire::native::{Topic, TopicSettings};
use flowstone_wire::{Epoch, NodeId, PartitionId, ProducerId, TopicId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Make a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Number of its partitions.
        partitions: u32,
        /// Its settings.
        settings: TopicSettings,
    },
    /// Delete a topic.
    DeleteTopic {
        /// Its name.
        name: String,
        /// Whether a tier may have something of it; then that is remembered.
        in_tier: bool,
    },
    /// The tier has nothing more of a topic that was deleted.
    ForgetInTier {
        /// Its number.
        topic: TopicId,
    },
    /// Set aside producer numbers.
    TakeProducers {
        /// How many.
        count: u64,
    },
    /// Never give out numbers again that may have been given out after a copy of the catalog was made.
    Skip {
        /// Partitions from this one on are free.
        partition: PartitionId,
        /// So many producers.
        producers: u64,
    },
    /// Give a pipeline its number, or find the one it has.
    RegisterPipeline {
        /// Its name.
        name: String,
    },
    /// Something of the cluster as a whole.
    Cluster(ClusterCommand),
    /// Something of a node.
    Node(NodeCommand),
    /// Something of a shard.
    Shard(ShardCommand),
    /// Keep pipelines of SQL, under numbers of their own, and streams, in place of earlier ones of their
    /// names: all of them or nothing.
    Deploy {
        /// The statements of the streams, by name.
        streams: BTreeMap<String, String>,
        /// The pipelines, by name.
        pipelines: Vec<(String, Deployed)>,
    },
    /// Keep that a deployed pipeline runs, or that it does not.
    PausePipeline {
        /// Its name.
        name: String,
        /// Whether it rests.
        paused: bool,
    },
    /// Forget a deployed pipeline and its number.
    ForgetPipeline {
        /// Its name.
        name: String,
    },
    /// Keep other statements of deployed pipelines, which keep their numbers, and streams: all of them or
    /// nothing.
    Upgrade {
        /// The statements of the streams, by name.
        streams: BTreeMap<String, String>,
        /// The pipelines, by name, each with the plan that it had when it was looked at.
        pipelines: Vec<(String, String, Deployed)>,
    },
    /// Keep pipelines of SQL under numbers of their own; the first of them begins at these offsets.
    Replay {
        /// The pipelines, by name.
        pipelines: Vec<(String, Deployed)>,
        /// Where the first of them begins to read.
        starts: Starts,
    },
    /// Give pipelines the names of others, which end, and topics other names: all of them or nothing.
    Switch {
        /// For each the name that it has and the one that it takes, and how it is kept under that.
        pipelines: Vec<(String, String, Deployed)>,
        /// Names that topics have and names that they take, in this order.
        topics: Vec<(String, String)>,
    },
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The topic was made.
    TopicCreated(Topic),
    /// The topic was deleted.
    TopicDeleted(Topic),
    /// What the tier had of it is forgotten.
    ForgottenInTier,
    /// Numbers from this one on were set aside.
    ProducersTaken(ProducerId),
    /// The numbers were left out.
    Skipped,
    /// The number of the pipeline.
    PipelineRegistered(u32),
    /// The cluster has changed as was asked.
    ClusterChanged,
    /// A node has this number now.
    NodeJoined(NodeId),
    /// A node has changed as was asked.
    NodeChanged,
    /// A shard has this configuration now.
    Appointed(Config),
    /// This epoch of the shard is active.
    Activated(Epoch),
    /// A shard's place has changed as was asked.
    Placed,
    /// The number that the pipeline had.
    PipelineForgotten(u32),
    /// Streams and pipelines are kept.
    Deployed,
}
