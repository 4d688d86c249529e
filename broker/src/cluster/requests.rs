//! Requests for a shard that another node leads: asked there, and answered here for others.

use super::Cluster;
use super::wire::Wire;
use crate::service::{Service, shutting_down};
use bytes::{BufMut, Bytes, BytesMut};
use flowstone_core::{Input, Reply, Ticket};
use flowstone_peer::{BoxFuture, CallFailure, CallHandler, PeerError};
use flowstone_wire::native::{self, Acks, GroupOffset};
use flowstone_wire::{CheckedBatch, ErrorCode, Failure, NodeId, PartitionId, ShardId};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The kind of these calls.
const KIND: u16 = 256;
/// Beside what a request itself may wait for.
const TIMEOUT: Duration = Duration::from_secs(30);
const SIZE_BYTES: usize = 4;

/// What a shard can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ShardRequest {
    /// To append the batch beside it.
    Produce {
        /// Where to.
        partition: PartitionId,
        /// When to reply.
        acks: Acks,
    },
    /// To append the batch beside it, which a task of another shard gave out.
    Deliver,
    /// To read batches.
    Fetch(native::Fetch),
    /// To find the offset of a place.
    FindOffset(native::FindOffset),
    /// To store positions of a group.
    CommitOffsets {
        /// The group.
        group: String,
        /// All of partitions of this shard.
        offsets: Vec<GroupOffset>,
    },
    /// To tell positions of a group.
    ReadOffsets {
        /// The group.
        group: String,
        /// Of these; empty for all.
        partitions: Vec<PartitionId>,
    },
    /// To tell the names of groups.
    ListGroups,
    /// To tell how it stands.
    Status,
}

impl ShardRequest {
    /// The input for the shard.
    ///
    /// # Errors
    /// A batch that is missing, or one too many.
    pub(crate) fn into_input(
        self,
        ticket: Ticket,
        batch: Option<CheckedBatch>,
    ) -> Result<Input, Failure> {
        Ok(match (self, batch) {
            (Self::Produce { partition, acks }, Some(batch)) => Input::Produce {
                ticket: Some(ticket),
                partition,
                batch,
                acks,
            },
            (Self::Deliver, Some(batch)) => Input::Deliver { ticket, batch },
            (Self::Fetch(r), None) => Input::Fetch {
                ticket,
                partition: r.partition,
                offset: r.offset,
                max_bytes: r.max_bytes,
                wait_ms: r.wait_ms,
            },
            (Self::FindOffset(r), None) => Input::FindOffset {
                ticket,
                partition: r.partition,
                place: r.place,
            },
            (Self::CommitOffsets { group, offsets }, None) => Input::CommitOffsets {
                ticket,
                group,
                offsets,
            },
            (Self::ReadOffsets { group, partitions }, None) => Input::ReadOffsets {
                ticket,
                group,
                partitions,
            },
            (Self::ListGroups, None) => Input::ListGroups { ticket },
            (Self::Status, None) => Input::Status { ticket },
            _ => {
                let what = "a batch is missing, or one too many";
                return Err(Failure::new(ErrorCode::InvalidRequest, what));
            }
        })
    }

    /// How long the shard may take before it answers that there is nothing.
    fn wait(&self) -> Duration {
        match self {
            Self::Fetch(r) => Duration::from_millis(r.wait_ms.into()),
            _ => Duration::ZERO,
        }
    }
}

type Asked = Result<Reply, Failure>;

impl Cluster {
    /// Asks a shard on another node.
    ///
    /// # Errors
    /// What the shard answers; [`ErrorCode::NotLeader`] where the node was not reached, and nothing was
    /// done; [`ErrorCode::LeadershipLost`] where its answer is lost.
    pub(crate) fn ask(
        &self,
        to: NodeId,
        shard: ShardId,
        request: &ShardRequest,
        batch: Bytes,
    ) -> flowstone_client::BoxFuture<'static, Asked> {
        let timeout = TIMEOUT + request.wait();
        let encoded = encode(&(shard, request), &[batch]);
        let call = encoded.map(|bytes| {
            self.wire
                .with(|endpoint| endpoint.call(to, KIND, bytes, timeout))
        });
        Box::pin(async move {
            let call = call?.ok_or_else(shutting_down)?;
            let answer = call.await.map_err(|e| failure_of(&e))?;
            let (asked, payload): (Asked, Bytes) = decode(&answer)?;
            Ok(match asked? {
                Reply::Fetched(bounds, _) if payload.is_empty() => {
                    Reply::Fetched(bounds, Vec::new())
                }
                Reply::Fetched(bounds, _) => Reply::Fetched(bounds, vec![payload]),
                other => other,
            })
        })
    }

    /// Runs what must keep its order among the requests for a partition; `false` if too many wait.
    pub(crate) fn in_order(
        &self,
        runtime: &tokio::runtime::Handle,
        partition: PartitionId,
        job: flowstone_client::BoxFuture<'static, ()>,
    ) -> bool {
        self.lanes.run(runtime, partition, job)
    }
}

