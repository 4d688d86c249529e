//! The rows of the stored catalog.
//!
//! ```text
//! counters            Counters
//! topic.2/NAME        Topic
//! topic/NAME          FirstTopic, as written before there was a tier
//! home/GROUP          u32
//! pipeline/NAME       u32
//! deployed/NAME       Deployed
//! stream/NAME         text of the statement
//! start/NAME          offsets at which a pipeline begins, by partition
//! in-tier/TOPIC       partitions of a deleted topic that the tier may still have
//! cluster             Cluster
//! authority           Authority
//! token/HASH          Token, by its hash in hexadecimal
//! copies/GROUP        u8
//! node/NODE           Node
//! shard/SHARD         Placed
//! ```
//! Values are postcard.

use super::replays::Starts;
use super::{Authority, Catalog, Cluster, Counters, Deployed, Hash, Node, Placed, Token};
use flowstone_wire::native::{Partition, Topic, TopicSettings, Visibility};
use flowstone_wire::{NodeId, PartitionId, ShardId, TopicId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A row and its new value; `None` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: String,
    /// Postcard of the value.
    pub value: Option<Vec<u8>>,
}

fn some<T: Serialize>(key: String, value: &T) -> Row {
    let value = postcard::to_stdvec(value).expect("rows are plain data, which postcard encodes");
    Row {
        key,
        value: Some(value),
    }
}

impl Row {
    pub(super) fn topic(topic: &Topic) -> Self {
        some(format!("topic.2/{}", topic.name), topic)
    }

    /// Removes a topic, whichever version wrote it.
    pub(super) fn no_topic(name: &str) -> [Self; 2] {
        ["topic", "topic.2"].map(|kind| Self {
            key: format!("{kind}/{name}"),
            value: None,
        })
    }

    pub(super) fn home(group: &str, home: u32) -> Self {
        some(format!("home/{group}"), &home)
    }

    pub(super) fn left_in_tier(topic: TopicId, partitions: &[PartitionId]) -> Self {
        some(format!("in-tier/{}", topic.0), &partitions)
    }

    pub(super) fn not_left_in_tier(topic: TopicId) -> Self {
        Self {
            key: format!("in-tier/{}", topic.0),
            value: None,
        }
    }

    pub(super) fn cluster(cluster: &Cluster) -> Self {
        some("cluster".into(), cluster)
    }

    pub(super) fn authority(authority: &Authority) -> Self {
        some("authority".into(), authority)
    }

    pub(super) fn token(hash: &Hash, token: &Token) -> Self {
        some(token_key(hash), token)
    }

    pub(super) fn no_token(hash: &Hash) -> Self {
        Self {
            key: token_key(hash),
            value: None,
        }
    }

    pub(super) fn copies(group: &str, copies: Option<u8>) -> Self {
        let key = format!("copies/{group}");
        match copies {
            Some(copies) => some(key, &copies),
            None => Self { key, value: None },
        }
    }

    pub(super) fn node(node: &Node) -> Self {
        some(format!("node/{}", node.id), node)
    }

    pub(super) fn placed(shard: ShardId, placed: &Placed) -> Self {
        some(format!("shard/{shard}"), placed)
    }

    /// Whether the row of this key is about one cluster of nodes, not about what they hold: a directory
    /// that is made of a copy begins without it.
    pub fn is_of_nodes(key: &str) -> bool {
        let kind = key.split_once('/').map_or(key, |(kind, _)| kind);
        ["cluster", "authority", "token", "node", "shard"].contains(&kind)
    }

    pub(super) fn pipeline(name: &str, id: u32) -> Self {
        some(format!("pipeline/{name}"), &id)
    }

    pub(super) fn no_pipeline(name: &str) -> Self {
        Self {
            key: format!("pipeline/{name}"),
            value: None,
        }
    }

    /// Removes it where there is none.
    pub(super) fn deployed(name: &str, deployed: Option<&Deployed>) -> Self {
        let key = format!("deployed/{name}");
        match deployed {
            Some(deployed) => some(key, deployed),
            None => Self { key, value: None },
        }
    }

