//! The records of an idempotent producer stand in the order in which it numbered them, without gaps.

use super::Dump;
use std::collections::BTreeMap;

pub(super) fn check(dump: &Dump) -> Result<(), String> {
    for (partition, part) in dump {
        let mut last: BTreeMap<u64, (u16, u32)> = BTreeMap::new();
        for (offset, record) in &part.records {
            let (producer, epoch, sequence) = record.producer;
            if producer == 0 {
                continue;
            }
            if let Some((e, s)) = last.insert(producer, (epoch, sequence)) {
                let follows = (epoch == e && sequence == s + 1) || (epoch > e && sequence == 0);
                if !follows {
                    return Err(format!(
                        "order: at {offset} of {partition} producer {producer} has {epoch}.{sequence} \
                         behind {e}.{s}"
                    ));
                }
            }
        }
    }
    Ok(())
}
