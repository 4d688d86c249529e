//! What a reader of a committed topic saw never vanishes and never changes; what a reader of a
//! written topic saw survives a kill.

use super::offsets::Issued;
use super::{Dump, End, is_kept};
use crate::record::Rec;
use crate::world::World;
use flowstone_wire::PartitionId;
use std::collections::BTreeMap;

/// Records that were seen, by their place, and whether what is committed was asked for.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    records: BTreeMap<(PartitionId, u64), (Rec, bool)>,
}

impl Seen {
    pub(super) fn note(
        &mut self,
        partition: PartitionId,
        offset: u64,
        record: &Rec,
        is_committed: bool,
    ) -> Result<(), String> {
        let place = (partition, offset);
        let (known, committed) = self
            .records
            .entry(place)
            .or_insert_with(|| (record.clone(), is_committed));
        *committed |= is_committed;
        if known != record {
            return Err(format!(
                "visibility: at {offset} of {partition} a reader saw {known:?}, then {record:?}"
            ));
        }
        Ok(())
    }

    pub(super) fn ended(&mut self, end: End) {
        self.records
            .retain(|_, (_, committed)| end == End::Kill || *committed);
    }

    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.records.retain(|(p, _), _| *p != partition);
    }

    pub(super) fn check(&self, world: &World, dump: &Dump, issued: &Issued) -> Result<(), String> {
        for ((partition, offset), (record, _)) in &self.records {
            if issued.expired(*partition, *offset) {
                continue;
            }
            if let Err(found) = is_kept(world, dump, (*partition, *offset), record) {
                return Err(format!(
                    "visibility: a reader saw {record:?} at {offset} of {partition}; there is \
                     {found:?}"
                ));
            }
        }
        Ok(())
    }
}
