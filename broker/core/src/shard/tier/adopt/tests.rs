//! Whatever ends where: what is adopted is in order, and nothing of it is nowhere.

use super::*;
use crate::input::PartitionConfig;
use flowstone_wire::{Lsn, PartitionId};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ID: PartitionId = PartitionId(1024);

fn meta(first: u64, next: u64) -> SettledMeta {
    SettledMeta {
        partition: ID,
        first_offset: Offset(first),
        next_offset: Offset(next),
        generation: 0,
        clean_at_ms: None,
        records: next - first,
        bytes: next - first,
        max_timestamp: 0,
        last_lsn: Lsn(next),
    }
}

fn copy(epoch: u32) -> Tiered {
    Tiered {
        generation: 0,
        epoch,
        bytes: 1,
        crc32: 0,
        local: false,
    }
}

/// Segments one behind the other from an offset on.
fn row(from: u64, lengths: &[u64]) -> Vec<SettledMeta> {
    let mut at = from;
    let one = |length: &u64| {
        at += length;
        meta(at - length, at)
    };
    lengths.iter().map(one).collect()
}

fn entries(from: u64, lengths: &[u64]) -> Vec<(SettledMeta, Tiered)> {
    let all = row(from, lengths);
    let numbered = all.into_iter().enumerate();
    numbered.map(|(n, m)| (m, copy(2 + n as u32))).collect()
}

/// A partition with these local files.
fn partition(local: Vec<SettledMeta>) -> Partition {
    Partition {
        config: Some(PartitionConfig::default()),
        next: local.last().map_or(Offset(0), |m| m.next_offset),
        settled: local.into(),
        ..Partition::default()
    }
}

/// The segment of each offset that has one, as a reader finds it.
fn map_of(p: &Partition, upto: u64) -> Vec<Option<SettledMeta>> {
    let holds = |m: &&SettledMeta, o: u64| m.first_offset.0 <= o && o < m.next_offset.0;
    let find = |o: u64| p.settled_at(Offset(o)).filter(|m| holds(m, o)).cloned();
    (0..upto).map(find).collect()
}

fn lengths() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(1u64..12, 0..10)
}

proptest! {
    #[test]
    fn nothing_is_nowhere(
        here in lengths(), there in lengths(), from in 0u64..6, due in 0usize..12, start in 0u64..30,
        again in lengths(), settling in any::<bool>(),
    ) {
        let mut p = partition(row(0, &here));
        p.stored_start = Offset(start.min(p.next.0));
        let mut found = entries(from, &there);
        // Twice: the tier has more by then.
        for _ in 0..2 {
            let end = p.next.0;
            let before = map_of(&p, end);
            let (old, marks) = (p.settled.clone(), p.tiered.clone());
            let missed = p.missed(&found, p.stored_start).is_some();
            prop_assert!(!missed, "entries only grow");
            let Some(change) = p.adopt(&found, due, settling) else { break };
            if settling {
                // What is being settled begins behind what was kept and settled.
                let begins = |last: Option<&SettledMeta>| {
                    last.map_or(Offset(0), |m| m.next_offset).max(p.stored_start)
                };
                prop_assert_eq!(begins(p.settled.back()), begins(old.back()));
            }
            prop_assert!(p.settled.iter().is_sorted_by(|a, b| a.first_offset < b.first_offset
                && a.next_offset < b.next_offset), "{:?}", p.settled);
            let after = map_of(&p, end);
            for offset in p.stored_start.0..end {
                let at = offset as usize;
                prop_assert!(before[at].is_none() || after[at].is_some(), "offset {offset} is nowhere");
            }
            // What is read remotely is there as it is said.
            for m in &p.settled {
                if let Some(t) = p.copy_of(m.id()) {
                    let named = found.iter().find(|(e, _)| e.id() == m.id()).expect("it was found");
                    prop_assert_eq!((&named.0, named.1.epoch), (m, t.epoch));
                }
            }
            // The rows say the same when the change is applied.
            let mut rows: BTreeMap<Offset, (SettledMeta, Option<Tiered>)> = old
                .iter()
                .map(|m| (m.first_offset, (m.clone(), marks.get(&m.first_offset).copied())))
                .collect();
            for id in &change.dropped {
                rows.remove(&id.first_offset);
            }
            for (m, t) in &change.put {
                rows.insert(m.first_offset, (m.clone(), *t));
            }
            let now: Vec<_> = p.settled.iter().map(|m| (m.clone(), p.copy_of(m.id()))).collect();
            prop_assert_eq!(rows.into_values().collect::<Vec<_>>(), now);
            let at = found.last().map_or(from, |(m, _)| m.next_offset.0);
            found.extend(entries(at, &again));
        }
    }
}

#[test]
fn as_many_files_go_as_may_and_others_stay() {
    let mut p = partition(row(0, &[10, 10, 10, 10]));
    let change = p.adopt(&entries(0, &[7, 8, 8, 9]), 2, false).unwrap();
    let firsts: Vec<u64> = p.settled.iter().map(|m| m.first_offset.0).collect();
    assert_eq!(firsts, [0, 7, 15, 20, 30]);
    assert_eq!(change.dropped.len(), 2, "{change:?}");
    assert!(p.is_in_tier(&meta(20, 30)) && !p.is_in_tier(&meta(30, 40)));
    // The same again changes nothing.
    let again = p.adopt(&entries(0, &[7, 8, 8, 9]), 0, false);
    assert_eq!(again, Some(Adoption::default()));
    // What is in the tier only must be named there.
    assert!(p.missed(&entries(0, &[7, 8, 8]), Offset(0)).is_none());
    let missed = p
        .missed(&entries(7, &[8, 8]), Offset(0))
        .map(|m| m.first_offset.0);
    assert_eq!(missed, Some(0));
    assert!(p.missed(&entries(7, &[8, 8]), Offset(7)).is_none());
}

/// What was adopted is replaced by a later leader's, which goes further than what is settled here.
#[test]
fn what_replaces_a_copy_is_taken_over() {
    let mut p = partition(row(20, &[4]));
    p.settled.push_front(meta(10, 20));
    p.settled.push_front(meta(0, 10));
    p.tiered.insert(Offset(0), copy(2));
    p.tiered.insert(Offset(10), copy(3));
    p.next = Offset(30);
    let found = [(meta(0, 10), copy(2)), (meta(8, 25), copy(9))];
    assert_eq!(
        p.adopt(&found, 0, true),
        None,
        "what is being settled begins at 24"
    );
    let change = p.adopt(&found, 0, false).unwrap();
    let ends: Vec<u64> = p.settled.iter().map(|m| m.next_offset.0).collect();
    assert_eq!(
        (ends, change.dropped.len()),
        (vec![10, 25], 2),
        "{change:?}"
    );
}

#[test]
fn compacted_files_all_stay() {
    let mut p = partition(row(0, &[10, 10]));
    p.config = Some(PartitionConfig {
        compact: true,
        ..PartitionConfig::default()
    });
    p.adopt(&entries(0, &[10, 5, 5]), 2, false).unwrap();
    assert_eq!(p.settled.len(), 2);
    assert!(p.is_in_tier(&meta(0, 10)), "it is the same");
    assert!(!p.is_in_tier(&meta(10, 20)), "of other parts nobody knows");
}
