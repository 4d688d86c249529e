//! Nothing that was acknowledged is lost: `durable` not by a power cut, `written` not by a kill.

use super::offsets::Issued;
use super::{Dump, End};
use crate::record::Rec;
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

    pub(super) fn check(&self, dump: &Dump, issued: &Issued) -> Result<(), String> {
        for ((partition, offset), (record, acks)) in &self.records {
            if issued.expired(*partition, *offset) {
                continue;
            }
            let found = dump.get(partition).and_then(|p| p.record(*offset));
            if found != Some(record) {
                return Err(format!(
                    "durability: {record:?} was acked {acks:?} at {offset} of {partition}; there \
                     is {found:?}"
                ));
            }
        }
        Ok(())
    }
}
