//! Deploying pipelines on a running node: numbers, topics, and a task on every shard.

use crate::service::Service;
use flowstone_core::catalog::{Command, Event, Starts};
use flowstone_core::input::{SinkPartition, TaskConfig};
use flowstone_core::{Catalog, Input};
use flowstone_processor::Pipeline;
use flowstone_wire::error::Retry;
use flowstone_wire::native::{Topic, TopicSettings};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A pipeline that could not be deployed is deployed again after so long.
const DEPLOY_EVERY: Duration = Duration::from_secs(1);
/// What goes through an exchange is read at once; a pipeline may rest for so long.
const EXCHANGE_RETENTION_MS: u64 = 7 * 24 * 3_600_000;

impl Service {
    /// Deploys a pipeline: it goes on from where a pipeline of this name stopped. Topics that are not
    /// there are made, as [`Self::topics_of`] says.
    ///
    /// # Errors
    /// What the catalog says.
    pub(crate) async fn deploy(self: Arc<Self>, pipeline: Pipeline) -> Result<(), Failure> {
        let name = pipeline.name().to_string();
        let event = self
            .clone()
            .command(Command::RegisterPipeline { name })
            .await?;
        let Event::PipelineRegistered(id) = event else {
            return Err(Failure::new(
                ErrorCode::Internal,
                "the catalog gave no number",
            ));
        };
        self.start_pipeline(id, pipeline, Starts::new()).await
    }

    /// Starts the tasks of a pipeline, which begins at these offsets where it has not read before. Topics that are not there are made, as [`Self::topics_of`] says.
    ///
    /// # Errors
    /// What the catalog says.
    pub(crate) async fn start_pipeline(
        self: Arc<Self>,
        id: u32,
        pipeline: Pipeline,
        starts: Starts,
    ) -> Result<(), Failure> {
        let topics = self.clone().topics_of(&pipeline).await?;
        self.start_tasks(id, &pipeline, &starts, &topics);
        Ok(())
    }

    /// Starts the tasks of a pipeline with these sources and sinks.
    pub(crate) fn start_tasks(
        &self,
        id: u32,
        pipeline: &Pipeline,
        starts: &Starts,
        (sources, sinks): &(Vec<Topic>, Vec<Topic>),
    ) {
        for shard in self.all_shards() {
            let mut config = task_config(id, pipeline, shard, sources, sinks);
            config.starts.clone_from(starts);
            if !config.inputs.is_empty() {
                self.remember_task(shard, &config);
                self.tell_shard(shard, Input::StartTask(Box::new(config)));
            }
        }
    }

    /// The topics of a pipeline, its sources and its sinks. Those that are not there are made: sources with
    /// one partition, sinks like the first source that is not read before the others, in its placement
    /// group.
    ///
    /// # Errors
    /// What the catalog says.
    pub(crate) async fn topics_of(
        self: Arc<Self>,
        pipeline: &Pipeline,
    ) -> Result<(Vec<Topic>, Vec<Topic>), Failure> {
        let mut sources = Vec::new();
        for source in pipeline.sources() {
            sources.push(
                self.clone()
                    .topic_or_make(source, 1, TopicSettings::default())
                    .await?,
            );
        }
        let is_model = |source: &usize| !pipeline.source_options(*source as u16).first;
        let first = (0..sources.len()).find(is_model).unwrap_or_default();
        let model = match (pipeline.like(), sources.get(first)) {
            (Some(topic), _) => {
                let settings = TopicSettings::default();
                self.clone().topic_or_make(topic, 1, settings).await?
            }
            (None, Some(first)) => first.clone(),
            (None, None) => {
                let what = format!("pipeline '{}' has no source", pipeline.name());
                return Err(Failure::new(ErrorCode::InvalidRequest, what));
            }
        };
        let group = model.settings.placement.clone();
        let group = group.unwrap_or_else(|| model.name.clone());
        let mut sinks = Vec::new();
        for (number, sink) in pipeline.sinks().iter().enumerate() {
            let mut settings = TopicSettings {
                placement: Some(group.clone()),
                ..TopicSettings::default()
            };
            let mut partitions = model.partitions.len() as u32;
            if pipeline.exchange().is_some_and(|s| s.index() == number) {
                settings.retention_ms = Some(EXCHANGE_RETENTION_MS);
                partitions =
                    (shards_of(&sources).len() as u32) * u32::from(self.catalog().shards());
            }
            let topic = self.clone().topic_or_make(sink, partitions, settings);
            sinks.push(topic.await?);
        }
        Ok((sources, sinks))
    }

