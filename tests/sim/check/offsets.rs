//! Offsets are dense, and none is given to two different records as long as the first one lives.

use super::Dump;
use crate::record::Rec;
use crate::world::World;
use flowstone_wire::PartitionId;
use std::collections::BTreeMap;

/// What is known to stand where.
#[derive(Debug, Default)]
pub(crate) struct Issued {
    records: BTreeMap<(PartitionId, u64), Rec>,
    /// The highest start of each partition that anybody was told.
    starts: BTreeMap<PartitionId, u64>,
}

impl Issued {
    pub(super) fn note(
        &mut self,
        partition: PartitionId,
        offset: u64,
        record: &Rec,
    ) -> Result<(), String> {
        let known = self
            .records
            .entry((partition, offset))
            .or_insert_with(|| record.clone());
        if known != record {
            return Err(format!(
                "offsets: {offset} of {partition} is {record:?}; it was {known:?}"
            ));
        }
        Ok(())
    }

    /// Somebody was told the bounds of a partition.
    pub(crate) fn bounds(
        &mut self,
        partition: PartitionId,
        start: u64,
        end: u64,
    ) -> Result<(), String> {
        let highest = self.starts.entry(partition).or_default();
        *highest = start.max(*highest);
        if start > end {
            return Err(format!(
                "offsets: {partition} starts at {start} and ends at {end}"
            ));
        }
        Ok(())
    }

    /// Whether a record may have expired.
    pub(super) fn expired(&self, partition: PartitionId, offset: u64) -> bool {
        self.starts
            .get(&partition)
            .is_some_and(|start| offset < *start)
    }

    /// What was not promised may have gone: its place may be given away again.
    pub(super) fn ended(&mut self) {
        self.records.clear();
    }

    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.records.retain(|(p, _), _| *p != partition);
        self.starts.remove(&partition);
    }

    pub(super) fn check(&mut self, world: &World, dump: &Dump) -> Result<(), String> {
        for (partition, part) in dump {
            self.bounds(*partition, part.start, part.end)?;
            if part.start > 0 && !world.expires(*partition) {
                return Err(format!(
                    "offsets: {partition} starts at {} for no reason",
                    part.start
                ));
            }
            let (first, kept) = (part.start, part.records.iter().map(|(o, _)| *o));
            let whole = if world.compacts(*partition) {
                kept.clone().is_sorted_by(|a, b| a < b) && kept.clone().all(|o| o < part.end)
            } else {
                kept.clone().eq(first..part.end)
            };
            if !whole {
                let is: Vec<u64> = kept.collect();
                return Err(format!(
                    "offsets: {partition} should have {first}..{} and has {is:?}",
                    part.end
                ));
            }
        }
        Ok(())
    }
}
