//! A group position that was acknowledged is not lost, and none turns up that nobody asked for.

use flowstone_wire::PartitionId;
use std::collections::BTreeMap;

/// What groups asked for and what they were told.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    /// Positions only ever rise here, so the highest is the last.
    acked: BTreeMap<(String, PartitionId), u64>,
    asked: BTreeMap<(String, PartitionId), u64>,
}

impl Positions {
    pub(crate) fn asked(&mut self, group: &str, partition: PartitionId, offset: u64) {
        self.asked.insert((group.into(), partition), offset);
    }

    pub(crate) fn acked(&mut self, group: &str, partition: PartitionId, offset: u64) {
        self.acked.insert((group.into(), partition), offset);
    }

    /// A group was told its position; `None` if it has none.
    pub(crate) fn read(
        &self,
        group: &str,
        partition: PartitionId,
        offset: Option<u64>,
    ) -> Result<(), String> {
        let key = (group.to_string(), partition);
        let (acked, asked) = (self.acked.get(&key), self.asked.get(&key));
        if offset < acked.copied() || offset > asked.copied() {
            return Err(format!(
                "groups: '{group}' is at {offset:?} of {partition}; it was acked {acked:?} and \
                 asked for {asked:?}"
            ));
        }
        Ok(())
    }
}
