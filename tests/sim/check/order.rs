//! The records of an idempotent producer, and of a lane from another shard, stand in the order in which
//! they were numbered, without gaps.

use super::Dump;
use crate::world::World;
use std::collections::BTreeMap;

pub(super) fn check(world: &World, dump: &Dump) -> Result<(), String> {
    for (partition, part) in dump {
        let mut last: BTreeMap<u64, (u16, u32)> = BTreeMap::new();
        for (offset, record) in &part.records {
            let (producer, epoch, sequence) = record.producer;
            if producer == 0 {
                continue;
            }
            let before = last.insert(producer, (epoch, sequence));
            let compacts = world.compacts(*partition);
            let follows = match before {
                // What was between may have been replaced.
                Some(before) if compacts => before < (epoch, sequence),
                Some((e, s)) => (epoch == e && sequence == s + 1) || (epoch > e && sequence == 0),
                // What was before may have expired.
                None => sequence == 0 || part.start > 0 || compacts,
            };
            if !follows {
                return Err(format!(
                    "order: at {offset} of {partition} producer {producer} has {epoch}.{sequence} \
                     behind {before:?}"
                ));
            }
        }
    }
    Ok(())
}
