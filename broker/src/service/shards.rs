//! Asking a shard, wherever its leader is.

use super::{Service, shutting_down, unexpected};
use crate::cluster::ShardRequest;
use crate::worker::{Message, check_batch};
use bytes::{Bytes, BytesMut};
use flowstone_client::BoxFuture;
use flowstone_core::Reply;
use flowstone_wire::native::{Acks, ProduceAnswer};
use flowstone_wire::{CheckedBatch, ErrorCode, Failure, PartitionId, ShardId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A request that nobody took waits so long for a leader.
const LEADER_WAIT: Duration = Duration::from_secs(8);
/// A pause before it is asked again, where the catalog does not change.
const PAUSE: Duration = Duration::from_millis(50);

type Asked = Result<Reply, Failure>;

impl Service {
    /// Asks a shard, whichever node leads it, and waits for its reply. While nobody leads it is asked again.
    ///
    /// # Errors
    /// What the shard answers, or [`ErrorCode::Busy`] where its mailbox is full.
    pub(crate) fn ask(
        self: &Arc<Self>,
        shard: ShardId,
        request: ShardRequest,
        batch: Option<CheckedBatch>,
    ) -> BoxFuture<'static, Asked> {
        if self.cluster().is_none() {
            return self.ask_here(shard, request, batch);
        }
        let bytes = batch.map(CheckedBatch::into_bytes);
        Box::pin(self.clone().ask_leader(shard, request, bytes))
    }

    /// Asks a shard of this node.
    ///
    /// # Errors
    /// As [`Self::ask`]; [`ErrorCode::NotLeader`] where another one leads.
    pub(crate) fn ask_here(
        &self,
        shard: ShardId,
        request: ShardRequest,
        batch: Option<CheckedBatch>,
    ) -> BoxFuture<'static, Asked> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // Whoever asked may have gone; then nobody wants the reply.
        let reply = Box::new(move |result| drop(sender.send(result)));
        let message = Message::Call {
            shard,
            make: Box::new(move |ticket| request.into_input(ticket, batch)),
            reply,
        };
        let sent = self.mailbox(shard).send(message).is_ok();
        Box::pin(async move {
            if !sent {
                let what = "the worker has too many requests waiting; slow down and try again";
                return Err(Failure::new(ErrorCode::Busy, what));
            }
            receiver.await.unwrap_or_else(|_| Err(shutting_down()))
        })
    }

    async fn ask_leader(
        self: Arc<Self>,
        shard: ShardId,
        request: ShardRequest,
        batch: Option<Bytes>,
    ) -> Asked {
        let deadline = Instant::now() + LEADER_WAIT;
        let mut changes = self.catalog_store().watch();
        loop {
            // What has changed before it is asked is no reason to ask again.
            changes.mark_unchanged();
            let asked = self.ask_once(shard, &request, batch.as_ref()).await;
            // Nothing was done: it may be asked again.
            let again = matches!(&asked, Err(e) if e.code == ErrorCode::NotLeader);
            if !again || Instant::now() >= deadline || self.is_draining() {
                return asked;
            }
            // Over or changed: both mean to ask again.
            let _ = tokio::time::timeout(PAUSE, changes.changed()).await;
        }
    }

    async fn ask_once(
        &self,
        shard: ShardId,
        request: &ShardRequest,
        batch: Option<&Bytes>,
    ) -> Asked {
        let (Some(cluster), Some(leader)) = (self.cluster(), self.leader_of(shard)) else {
            let what = format!("no node leads shard {shard} yet");
            return Err(Failure::new(ErrorCode::NotLeader, what));
        };
        if leader != cluster.me {
            let batch = batch.cloned().unwrap_or_default();
            return cluster.ask(leader, shard, request, batch).await;
        }
        let batch = batch.map(|b| check_batch(BytesMut::from(&b[..])));
        self.ask_here(shard, request.clone(), batch.transpose()?)
            .await
    }

    /// Appends a batch.
    pub(crate) fn produce(
        self: &Arc<Self>,
        partition: PartitionId,
        batch: CheckedBatch,
        acks: Acks,
    ) -> BoxFuture<'static, Result<ProduceAnswer, Failure>> {
        let asked = self.require_shard(partition).map(|shard| {
            self.metrics.produced(batch.header());
            let request = ShardRequest::Produce { partition, acks };
            self.ask(shard, request, Some(batch))
        });
        Box::pin(async move {
            match asked?.await? {
                Reply::Produced(answer) => Ok(answer),
                other => Err(unexpected(&other)),
            }
        })
    }

    /// The same; batches of a partition are appended in the order of the calls.
    pub(crate) fn produce_in_order(
        self: &Arc<Self>,
        partition: PartitionId,
        batch: CheckedBatch,
        acks: Acks,
    ) -> BoxFuture<'static, Result<ProduceAnswer, Failure>> {
        let produced = self.produce(partition, batch, acks);
        let Some(cluster) = self.cluster() else {
            // It is in the mailbox already.
            return produced;
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let job = Box::pin(async move {
            // Whoever asked may have gone.
            let _ = sender.send(produced.await);
        });
        let taken = cluster.in_order(self.runtime(), partition, job);
        Box::pin(async move {
            if !taken {
                let what = "too many requests for this partition wait; slow down and try again";
                return Err(Failure::new(ErrorCode::Busy, what));
            }
            receiver.await.unwrap_or_else(|_| Err(shutting_down()))
        })
    }
}
