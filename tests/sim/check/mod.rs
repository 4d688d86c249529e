//! The properties that every run must have: one file each, over what clients saw and what is stored.

mod durability;
mod exactly_once;
mod groups;
mod idempotence;
mod liveness;
mod offsets;
mod order;
mod spread;
mod visibility;
mod windows;

use crate::record::Rec;
use crate::world::World;
use exactly_once::View;
use flowstone_wire::PartitionId;
use flowstone_wire::native::Acks;
use std::collections::BTreeMap;

/// What is promised of a record: that it is there, or a newer one of its key where such are kept.
fn is_kept(
    world: &World,
    dump: &Dump,
    (partition, offset): (PartitionId, u64),
    record: &Rec,
) -> Result<(), Option<Rec>> {
    let part = dump.get(&partition);
    let found = part.and_then(|p| p.record(offset));
    let replaced = || part.is_some_and(|p| p.has_newer(offset, &record.key));
    match found {
        Some(found) if found == record => Ok(()),
        None if world.compacts(partition) && replaced() => Ok(()),
        other => Err(other.cloned()),
    }
}

/// What is stored in a partition, read from its start to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) records: Vec<(u64, Rec)>,
}

impl Part {
    fn record(&self, offset: u64) -> Option<&Rec> {
        let at = self.records.binary_search_by_key(&offset, |(o, _)| *o);
        Some(&self.records[at.ok()?].1)
    }

    /// Whether there is a newer record with this key.
    fn has_newer(&self, offset: u64, key: &str) -> bool {
        let newer = self.records.partition_point(|(o, _)| *o <= offset);
        self.records[newer..].iter().any(|(_, r)| r.key == key)
    }
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
        self.durability.check(world, dump, &self.offsets)?;
        self.visibility.check(world, dump, &self.offsets)?;
        order::check(world, dump)?;
        idempotence::check(dump)?;
        check_pipelines(world, dump, false)?;
        for (partition, part) in dump {
            self.read(*partition, &part.records, true)?;
        }
        Ok(())
    }

    /// Holds what is stored at the end against what the pipelines should have made of their input.
    pub(crate) fn check_end(&mut self, world: &World, dump: &Dump) -> Result<(), String> {
        self.check(world, dump)?;
        check_whole(world, dump)
    }
}

/// Whether the pipelines have made all that they should of what is stored.
pub(crate) fn check_whole(world: &World, dump: &Dump) -> Result<(), String> {
    check_pipelines(world, dump, true)
}

fn check_pipelines(world: &World, dump: &Dump, whole: bool) -> Result<(), String> {
    if world.tasks.is_empty() {
        return Ok(());
    }
    exactly_once::check(&View { world, dump, whole })
}

/// Whether the pipelines that do not wait for time to pass are through with their input.
pub(crate) fn check_counts_of(world: &World, dump: &Dump) -> Result<(), String> {
    let whole = true;
    exactly_once::check_chain(&View { world, dump, whole })
}
