//! Making and deleting topics: the catalog first, then the shards.

use super::{Places, Service};
use flowstone_core::Input;
use flowstone_core::catalog::{Command, Event, partition_config};
use flowstone_wire::native::{Topic, TopicSettings};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::sync::{Arc, Weak};

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
        Ok(topic)
    }

    /// Tells the shards which partitions have come and gone, whoever made or deleted them. They have been
    /// told when it returns.
    pub(crate) fn follow_catalog(&self) {
        // One at a time: else what an old catalog has would be opened after a newer one closed it.
        let Ok(mut known) = self.known.lock() else {
            return;
        };
        let catalog = self.catalog();
        if let Ok(mut places) = self.places.write() {
            *places = Arc::new(Places::of(&catalog));
        }
        self.follow_places(&catalog, &mut known.places);
        let known = &mut known.topics;
        let gone = std::mem::take(known);
        for topic in catalog.topics() {
            if !gone.contains_key(&topic.id) {
                self.open_partitions(topic);
            }
            known.insert(topic.id, topic.clone());
        }
        let gone = gone.into_iter().filter(|(id, _)| !known.contains_key(id));
        for p in gone.flat_map(|(_, topic)| topic.partitions) {
            self.tell_shard(p.shard, Input::ClosePartition { partition: p.id });
        }
    }

    /// Follows what other nodes change, as long as the service is there.
    pub(crate) async fn keep_following(this: Weak<Self>) {
        let changes = this.upgrade().map(|service| service.catalog.watch());
        let Some(mut changes) = changes else {
            return;
        };
        while changes.changed().await.is_ok() {
            let Some(service) = this.upgrade() else {
                return;
            };
            service.follow_catalog();
        }
    }

    /// Tells the shards of a topic's partitions.
    fn open_partitions(&self, topic: &Topic) {
        for (shard, input) in openings(topic) {
            self.tell_shard(shard, input);
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// What the catalog says.
    pub async fn delete_topic(self: Arc<Self>, name: String) -> Result<(), Failure> {
        let in_tier = self.tiering.is_some();
        let deleted = self.command(Command::DeleteTopic { name, in_tier });
        deleted.await.map(drop)
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

/// What shards must hear of a topic's partitions.
pub(super) fn openings(topic: &Topic) -> impl Iterator<Item = (ShardId, Input)> {
    let config = partition_config(&topic.settings);
    topic.partitions.iter().map(move |p| {
        let input = Input::OpenPartition {
            partition: p.id,
            config: config.clone(),
        };
        (p.shard, input)
    })
}
