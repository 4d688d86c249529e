//! Carrying what tasks give out from one shard to another: between the workers' mailboxes, or to another
//! node.

use super::Service;
use crate::cluster::ShardRequest;
use crate::worker::Message;
use flowstone_core::{Input, Parcel};
use flowstone_wire::{ErrorCode, Failure, PartitionId, ShardId};
use std::sync::Arc;

impl Service {
    /// Brings a parcel to the shard of its partition, and the answer back. Never waits.
    pub(crate) fn carry(self: &Arc<Self>, from: ShardId, parcel: Parcel) {
        let Parcel { lane, lsn, batch } = parcel;
        let this = self.clone();
        let answer = move |result: Result<(), Failure>| {
            let result =
                result.map_err(|failure| this.not_there(lane.outbound_partition(), failure));
            let input = Input::Carried { lane, lsn, result };
            this.mailbox(from)
                .answer(Message::Tell { shard: from, input });
        };
        let to = match self.require_shard(lane.outbound_partition()) {
            Ok(shard) => shard,
            Err(failure) => return answer(Err(failure)),
        };
        if !self.leads(to) {
            let asked = self.ask(to, ShardRequest::Deliver, Some(batch));
            self.runtime().spawn(async move {
                answer(asked.await.map(drop));
            });
            return;
        }
        let message = Message::Call {
            shard: to,
            make: Box::new(|ticket| Ok(Input::Deliver { ticket, batch })),
            reply: Box::new(move |result| answer(result.map(drop))),
        };
        if let Err(Message::Call { reply, .. }) = self.mailbox(to).send(message) {
            let what = "the other worker has too many requests waiting";
            reply(Err(Failure::new(ErrorCode::Busy, what)));
        }
    }

    /// A partition that only its shard does not know is being opened: that is no reason to drop what
    /// goes there.
    fn not_there(&self, partition: PartitionId, failure: Failure) -> Failure {
        let unknown = failure.code == ErrorCode::UnknownPartition;
        if unknown && self.shard_of(partition).is_some() {
            return Failure::new(ErrorCode::Busy, "the partition is being opened");
        }
        failure
    }
}
