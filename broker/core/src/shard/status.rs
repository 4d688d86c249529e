//! How the shard, its partitions and its tasks stand.

use super::Shard;
use super::partition::Partition;
use crate::input::Ticket;
use crate::output::{Outbox, Reply, Status};
use flowstone_wire::PartitionId;
use flowstone_wire::native::{PartitionStatus, ShardStatus};

impl Shard {
    pub(super) fn status(&self, ticket: Ticket, out: &mut Outbox) {
        let open = self.partitions.iter().filter(|(_, p)| p.config.is_some());
        let status = Status {
            shard: ShardStatus {
                shard: self.id,
                epoch: self.log.epoch(),
                written_lsn: self.log.written().0,
                durable_lsn: self.log.durable().0,
                fenced: self.fenced.clone(),
            },
            partitions: open.map(|(id, p)| self.partition_status(*id, p)).collect(),
            tasks: self.tasks.status(&self.partitions, &self.outbound),
            hot_bytes: self.log.segments().map(|s| s.bytes).sum(),
            undurable_bytes: self.undurable_bytes,
            tier: self.tier_status(),
        };
        out.reply(ticket, Ok(Reply::Status(Box::new(status))));
    }

    fn partition_status(&self, id: PartitionId, p: &Partition) -> PartitionStatus {
        let settled_end = p.settled.back().map_or(p.start, |m| m.next_offset);
        let hot = self
            .log
            .hot_runs(id)
            .filter(|r| r.next_offset > settled_end);
        PartitionStatus {
            id,
            start: p.start,
            committed: p.visible(),
            end: p.next,
            bytes: p.settled_bytes() + hot.map(|r| u64::from(r.bytes)).sum::<u64>(),
            settled_segments: p.settled.len() as u32,
        }
    }
}
