//! The one who looks at everything that is stored, at once.

use crate::check::{Dump, Part};
use crate::host::{Done, Job, Told};
use crate::record::{behind, records_of};
use crate::run::Sim;
use flowstone_core::{Input, Outbox, Reply, Ticket};
use flowstone_wire::native::Place;
use flowstone_wire::{Offset, PartitionId};
use std::collections::VecDeque;

/// Tickets of the one who looks.
const LOOK: Ticket = Ticket(u64::MAX);

impl Sim {
    /// Everything that readers can see, at once.
    pub(crate) fn dump(&mut self) -> Result<Dump, String> {
        let open: Vec<PartitionId> = self.world.open.keys().copied().collect();
        open.into_iter()
            .map(|p| Ok((p, self.dump_partition(p)?)))
            .collect()
    }

    fn dump_partition(&mut self, partition: PartitionId) -> Result<Part, String> {
        let find = |place| Input::FindOffset {
            ticket: LOOK,
            partition,
            place,
        };
        let Reply::Found(start) = self.look(partition, find(Place::Start))? else {
            return Err("a place was not answered with an offset".into());
        };
        let mut part = Part {
            start: start.0,
            end: start.0,
            records: Vec::new(),
        };
        let mut offset = start;
        loop {
            let max_bytes = 1 << 20;
            let fetch = Input::Fetch {
                ticket: LOOK,
                partition,
                offset,
                max_bytes,
                wait_ms: 0,
            };
            let Reply::Fetched(bounds, slices) = self.look(partition, fetch)? else {
                return Err("a fetch was not answered with records".into());
            };
            part.end = bounds.end.0;
            for slice in &slices {
                part.records.extend(records_of(slice)?);
            }
            match behind(&slices) {
                Some(next) if next > offset.0 => offset = Offset(next),
                _ => break,
            }
        }
        // The first batch may begin before what was asked for.
        part.records.retain(|(o, _)| *o >= part.start);
        Ok(part)
    }

    /// Asks and is answered at once; what else the step asks for is queued as always.
    fn look(&mut self, partition: PartitionId, input: Input) -> Result<Reply, String> {
        let (now, shard) = (self.now(), self.world.shard_of(partition));
        let Some(node) = &mut self.node else {
            return Err("there is no process to ask".into());
        };
        let mut out = Outbox::default();
        node.host(shard).shard.step(now, input, &mut out);
        let mut found = None;
        let mut outputs: VecDeque<_> = out.drain().collect();
        while let Some(output) = outputs.pop_front() {
            let Some(node) = &mut self.node else { break };
            let host = node.host(shard);
            match host.sort(output) {
                Ok(Told::Reply(LOOK, result)) => found = Some(result),
                Ok(told) => self.told(shard, told)?,
                Err(
                    job @ (Job::Read { ticket: LOOK, .. } | Job::FindTime { ticket: LOOK, .. }),
                ) => match host.work(job) {
                    Done::Reply(_, result) => found = Some(result),
                    Done::Input(again) => {
                        host.shard.step(now, again, &mut out);
                        outputs.extend(out.drain());
                    }
                    _ => {}
                },
                Err(job) => self.queue_job(shard, job),
            }
        }
        match found {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(failure)) => Err(format!("durability: reading fails: {failure}")),
            None => Err("liveness: a reader that does not wait is not answered".into()),
        }
    }
}
