//! No sequence of an idempotent producer is stored twice, and nothing that it numbered once either.

use super::Dump;
use std::collections::BTreeSet;

pub(super) fn check(dump: &Dump) -> Result<(), String> {
    for (partition, part) in dump {
        let mut stored = BTreeSet::new();
        for (offset, record) in &part.records {
            if record.producer.0 != 0 && !stored.insert(record.producer) {
                return Err(format!(
                    "idempotence: {record:?} is stored a second time at {offset} of {partition}"
                ));
            }
        }
    }
    Ok(())
}
