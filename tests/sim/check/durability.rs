//! Nothing that was acknowledged is lost: `durable` not by a power cut, `written` not by a kill.

use super::offsets::Issued;
use super::{Dump, End, is_kept};
use crate::record::Rec;
use crate::world::World;
use flowstone_wire::PartitionId;
use flowstone_wire::native::Acks;
use std::collections::BTreeMap;

/// Records that were acknowledged, by their place.
#[derive(Debug, Default)]
pub(crate) struct Acked {
    records: BTreeMap<(PartitionId, u64), (Rec, Acks)>,
}

impl Acked {
    pub(super) fn note(&mut self, partition: PartitionId, offset: u64, record: &Rec, acks: Acks) {
        let stronger = match self.records.get(&(partition, offset)) {
            Some((_, Acks::Durable)) => Acks::Durable,
            Some((_, Acks::Written)) if acks == Acks::None => Acks::Written,
            _ => acks,
        };
        if stronger != Acks::None {
            self.records
                .insert((partition, offset), (record.clone(), stronger));
        }
    }

    pub(super) fn ended(&mut self, end: End) {
        self.records
            .retain(|_, (_, acks)| end == End::Kill || *acks == Acks::Durable);
    }

    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.records.retain(|(p, _), _| *p != partition);
    }

    pub(super) fn check(&self, world: &World, dump: &Dump, issued: &Issued) -> Result<(), String> {
        for ((partition, offset), (record, acks)) in &self.records {
            if issued.expired(*partition, *offset) {
                continue;
            }
            if let Err(found) = is_kept(world, dump, (*partition, *offset), record) {
                return Err(format!(
                    "durability: {record:?} was acked {acks:?} at {offset} of {partition}; there \
                     is {found:?}"
                ));
            }
        }
        Ok(())
    }
}
