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
//! in-tier/TOPIC       partitions of a deleted topic that the tier may still have
//! ```
//! Values are postcard.

use super::{Catalog, Counters, Deployed};
use flowstone_wire::native::{Partition, Topic, TopicSettings, Visibility};
use flowstone_wire::{PartitionId, TopicId};
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
            match key.split_once('/') {
                None if key == "counters" => {
                    catalog.counters = read::<Counters>(key, value)?;
                }
                Some(("topic.2", name)) => {
                    catalog.topics.insert(name.to_string(), read(key, value)?);
                }
                Some(("topic", name)) => {
                    let topic = read::<FirstTopic>(key, value)?;
                    catalog.topics.insert(name.to_string(), topic.into());
                }
                Some(("home", group)) => {
                    catalog.homes.insert(group.to_string(), read(key, value)?);
                }
                Some(("pipeline", name)) => {
                    catalog
                        .pipelines
                        .insert(name.to_string(), read(key, value)?);
                }
                Some(("deployed", name)) => {
                    catalog.deployed.insert(name.to_string(), read(key, value)?);
                }
                Some(("stream", name)) => {
                    catalog.streams.insert(name.to_string(), read(key, value)?);
                }
                Some(("in-tier", topic)) => {
                    let bad = |e| format!("row '{key}' of the catalog names no topic: {e}");
                    let topic = TopicId(topic.parse().map_err(bad)?);
                    catalog.left_in_tier.insert(topic, read(key, value)?);
                }
                _ => return Err(format!("row '{key}' of the catalog is not of this version")),
            }
        }
        Ok(catalog)
    }
}