    /// Deploys a pipeline as soon as the catalog can be asked; what else is wrong with it is said once.
    pub(crate) async fn keep_deploying(self: Arc<Self>, pipeline: Pipeline) {
        loop {
            let Err(e) = self.clone().deploy(pipeline.clone()).await else {
                return;
            };
            let name = pipeline.name();
            if self.is_draining() {
                return;
            }
            if e.code.retry() == Retry::Never {
                return tracing::error!("pipeline '{name}' cannot run: {e}");
            }
            tracing::warn!("pipeline '{name}' does not run yet: {e}");
            tokio::time::sleep(DEPLOY_EVERY).await;
        }
    }

    /// A shard that is opened again must hear of its tasks.
    fn remember_task(&self, shard: ShardId, config: &TaskConfig) {
        if let Ok(mut tasks) = self.tasks.lock() {
            let of_shard = tasks.entry(shard).or_default();
            of_shard.insert(config.id, config.clone());
        }
    }

    pub(crate) fn forget_task(&self, shard: ShardId, id: u32) {
        if let Ok(mut tasks) = self.tasks.lock()
            && let Some(of_shard) = tasks.get_mut(&shard)
        {
            of_shard.remove(&id);
        }
    }

    async fn topic_or_make(
        self: Arc<Self>,
        name: &str,
        partitions: u32,
        settings: TopicSettings,
    ) -> Result<Topic, Failure> {
        if let Ok(topic) = self.catalog().topic(name) {
            let topic = topic.clone();
            // Another thread may have made it just now and not have come to its partitions.
            self.follow_catalog();
            return Ok(topic);
        }
        self.create_topic(name.to_string(), partitions, settings)
            .await
    }
}

/// The sources and sinks of a pipeline, if this catalog has all of them.
pub(crate) fn topics_in(
    catalog: &Catalog,
    pipeline: &Pipeline,
) -> Option<(Vec<Topic>, Vec<Topic>)> {
    let of = |names: &[String]| {
        let topics = names.iter().map(|name| catalog.topic(name).ok().cloned());
        topics.collect::<Option<Vec<Topic>>>()
    };
    of(pipeline.sources()).zip(of(pipeline.sinks()))
}

/// What the task of a pipeline on one shard must know.
pub(crate) fn task_config(
    id: u32,
    pipeline: &Pipeline,
    shard: ShardId,
    sources: &[Topic],
    sinks: &[Topic],
) -> TaskConfig {
    let (mut inputs, mut of_source) = (Vec::new(), Vec::new());
    for (source, topic) in sources.iter().enumerate() {
        let all = topic.partitions.iter().enumerate();
        for (index, p) in all.filter(|(_, p)| p.shard == shard) {
            inputs.push((p.id, index as u32));
            of_source.push(source as u16);
        }
    }
    let sink = |t: &Topic| {
        let place = |p: &flowstone_wire::native::Partition| SinkPartition {
            id: p.id,
            local: p.shard == shard,
        };
        t.partitions.iter().map(place).collect()
    };
    TaskConfig {
        id,
        pipeline: pipeline.clone(),
        inputs,
        sources: of_source,
        starts: Starts::new(),
        sinks: sinks.iter().map(sink).collect(),
        share: share(pipeline, shard, sources, sinks),
    }
}

/// The shards that topics lie on.
pub(crate) fn shards_of(topics: &[Topic]) -> BTreeSet<ShardId> {
    let partitions = topics.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| p.shard).collect()
}

/// The partitions of the exchange that are of the task on this shard: as many as there are shards, for each
/// task, in the order of the shards. Partitions of a topic lie on one shard after the other, so those
/// of all tasks that stand at the same place lie on the same one.
fn share(pipeline: &Pipeline, shard: ShardId, sources: &[Topic], sinks: &[Topic]) -> Range<u32> {
    let exchange = pipeline.exchange().and_then(|s| sinks.get(s.index()));
    let shards = shards_of(sources);
    let place = shards.iter().position(|s| *s == shard);
    let (Some(exchange), Some(place)) = (exchange, place) else {
        return 0..0;
    };
    let width = (exchange.partitions.len() / shards.len()) as u32;
    let first = place as u32 * width;
    first..first + width
}
