//! Making and deleting topics: the catalog first, then the shards.

use super::Service;
use flowstone_core::Input;
use flowstone_core::catalog::{Command, Event, partition_config};
use flowstone_wire::native::{Topic, TopicSettings};
use flowstone_wire::{ErrorCode, Failure};
use std::sync::Arc;

impl Service {
    /// Makes a topic. On return its partitions take records.
    ///
    /// # Errors
    /// What the catalog says.
    pub async fn create_topic(
        self: Arc<Self>,
        name: String,
        partitions: u32,
        settings: TopicSettings,
    ) -> Result<Topic, Failure> {
        let this = self.clone();
        let event = self
            .command(Command::CreateTopic {
                name,
                partitions,
                settings,
            })
            .await?;
        let Event::TopicCreated(topic) = event else {
            return Err(Failure::new(
                ErrorCode::Internal,
                "the catalog made no topic",
            ));
        };
        this.open_partitions(&topic);
        Ok(topic)
    }

    /// Tells the shards of a topic's partitions.
    pub(crate) fn open_partitions(&self, topic: &Topic) {
        let config = partition_config(&topic.settings);
        for p in &topic.partitions {
            let input = Input::OpenPartition {
                partition: p.id,
                config: config.clone(),
            };
            self.tell_shard(p.shard, input);
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// What the catalog says.
    pub async fn delete_topic(self: Arc<Self>, name: String) -> Result<(), Failure> {
        let this = self.clone();
        let in_tier = self.tiering.is_some();
        let event = self.command(Command::DeleteTopic { name, in_tier }).await?;
        if let Event::TopicDeleted(topic) = event {
            for p in &topic.partitions {
                this.tell_shard(p.shard, Input::ClosePartition { partition: p.id });
            }
        }
        Ok(())
    }

    /// The named topics, or all.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`] for the first name that is not known.
    pub fn topics(&self, names: &[String]) -> Result<Vec<Topic>, Failure> {
        let catalog = self.catalog();
        if names.is_empty() {
            return Ok(catalog.topics().cloned().collect());
        }
        names
            .iter()
            .map(|name| catalog.topic(name).cloned())
            .collect()
    }
}