fn failure_of(error: &PeerError) -> Failure {
    let code = match error {
        PeerError::Unknown(_) | PeerError::Unreachable { .. } | PeerError::NoHandler { .. } => {
            ErrorCode::NotLeader
        }
        PeerError::Busy(_) => ErrorCode::Busy,
        PeerError::TooLarge { .. } => ErrorCode::TooLarge,
        PeerError::Lost { .. } | PeerError::Timeout(_) => ErrorCode::LeadershipLost,
        PeerError::Refused(_) => ErrorCode::Internal,
        PeerError::Closed => ErrorCode::ShuttingDown,
    };
    Failure::new(code, format!("the node that leads was asked: {error}"))
}

fn encode(head: &impl Serialize, body: &[Bytes]) -> Result<Bytes, Failure> {
    let head = native::encode(head)?;
    let size = body.iter().map(Bytes::len).sum::<usize>();
    let mut bytes = BytesMut::with_capacity(SIZE_BYTES + head.len() + size);
    bytes.put_u32_le(head.len() as u32);
    bytes.put_slice(&head);
    body.iter().for_each(|b| bytes.put_slice(b));
    Ok(bytes.freeze())
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &Bytes) -> Result<(T, Bytes), Failure> {
    let cut = || Failure::new(ErrorCode::InvalidRequest, "a message of a node is cut off");
    let size = bytes.first_chunk::<SIZE_BYTES>().ok_or_else(cut)?;
    let end = SIZE_BYTES.checked_add(u32::from_le_bytes(*size) as usize);
    let end = end.filter(|end| *end <= bytes.len()).ok_or_else(cut)?;
    let head = postcard::from_bytes(&bytes[SIZE_BYTES..end]);
    let head = head.map_err(|e| Failure::new(ErrorCode::InvalidRequest, e.to_string()))?;
    Ok((head, bytes.slice(end..)))
}

/// Answers other nodes, for shards of this one.
struct Answers(Weak<Service>);

impl CallHandler for Answers {
    fn call(
        &self,
        _from: NodeId,
        request: Bytes,
        _within: Duration,
    ) -> BoxFuture<Result<Bytes, CallFailure>> {
        let service = self.0.upgrade();
        Box::pin(async move {
            let service = service.ok_or_else(|| CallFailure("the node is stopping".into()))?;
            let asked = answer(&service, &request).await;
            let payload = match &asked {
                Ok(Reply::Fetched(_, slices)) => slices.clone(),
                _ => Vec::new(),
            };
            encode(&asked, &payload).map_err(|e| CallFailure(e.to_string()))
        })
    }
}

async fn answer(service: &Arc<Service>, request: &Bytes) -> Asked {
    let ((shard, request), body): ((ShardId, ShardRequest), Bytes) = decode(request)?;
    if shard.0 >= service.catalog().shards() {
        let what = format!("there is no shard {shard}");
        return Err(Failure::new(ErrorCode::InvalidRequest, what));
    }
    let batch = match request {
        ShardRequest::Produce { .. } | ShardRequest::Deliver => {
            Some(crate::worker::check_batch(BytesMut::from(body))?)
        }
        _ => None,
    };
    service.ask_here(shard, request, batch).await
}

pub(super) fn answer_calls(wire: &Wire, service: &Arc<Service>) {
    let answers = Arc::new(Answers(Arc::downgrade(service)));
    wire.with(|endpoint| endpoint.register(KIND, answers));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_head_and_what_is_beside_it() {
        let body = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        let request = (ShardId(3), ShardRequest::ListGroups);
        let bytes = encode(&request, &body).unwrap();
        let (back, rest): ((ShardId, ShardRequest), Bytes) = decode(&bytes).unwrap();
        assert_eq!((back, &rest[..]), (request, &b"abc"[..]));
        for end in 0..bytes.len() - 3 {
            let cut = bytes.slice(..end);
            assert!(decode::<(ShardId, ShardRequest)>(&cut).is_err(), "{end}");
        }
    }
}
