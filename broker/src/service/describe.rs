//! How topics, groups, pipelines and shards stand, put together from all shards.

use super::{Service, unexpected};
use crate::cluster::ShardRequest;
use crate::tiering;
use crate::worker::unix_ms;
use flowstone_core::Reply;
use flowstone_core::output::Status;
use flowstone_wire::native::{
    GroupOffset, PartitionStatus, PipelineStatus, TierStatus, TopicStatus,
};
use flowstone_wire::{ErrorCode, Failure, PartitionId, ShardId, limits, name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Service {
    /// The state of one shard.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn shard_status(self: &Arc<Self>, shard: ShardId) -> Result<Status, Failure> {
        match self.ask(shard, ShardRequest::Status, None).await? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// The state of every shard.
    ///
    /// # Errors
    /// The first that fails.
    pub(crate) async fn statuses(self: &Arc<Self>) -> Result<Vec<Status>, Failure> {
        let mut all = Vec::new();
        for shard in self.all_shards() {
            all.push(self.shard_status(shard).await?);
        }
        Ok(all)
    }

    /// The state of those shards of which there is a copy here.
    ///
    /// # Errors
    /// The first that fails.
    pub(crate) async fn statuses_here(&self) -> Result<Vec<Status>, Failure> {
        let mut all = Vec::new();
        for shard in self.all_shards() {
            match self.ask_here(shard, ShardRequest::Status, None).await {
                Ok(Reply::Status(status)) => all.push(*status),
                Ok(other) => return Err(unexpected(&other)),
                // It is on other nodes.
                Err(e) if e.code == ErrorCode::NotLeader => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// How the tier stands; `None` where there is none.
    ///
    /// # Errors
    /// What the first shard says that cannot tell.
    pub async fn tier_status(&self) -> Result<Option<TierStatus>, Failure> {
        match self.tiering {
            Some(_) => Ok(self.tier_status_of(&self.statuses_here().await?)),
            None => Ok(None),
        }
    }

    /// As [`Self::tier_status`], where the shards were asked already.
    pub(crate) fn tier_status_of(&self, statuses: &[Status]) -> Option<TierStatus> {
        let shards = tiering::sum(statuses.iter().map(|s| s.tier));
        let tiering = self.tiering.as_ref()?;
        Some(tiering.status(&shards, unix_ms(), self.uptime_s()))
    }

    /// How a topic stands.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`], and what a shard says.
    pub async fn describe_topic(self: &Arc<Self>, name: &str) -> Result<TopicStatus, Failure> {
        let topic = self.catalog().topic(name)?.clone();
        let shards: BTreeSet<ShardId> = topic.partitions.iter().map(|p| p.shard).collect();
        let mut by_id: BTreeMap<PartitionId, PartitionStatus> = BTreeMap::new();
        for shard in shards {
            by_id.extend(
                self.shard_status(shard)
                    .await?
                    .partitions
                    .iter()
                    .map(|p| (p.id, *p)),
            );
        }
        let of = |id| {
            by_id.get(&id).copied().unwrap_or(PartitionStatus {
                id,
                ..Default::default()
            })
        };
        let partitions = topic.partitions.iter().map(|p| of(p.id)).collect();
        Ok(TopicStatus { topic, partitions })
    }

    /// How the pipelines stand: tasks of one pipeline added up.
    ///
    /// # Errors
    /// What a shard says.
    pub async fn pipelines(self: &Arc<Self>) -> Result<Vec<PipelineStatus>, Failure> {
        let mut by_name: BTreeMap<String, PipelineStatus> = BTreeMap::new();
        for status in self.statuses().await? {
            for task in status.tasks {
                match by_name.get_mut(&task.name) {
                    Some(sum) => add(sum, task),
                    None => drop(by_name.insert(task.name.clone(), task)),
                }
            }
        }
        Ok(by_name.into_values().collect())
    }

    /// The names of the groups that have positions.
    ///
    /// # Errors
    /// What a shard says.
    pub async fn groups(self: &Arc<Self>) -> Result<Vec<String>, Failure> {
        let mut names = BTreeSet::new();
        for shard in self.all_shards() {
            match self.ask(shard, ShardRequest::ListGroups, None).await? {
                Reply::Groups(groups) => names.extend(groups),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The positions of a group; of these partitions, or of all.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidName`], and what a shard says.
    pub async fn read_offsets(
        self: &Arc<Self>,
        group: &str,
        partitions: Vec<PartitionId>,
    ) -> Result<Vec<GroupOffset>, Failure> {
        name::check("group", group)?;
        let mut all = Vec::new();
        for shard in self.all_shards() {
            let (group, partitions) = (group.to_string(), partitions.clone());
            let request = ShardRequest::ReadOffsets { group, partitions };
            match self.ask(shard, request, None).await? {
                Reply::Offsets(offsets) => all.extend(offsets),
                other => return Err(unexpected(&other)),
            }
        }
        all.sort_by_key(|o| o.partition);
        Ok(all)
    }

    /// Stores positions of a group. Each shard stores its own atomically.
    ///
    /// # Errors
    /// What is wrong with them, and what a shard says; positions of other shards may then be stored.
    pub async fn commit_offsets(
        self: &Arc<Self>,
        group: &str,
        offsets: Vec<GroupOffset>,
    ) -> Result<(), Failure> {
        name::check("group", group)?;
        if offsets.len() > limits::OFFSET_COMMITS_MAX {
            let what = format!("{} positions in one commit are too many", offsets.len());
            return Err(Failure::new(ErrorCode::TooLarge, what));
        }
        let mut by_shard: BTreeMap<ShardId, Vec<GroupOffset>> = BTreeMap::new();
        for offset in offsets {
            let shard = self.require_shard(offset.partition)?;
            by_shard.entry(shard).or_default().push(offset);
        }
        for (shard, offsets) in by_shard {
            let group = group.to_string();
            match self
                .ask(shard, ShardRequest::CommitOffsets { group, offsets }, None)
                .await?
            {
                Reply::Committed => {}
                other => return Err(unexpected(&other)),
            }
        }
        Ok(())
    }
}

fn add(sum: &mut PipelineStatus, task: PipelineStatus) {
    if task.state != "running" {
        sum.state = task.state;
    }
    sum.positions.extend(task.positions);
    sum.lag += task.lag;
    sum.processed += task.processed;
    sum.emitted += task.emitted;
    sum.outbound_bytes += task.outbound_bytes;
    sum.failed += task.failed;
    sum.late += task.late;
    sum.latency_p50_us = sum.latency_p50_us.max(task.latency_p50_us);
    sum.latency_p99_us = sum.latency_p99_us.max(task.latency_p99_us);
    let both = sum.watermark_ms.zip(task.watermark_ms);
    sum.watermark_ms = both.map(|(a, b)| a.min(b));
    sum.state_bytes += task.state_bytes;
    sum.spilled_bytes += task.spilled_bytes;
    for (operator, more) in sum.operators.iter_mut().zip(task.operators) {
        operator.rows_in += more.rows_in;
        operator.rows_out += more.rows_out;
        operator.late += more.late;
        operator.failed += more.failed;
        operator.state_bytes += more.state_bytes;
    }
}