    pub(super) fn stream(name: &str, statement: &str) -> Self {
        some(format!("stream/{name}"), &statement)
    }

    /// Removes it where there is none.
    pub(super) fn starts(name: &str, starts: Option<&Starts>) -> Self {
        let key = format!("start/{name}");
        match starts {
            Some(starts) => some(key, starts),
            None => Self { key, value: None },
        }
    }
}

fn token_key(hash: &Hash) -> String {
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("token/{hex}")
}

fn hash_of(key: &str, hex: &str) -> Result<Hash, String> {
    let bad = || format!("row '{key}' of the catalog names no token");
    let mut hash = Hash::default();
    if hex.len() != 2 * hash.len() || !hex.is_ascii() {
        return Err(bad());
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        let digits = &hex[2 * at..2 * at + 2];
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
    }
    Ok(hash)
}

/// A topic without the settings of the tier.
#[derive(Deserialize)]
struct FirstTopic {
    id: TopicId,
    name: String,
    settings: FirstSettings,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct FirstSettings {
    placement: Option<String>,
    retention_bytes: Option<u64>,
    retention_ms: Option<u64>,
    visibility: Visibility,
    compact: bool,
    tombstone_ms: Option<u64>,
}

impl From<FirstTopic> for Topic {
    fn from(first: FirstTopic) -> Self {
        let settings = TopicSettings {
            placement: first.settings.placement,
            retention_bytes: first.settings.retention_bytes,
            retention_ms: first.settings.retention_ms,
            visibility: first.settings.visibility,
            compact: first.settings.compact,
            tombstone_ms: first.settings.tombstone_ms,
            ..TopicSettings::default()
        };
        Self {
            id: first.id,
            name: first.name,
            settings,
            partitions: first.partitions,
        }
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, String> {
    postcard::from_bytes(value)
        .map_err(|e| format!("row '{key}' of the catalog is not of this version: {e}"))
}

impl Catalog {
    pub(super) fn counters_row(&self) -> Row {
        some("counters".into(), &self.counters)
    }

    /// The catalog that these rows are of.
    ///
    /// # Errors
    /// The first row that this version cannot read.
    pub fn from_rows<'a>(
        shards: u16,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, String> {
        let mut catalog = Self::new(shards);
        for (key, value) in rows {
            catalog.take_row(key, value)?;
        }
        Ok(catalog)
    }

    fn take_row(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let bad = |e| format!("row '{key}' of the catalog has no number: {e}");
        match key.split_once('/').unwrap_or((key, "")) {
            ("counters", "") => self.counters = read::<Counters>(key, value)?,
            ("topic.2", name) => drop(self.topics.insert(name.into(), read(key, value)?)),
            ("topic", name) => {
                let topic = read::<FirstTopic>(key, value)?;
                self.topics.insert(name.into(), topic.into());
            }
            ("home", group) => drop(self.homes.insert(group.into(), read(key, value)?)),
            ("pipeline", name) => drop(self.pipelines.insert(name.into(), read(key, value)?)),
            ("deployed", name) => drop(self.deployed.insert(name.into(), read(key, value)?)),
            ("stream", name) => drop(self.streams.insert(name.into(), read(key, value)?)),
            ("start", name) => drop(self.starts.insert(name.into(), read(key, value)?)),
            ("in-tier", topic) => {
                let topic = TopicId(topic.parse().map_err(bad)?);
                self.left_in_tier.insert(topic, read(key, value)?);
            }
            ("cluster", "") => self.cluster = Some(read(key, value)?),
            ("authority", "") => self.authority = Some(read(key, value)?),
            ("token", hex) => drop(self.tokens.insert(hash_of(key, hex)?, read(key, value)?)),
            ("copies", group) => drop(self.copies.insert(group.into(), read(key, value)?)),
            ("node", id) => {
                let id = NodeId(id.parse().map_err(bad)?);
                self.nodes.insert(id, read(key, value)?);
            }
            ("shard", shard) => {
                let shard = ShardId(shard.parse().map_err(bad)?);
                self.placed.insert(shard, read(key, value)?);
            }
            _ => return Err(format!("row '{key}' of the catalog is not of this version")),
        }
        Ok(())
    }
}
