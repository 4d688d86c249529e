//! From a step's delta to one group of batches: outputs first, the task's changes last.

use super::super::Shard;
use super::super::control::ControlRecord;
use crate::input::{Now, TaskConfig};
use crate::output::Outbox;
use flowstone_processor::{Delta, Output};
use flowstone_wire::batch::FLAG_GROUP_CONTINUES;
use flowstone_wire::partitioner::partition_for_key;
use flowstone_wire::{BatchBuilder, CheckedBatch, Codec, Header, PartitionId};
use std::collections::BTreeMap;

/// Batches of one step, by the partition they go to.
#[derive(Default)]
struct Batches {
    open: BTreeMap<PartitionId, BatchBuilder>,
    full: Vec<(PartitionId, CheckedBatch)>,
}

impl Batches {
    fn push(
        &mut self,
        partition: PartitionId,
        output: &Output<'_>,
        headers: &[Header<'_>],
    ) -> bool {
        let builder = self
            .open
            .entry(partition)
            .or_insert_with(|| BatchBuilder::new(Codec::None));
        let put =
            |b: &mut BatchBuilder| b.push(output.timestamp, output.key, output.value, headers);
        if put(builder) {
            return true;
        }
        if !builder.is_empty() {
            let full = std::mem::replace(builder, BatchBuilder::new(Codec::None));
            self.full.push((partition, full.finish()));
            return put(builder);
        }
        false
    }

    fn finish(mut self) -> Vec<(PartitionId, CheckedBatch)> {
        let rest = self.open.into_iter().filter(|(_, b)| !b.is_empty());
        self.full.extend(rest.map(|(p, b)| (p, b.finish())));
        self.full
    }
}

/// The partition an output goes to; `None` where the sink has none or it lives elsewhere.
fn target(config: &TaskConfig, output: &Output<'_>) -> Option<PartitionId> {
    let partitions = config.sinks.get(usize::from(output.sink.0))?;
    let count = partitions.len() as u32;
    let index = match output.key {
        Some(key) if output.key_changed => partition_for_key(key, count),
        _ => {
            let of_input = config.inputs.iter().find(|(p, _)| *p == output.partition);
            of_input.map_or(0, |(_, index)| *index) % count.max(1)
        }
    };
    partitions
        .get(index as usize)
        .filter(|p| p.local)
        .map(|p| p.id)
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
        let mut batches = Batches::default();
        for output in delta.outputs.iter() {
            let Some(partition) = target(config, &output) else {
                let why = format!(
                    "an output for sink {} goes to a partition of another shard, which is not \
                     supported; run the broker with one shard or give the sink one partition",
                    output.sink.0
                );
                return Err(why);
            };
            let headers: Vec<Header<'_>> = output.headers().collect();
            if !batches.push(partition, &output, &headers) {
                return Err("an output is larger than a record may be".into());
            }
        }
        let mut bytes = Vec::new();
        delta.state.encode(&mut bytes);
        let record = ControlRecord::TaskDelta {
            id: config.id,
            delta: bytes,
        };
        let Some(control) = record.to_batch(now.unix_ms) else {
            return Err("the step changed more state than a batch holds".into());
        };
        let mut group = batches.finish();
        group.push((self.control_partition(), control));
        let bytes = group.iter().map(|(_, b)| u64::from(b.header().size)).sum();
        self.admit(bytes, out).map_err(|failure| failure.message)?;
        let last = group.len() - 1;
        for (i, (partition, mut batch)) in group.into_iter().enumerate() {
            if i < last {
                batch.set_flags(FLAG_GROUP_CONTINUES);
            }
            let appended = self.append(now, partition, batch);
            if let Some(p) = self.partitions.get(&partition) {
                self.tasks.notice(now, &p.tasks, partition, appended);
            }
        }
        Ok(())
    }
}
