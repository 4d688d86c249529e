//! Every request of the native protocol, for doors that are not on the shard's own thread.

use super::{Service, unexpected};
use crate::cluster::ShardRequest;
use crate::worker::check_batch;
use bytes::{Bytes, BytesMut};
use flowstone_client::BoxFuture;
use flowstone_core::Reply;
use flowstone_wire::native::{self, Request};
use flowstone_wire::{ErrorCode, Failure};
use std::sync::Arc;

/// The header and payload of an answer.
type Answer = (Vec<u8>, Vec<Bytes>);

fn answer<R: Request>(result: Result<R::Answer, Failure>) -> Result<Answer, Failure> {
    Ok((native::encode(&result)?, Vec::new()))
}

impl Service {
    /// Handles a request. What it appends is handed to the shard before the first wait, so that
    /// requests of one connection arrive in order.
    ///
    /// # Errors
    /// Where the request cannot be read; other failures are in the answer's header.
    pub(crate) fn handle(
        self: Arc<Self>,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Answer, Failure>> {
        if api == native::Produce::API {
            let produced = self.start_produce(&header, payload);
            return Box::pin(async move { answer::<native::Produce>(produced?.await) });
        }
        Box::pin(self.handle_other(api, header))
    }

    fn start_produce(
        self: &Arc<Self>,
        header: &[u8],
        payload: Bytes,
    ) -> Result<BoxFuture<'static, Result<native::ProduceAnswer, Failure>>, Failure> {
        let request: native::Produce = native::decode(header)?;
        let checked = check_batch(BytesMut::from(payload));
        let produced =
            checked.map(|batch| self.produce_in_order(request.partition, batch, request.acks));
        Ok(match produced {
            Ok(produced) => produced,
            Err(failure) => Box::pin(std::future::ready(Err(failure))),
        })
    }

    async fn handle_other(self: Arc<Self>, api: u16, header: Vec<u8>) -> Result<Answer, Failure> {
        use native::decode;
        match api {
            native::Hello::API => answer::<native::Hello>(Ok(self.hello())),
            native::ListTopics::API => {
                let r: native::ListTopics = decode(&header)?;
                answer::<native::ListTopics>(self.topics(&r.names))
            }
            native::CreateTopic::API => {
                let r: native::CreateTopic = decode(&header)?;
                let made = self.create_topic(r.name, r.partitions, r.settings).await;
                answer::<native::CreateTopic>(made)
            }
            native::DeleteTopic::API => {
                let r: native::DeleteTopic = decode(&header)?;
                answer::<native::DeleteTopic>(self.delete_topic(r.name).await)
            }
            native::Fetch::API => self.fetch(decode(&header)?).await,
            native::FindOffset::API => {
                answer::<native::FindOffset>(self.find_offset(decode(&header)?).await)
            }
            native::InitProducer::API => answer::<native::InitProducer>(self.init_producer().await),
            native::CommitOffsets::API => {
                let r: native::CommitOffsets = decode(&header)?;
                let done = self.commit_offsets(&r.group, r.offsets).await;
                answer::<native::CommitOffsets>(done)
            }
            native::ReadOffsets::API => {
                let r: native::ReadOffsets = decode(&header)?;
                answer::<native::ReadOffsets>(self.read_offsets(&r.group, r.partitions).await)
            }
            native::DescribeTopic::API => {
                let r: native::DescribeTopic = decode(&header)?;
                answer::<native::DescribeTopic>(self.describe_topic(&r.name).await)
            }
            native::ListGroups::API => answer::<native::ListGroups>(self.groups().await),
            native::ListShards::API => {
                let all = self.statuses().await;
                let shards = all.map(|all| all.into_iter().map(|s| s.shard).collect());
                answer::<native::ListShards>(shards)
            }
            native::GetTier::API => answer::<native::GetTier>(self.tier_status().await),
            _ => self.handle_of_cluster(api, header).await,
        }
    }

    /// What is asked of pipelines, of queries and of the cluster.
    async fn handle_of_cluster(
        self: Arc<Self>,
        api: u16,
        header: Vec<u8>,
    ) -> Result<Answer, Failure> {
        use native::decode;
        match api {
            native::ListPipelines::API => answer::<native::ListPipelines>(self.pipelines().await),
            native::DeployPipelines::API => {
                let deployed = self.deploy_pipelines(decode(&header)?).await;
                answer::<native::DeployPipelines>(deployed)
            }
            native::TryPipelines::API => {
                answer::<native::TryPipelines>(self.try_sql(decode(&header)?).await)
            }
            native::DescribePipelines::API => {
                let r: native::DescribePipelines = decode(&header)?;
                answer::<native::DescribePipelines>(self.describe_sql(r.name).await)
            }
            native::ControlPipeline::API => {
                let r: native::ControlPipeline = decode(&header)?;
                answer::<native::ControlPipeline>(self.control_sql(r.name, r.action).await)
            }
            native::StartQuery::API => {
                answer::<native::StartQuery>(self.start_query(decode(&header)?).await)
            }
            native::ReadQuery::API => match self.read_query(decode(&header)?).await {
                Ok((rows, lines)) => Ok((native::encode(&Ok::<_, Failure>(rows))?, lines)),
                Err(failure) => answer::<native::ReadQuery>(Err(failure)),
            },
            native::StopQuery::API => {
                let r: native::StopQuery = decode(&header)?;
                self.queries.cursors.stop(r.id);
                answer::<native::StopQuery>(Ok(()))
            }
            native::GetCluster::API => {
                answer::<native::GetCluster>(Ok(self.cluster_status().await))
            }
            native::ChangeCluster::API => {
                let r: native::ChangeCluster = decode(&header)?;
                answer::<native::ChangeCluster>(self.change_cluster(r.change).await)
            }
            native::MakeToken::API => {
                let r: native::MakeToken = decode(&header)?;
                answer::<native::MakeToken>(self.make_token(r).await)
            }
            other => {
                let what = format!("request {other} is not known to this broker");
                Err(Failure::new(ErrorCode::InvalidRequest, what))
            }
        }
    }

    async fn fetch(self: &Arc<Self>, r: native::Fetch) -> Result<Answer, Failure> {
        match self.fetch_batches(r).await {
            Ok((bounds, slices)) => {
                let header = native::encode(&Ok::<native::FetchAnswer, Failure>(bounds))?;
                Ok((header, slices))
            }
            Err(failure) => answer::<native::Fetch>(Err(failure)),
        }
    }

    /// Reads batches of a partition.
    ///
    /// # Errors
    /// What the shard says.
    pub(crate) async fn fetch_batches(
        self: &Arc<Self>,
        r: native::Fetch,
    ) -> Result<(native::FetchAnswer, Vec<Bytes>), Failure> {
        let shard = self.require_shard(r.partition)?;
        match self.ask(shard, ShardRequest::Fetch(r), None).await? {
            Reply::Fetched(bounds, slices) => Ok((bounds, slices)),
            other => Err(unexpected(&other)),
        }
    }

    /// The offset of a place.
    ///
    /// # Errors
    /// What the shard says.
    pub(crate) async fn find_offset(
        self: &Arc<Self>,
        r: native::FindOffset,
    ) -> Result<flowstone_wire::Offset, Failure> {
        let shard = self.require_shard(r.partition)?;
        match self.ask(shard, ShardRequest::FindOffset(r), None).await? {
            Reply::Found(offset) => Ok(offset),
            other => Err(unexpected(&other)),
        }
    }
}
