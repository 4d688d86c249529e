//! From a step's delta to one group of batches: outputs first, the task's changes last.

use super::super::Shard;
use super::super::control::ControlRecord;
use crate::input::{Now, SinkPartition, TaskConfig};
use crate::output::Outbox;
use flowstone_processor::{Delta, Output};
use flowstone_wire::batch::{FLAG_CONTROL, FLAG_GROUP_CONTINUES};
use flowstone_wire::partitioner::partition_for_key;
use flowstone_wire::{BatchBuilder, CheckedBatch, Codec, Header, PartitionId, ProducerId};
use std::collections::BTreeMap;

/// Batches of one step, by the partition they go to.
#[derive(Default)]
struct Batches {
    open: BTreeMap<PartitionId, (BatchBuilder, bool)>,
    full: Vec<(SinkPartition, BatchBuilder)>,
}

impl Batches {
    fn push(&mut self, to: SinkPartition, output: &Output<'_>, headers: &[Header<'_>]) -> bool {
        let fresh = || BatchBuilder::new(Codec::None);
        let (builder, _) = self
            .open
            .entry(to.id)
            .or_insert_with(|| (fresh(), to.local));
        let put =
            |b: &mut BatchBuilder| b.push(output.timestamp, output.key, output.value, headers);
        if put(builder) {
            return true;
        }
        if !builder.is_empty() {
            self.full.push((to, std::mem::replace(builder, fresh())));
            return put(builder);
        }
        false
    }

    fn finish(mut self) -> Vec<(SinkPartition, BatchBuilder)> {
        let rest = self.open.into_iter().filter(|(_, (b, _))| !b.is_empty());
        let rest = rest.map(|(id, (b, local))| (SinkPartition { id, local }, b));
        self.full.extend(rest);
        self.full
    }
}

/// The partitions an output goes to; none where the sink has none.
fn targets<'c>(config: &'c TaskConfig, output: &Output<'_>) -> &'c [SinkPartition] {
    let Some(partitions) = config.sinks.get(usize::from(output.sink.0)) else {
        return &[];
    };
    if config.pipeline.exchange() == Some(output.sink) {
        return exchanged(config, partitions, output.key);
    }
    let count = partitions.len() as u32;
    let index = match output.key {
        Some(key) if output.key_changed => partition_for_key(key, count),
        _ => {
            let of_input = config.inputs.iter().find(|(p, _)| *p == output.partition);
            of_input.map_or(0, |(_, index)| *index) % count.max(1)
        }
    };
    one(partitions, index)
}

fn one(partitions: &[SinkPartition], index: u32) -> &[SinkPartition] {
    let index = index as usize;
    partitions.get(index..index + 1).unwrap_or_default()
}

/// Of the partitions of an exchange that are this task's, the one that the key says; all, where there is
/// none. So every partition has one task that writes to it, in the order of its time.
fn exchanged<'c>(
    config: &TaskConfig,
    partitions: &'c [SinkPartition],
    key: Option<&[u8]>,
) -> &'c [SinkPartition] {
    let (from, to) = (config.share.start as usize, config.share.end as usize);
    let own = partitions.get(from..to).unwrap_or_default();
    match key {
        Some(key) => one(own, partition_for_key(key, own.len() as u32)),
        None => own,
    }
}

fn sort_outputs(config: &TaskConfig, delta: &Delta) -> Result<Batches, String> {
    let mut batches = Batches::default();
    for output in delta.outputs.iter() {
        let targets = targets(config, &output);
        if targets.is_empty() {
            return Err(format!("sink {} has no partition", output.sink.0));
        }
        let headers: Vec<Header<'_>> = output.headers().collect();
        for to in targets {
            if !batches.push(*to, &output, &headers) {
                return Err("an output is larger than a record may be".into());
            }
        }
    }
    Ok(batches)
}

impl Shard {
    /// Appends a delta as one group, or says why not: then nothing of it is appended.
    pub(super) fn append_group(
        &mut self,
        now: Now,
        config: &TaskConfig,
        delta: &Delta,
        out: &mut Outbox,
    ) -> Result<(), String> {
        let batches = sort_outputs(config, delta)?;
        let mut group = self.number_outputs(config.id, batches)?;
        let mut bytes = Vec::new();
        delta.state.encode(&mut bytes);
        let record = ControlRecord::TaskDelta {
            id: config.id,
            delta: bytes,
        };
        let Some(control) = record.to_batch(now.unix_ms) else {
            return Err("the step changed more state than a batch holds".into());
        };
        group.push((self.control_partition(), control));
        let bytes = group.iter().map(|(_, b)| u64::from(b.header().size)).sum();
        self.admit(bytes, out).map_err(|failure| failure.message)?;
        let last = group.len() - 1;
        for (i, (partition, mut batch)) in group.into_iter().enumerate() {
            if i < last {
                batch.set_flags(FLAG_GROUP_CONTINUES);
            }
            let appended = self.append(now, partition, batch);
            if appended.header.producer_id.is_outbound() {
                self.hold_outbound(appended);
            } else if let Some(p) = self.partitions.get(&partition) {
                self.tasks.notice(now, &p.tasks, partition, appended);
            }
        }
        Ok(())
    }

    /// The batches of a step and where they are appended: those for other shards in the internal
    /// partition, with the next sequences of their lanes.
    fn number_outputs(
        &self,
        pipeline: u32,
        batches: Batches,
    ) -> Result<Vec<(PartitionId, CheckedBatch)>, String> {
        let mut sequences: BTreeMap<ProducerId, u32> = BTreeMap::new();
        let mut group = Vec::new();
        for (to, mut builder) in batches.finish() {
            if to.local {
                group.push((to.id, builder.finish()));
                continue;
            }
            let Some(lane) = ProducerId::outbound(pipeline, self.id, to.id) else {
                return Err(format!("pipeline number {pipeline} is over 21 bits"));
            };
            let next = sequences
                .entry(lane)
                .or_insert_with(|| self.outbound.next_sequence(lane));
            builder.set_producer(lane, 0, *next);
            *next = next.wrapping_add(builder.count());
            let mut batch = builder.finish();
            batch.set_flags(FLAG_CONTROL);
            group.push((self.control_partition(), batch));
        }
        Ok(group)
    }
}
