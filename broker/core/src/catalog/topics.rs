//! Making and deleting topics.

use super::{Catalog, Event, Row, shard_of};
use flowstone_wire::limits::{TOPIC_PARTITIONS_MAX, TOPICS_MAX};
use flowstone_wire::native::{Partition, Topic, TopicSettings};
use flowstone_wire::{ErrorCode, Failure, PartitionId, TopicId, name};

impl Catalog {
    pub(super) fn create_topic(
        &mut self,
        topic: String,
        partitions: u32,
        settings: TopicSettings,
    ) -> Result<(Event, Vec<Row>), Failure> {
        name::check("topic", &topic)?;
        if let Some(placement) = &settings.placement {
            name::check("placement group", placement)?;
        }
        if self.topics.contains_key(&topic) {
            let what = format!("there is a topic '{topic}' already");
            return Err(Failure::new(ErrorCode::TopicExists, what));
        }
        if partitions == 0 || partitions > TOPIC_PARTITIONS_MAX {
            let what =
                format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions, not {partitions}");
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        if self.topics.len() >= TOPICS_MAX {
            let what = format!("there are {TOPICS_MAX} topics already; delete one");
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        let Some(next_partition) = self.counters.next_partition.checked_add(partitions) else {
            return Err(Failure::new(
                ErrorCode::LimitReached,
                "partition numbers are used up",
            ));
        };
        let group = settings.placement.clone().unwrap_or_else(|| topic.clone());
        let (home, home_row) = self.home_of(&group);
        let first = self.counters.next_partition;
        let place = |index| Partition {
            id: PartitionId(first + index),
            shard: shard_of(home, index, self.shards),
        };
        let made = Topic {
            id: TopicId(self.counters.next_topic),
            name: topic.clone(),
            settings,
            partitions: (0..partitions).map(place).collect(),
        };
        self.counters.next_topic += 1;
        self.counters.next_partition = next_partition;
        self.topics.insert(topic, made.clone());
        let mut rows = vec![self.counters_row(), Row::topic(&made)];
        rows.extend(home_row);
        Ok((Event::TopicCreated(made), rows))
    }

    /// The home of a placement group; a new one gets the next shard in turn.
    fn home_of(&mut self, group: &str) -> (u32, Option<Row>) {
        if let Some(home) = self.homes.get(group) {
            return (*home, None);
        }
        let home = self.counters.next_home % u32::from(self.shards.max(1));
        self.counters.next_home = self.counters.next_home.wrapping_add(1);
        self.homes.insert(group.to_string(), home);
        (home, Some(Row::home(group, home)))
    }

    pub(super) fn delete_topic(
        &mut self,
        topic: &str,
        in_tier: bool,
    ) -> Result<(Event, Vec<Row>), Failure> {
        let gone = self
            .topics
            .remove(topic)
            .ok_or_else(|| unknown_topic(topic))?;
        let mut rows = Vec::from(Row::no_topic(topic));
        if in_tier {
            let partitions: Vec<PartitionId> = gone.partitions.iter().map(|p| p.id).collect();
            rows.push(Row::left_in_tier(gone.id, &partitions));
            self.left_in_tier.insert(gone.id, partitions);
        }
        Ok((Event::TopicDeleted(gone), rows))
    }
}

pub(super) fn unknown_topic(topic: &str) -> Failure {
    let shown: String = topic
        .chars()
        .take(200)
        .flat_map(char::escape_default)
        .collect();
    let what = format!("there is no topic '{shown}'; make it with `flowstone topic create`");
    Failure::new(ErrorCode::UnknownTopic, what)
}
