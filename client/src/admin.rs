//! What an operator asks of a broker: topics, groups, pipelines, shards and places.

use crate::client::Client;
use crate::error::Error;
use crate::transport::Route;
use bytes::Bytes;
use flowstone_wire::native::{
    ChangeCluster, ClusterChange, ClusterStatus, ControlPipeline, CreateTopic, DeleteTopic,
    DeployPipelines, DescribePipelines, DescribeTopic, FindOffset, GetCluster, GetTier, ListGroups,
    ListPipelines, ListShards, ListTopics, MakeToken, Partition, PipelineAction,
    PipelineDescription, PipelineStatus, PipelineTrial, Place, Request, ShardStatus, TierStatus,
    Topic, TopicSettings, TopicStatus, TryPipelines,
};
use flowstone_wire::{ErrorCode, Failure, Offset, name};

/// All of these fail as [`Client::call`] does, and with what is said at each.
impl Client {
    /// Makes a topic of `partitions` partitions.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::TopicExists`], [`ErrorCode::InvalidName`] or
    /// [`ErrorCode::LimitReached`].
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        settings: TopicSettings,
    ) -> Result<Topic, Error> {
        name::check("topic", name)?;
        let name = name.to_owned();
        self.ask(&CreateTopic {
            name,
            partitions,
            settings,
        })
        .await
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::UnknownTopic`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(&DeleteTopic { name }).await
    }

    /// All topics.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn topics(&self) -> Result<Vec<Topic>, Error> {
        self.ask(&ListTopics { names: Vec::new() }).await
    }

    /// One topic and where its partitions live; asked for up to 30 seconds of trouble.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`] if there is none of this name.
    pub async fn topic(&self, name: &str) -> Result<Topic, Error> {
        let names = vec![name.to_owned()];
        let (topics, _) = self
            .call_retrying(Route::Any, &ListTopics { names })
            .await?;
        topics.into_iter().find(|t| t.name == name).ok_or_else(|| {
            Error::Refused(Failure::new(
                ErrorCode::UnknownTopic,
                format!("there is no topic {name:?}; create it first"),
            ))
        })
    }

    /// How a topic stands: bounds and bytes of every partition.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::UnknownTopic`].
    pub async fn describe(&self, name: &str) -> Result<TopicStatus, Error> {
        let name = name.to_owned();
        self.ask(&DescribeTopic { name }).await
    }

    /// How the pipelines stand.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn pipelines(&self) -> Result<Vec<PipelineStatus>, Error> {
        self.ask(&ListPipelines {}).await
    }

    /// Deploys the pipelines of a text of SQL; with `dry_run` only says what would be deployed.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::InvalidRequest`] what it does not understand, with line
    /// and column.
    pub async fn deploy_pipelines(
        &self,
        text: &str,
        dry_run: bool,
    ) -> Result<Vec<PipelineDescription>, Error> {
        let (text, upgrade) = (text.to_owned(), false);
        let deploy = DeployPipelines {
            text,
            dry_run,
            upgrade,
        };
        self.ask(&deploy).await
    }

    /// Lets pipelines that were deployed go on as a text of SQL says, with the state that they have; with
    /// `dry_run` only says whether that can be, and how they would run.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::InvalidRequest`] what it does not understand, a pipeline that is not
    /// there, and one whose state does not fit the new plan.
    pub async fn upgrade_pipelines(
        &self,
        text: &str,
        dry_run: bool,
    ) -> Result<Vec<PipelineDescription>, Error> {
        let (text, upgrade) = (text.to_owned(), true);
        let deploy = DeployPipelines {
            text,
            dry_run,
            upgrade,
        };
        self.ask(&deploy).await
    }

    /// Runs the pipelines of a text of SQL over the last records of their topics, and keeps nothing of it;
    /// with `upgrade` they are there already.
    ///
    /// # Errors
    /// As [`Client::deploy_pipelines`].
    pub async fn try_pipelines(
        &self,
        text: &str,
        upgrade: bool,
        records: u64,
    ) -> Result<Vec<PipelineTrial>, Error> {
        let text = text.to_owned();
        let trial = TryPipelines {
            text,
            upgrade,
            records,
        };
        self.ask(&trial).await
    }

    /// What was deployed: the pipeline of this name, or all.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::InvalidRequest`] if there is none of this name.
    pub async fn describe_pipelines(
        &self,
        name: Option<&str>,
    ) -> Result<Vec<PipelineDescription>, Error> {
        let name = name.map(ToOwned::to_owned);
        self.ask(&DescribePipelines { name }).await
    }

    /// Pauses, resumes or deletes a pipeline that was deployed.
    ///
    /// # Errors
    /// The broker refuses with [`ErrorCode::InvalidRequest`] if there is none of this name.
    pub async fn control_pipeline(&self, name: &str, action: PipelineAction) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(&ControlPipeline { name, action }).await
    }

    /// Names of the consumer groups that have positions.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn groups(&self) -> Result<Vec<String>, Error> {
        self.ask(&ListGroups {}).await
    }

    /// How the shards stand.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn shards(&self) -> Result<Vec<ShardStatus>, Error> {
        self.ask(&ListShards {}).await
    }

    /// How the tier of the node stands; `None` where it has none.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn tier(&self) -> Result<Option<TierStatus>, Error> {
        self.ask(&GetTier {}).await
    }

    /// How the cluster stands, as far as the broker has heard.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn cluster(&self) -> Result<ClusterStatus, Error> {
        self.ask(&GetCluster {}).await
    }

    /// Changes the cluster.
    ///
    /// # Errors
    /// What the broker says: [`ErrorCode::InvalidRequest`], [`ErrorCode::NotFound`],
    /// [`ErrorCode::CatalogUnavailable`].
    pub async fn change_cluster(&self, change: ClusterChange) -> Result<(), Error> {
        self.ask(&ChangeCluster { change }).await
    }

    /// Makes a token, with which one node joins the cluster, once: `TOKEN@HOST:PORT`.
    ///
    /// # Errors
    /// As for [`Self::change_cluster`].
    pub async fn join_token(&self, witness: bool, valid_s: u64) -> Result<String, Error> {
        let asked = MakeToken { witness, valid_s };
        Ok(self.ask(&asked).await?.token)
    }

    /// The offset of a place in the partition with this index in its topic.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`]; [`Error::Invalid`] if the topic has no such partition.
    pub async fn offset_of(
        &self,
        topic: &str,
        partition_index: u32,
        place: Place,
    ) -> Result<Offset, Error> {
        let topic = self.topic(topic).await?;
        let Partition { id, shard } = partition_of(&topic, partition_index)?;
        let request = FindOffset {
            partition: id,
            place,
        };
        let route = Route::Shard(shard);
        Ok(self.call(route, &request, Bytes::new()).await?.0)
    }

    async fn ask<R: Request>(&self, request: &R) -> Result<R::Answer, Error> {
        Ok(self.call(Route::Any, request, Bytes::new()).await?.0)
    }
}

/// The partition with this index in its topic.
///
/// # Errors
/// [`Error::Invalid`] if there is none.
pub(crate) fn partition_of(topic: &Topic, index: u32) -> Result<Partition, Error> {
    topic
        .partitions
        .get(index as usize)
        .copied()
        .ok_or_else(|| no_partition(&topic.name, index, topic.partitions.len()))
}

/// The error for a partition that the topic does not have.
pub(crate) fn no_partition(topic: &str, index: u32, partitions: usize) -> Error {
    Error::Invalid(format!(
        "topic '{topic}' has no partition {index}; it has {partitions}, counted from 0"
    ))
}
