//! The properties that every run must have: one file each, over what clients saw and what is stored.

mod durability;
mod exactly_once;
mod groups;
mod idempotence;
mod liveness;
mod offsets;
mod order;
mod visibility;

pub(crate) use exactly_once::check_chain as check_counts_of;

use crate::record::Rec;
use crate::world::World;
use flowstone_wire::PartitionId;
use flowstone_wire::native::Acks;
use std::collections::BTreeMap;

/// What is stored in a partition, read from its start to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) records: Vec<(u64, Rec)>,
}

/// Everything that is stored.
pub(crate) type Dump = BTreeMap<PartitionId, Part>;

/// What ended a process, as far as what it wrote is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What was not durable may be gone.
    PowerCut,
    /// What was written is there.
    Kill,
}

/// Everything that clients were told.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) durability: durability::Acked,
    pub(crate) offsets: offsets::Issued,
    pub(crate) visibility: visibility::Seen,
    pub(crate) groups: groups::Positions,
    pub(crate) liveness: liveness::Open,
}

impl History {
    /// A producer was told where its records are.
    pub(crate) fn acked(
        &mut self,
        partition: PartitionId,
        base_offset: u64,
        records: &[Rec],
        acks: Acks,
    ) -> Result<(), String> {
        for (record, offset) in records.iter().zip(base_offset..) {
            self.offsets.note(partition, offset, record)?;
            self.durability.note(partition, offset, record, acks);
        }
        Ok(())
    }

    /// A reader was given records.
    pub(crate) fn read(
        &mut self,
        partition: PartitionId,
        records: &[(u64, Rec)],
        is_committed: bool,
    ) -> Result<(), String> {
        for (offset, record) in records {
            self.offsets.note(partition, *offset, record)?;
            self.visibility
                .note(partition, *offset, record, is_committed)?;
        }
        Ok(())
    }

    /// A partition was deleted: nothing of it is promised any more.
    pub(crate) fn forget(&mut self, partition: PartitionId) {
        self.durability.forget(partition);
        self.offsets.forget(partition);
        self.visibility.forget(partition);
    }

    /// The process has ended.
    pub(crate) fn ended(&mut self, end: End) {
        self.durability.ended(end);
        self.visibility.ended(end);
        self.offsets.ended();
        self.liveness.ended();
    }

    /// Holds what a start found against all that was promised. From then on all of it is promised:
    /// a reader could have seen it.
    pub(crate) fn check(&mut self, world: &World, dump: &Dump) -> Result<(), String> {
        self.offsets.check(world, dump)?;
        self.durability.check(dump, &self.offsets)?;
        self.visibility.check(dump, &self.offsets)?;
        order::check(dump)?;
        idempotence::check(dump)?;
        for (partition, part) in dump {
            self.read(*partition, &part.records, true)?;
        }
        Ok(())
    }

    /// Holds what is stored at the end against what the pipelines should have made of their input.
    pub(crate) fn check_end(&mut self, world: &World, dump: &Dump) -> Result<(), String> {
        self.check(world, dump)?;
        if !world.tasks.is_empty() {
            exactly_once::check(dump)?;
        }
        Ok(())
    }
}
