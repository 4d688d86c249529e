//! Manifests lose no object, keep their order, and read back.

use super::*;
use proptest::prelude::*;

fn entry(first: u64, next: u64, generation: u32, epoch: u32) -> Entry {
    Entry {
        id: ObjectId {
            first_offset: Offset(first),
            generation,
            epoch: TierEpoch(epoch),
        },
        next_offset: Offset(next),
        records: next - first,
        bytes: 100 + first,
        max_timestamp: -5,
        last_lsn: Lsn(next),
        clean_at_ms: (generation > 0).then_some(1_700_000_000_000),
        crc32: 0xdead_beef,
    }
}

#[derive(Clone, Debug)]
enum Change {
    Add(u64, u64, u32, u32),
    Start(u64),
    Clear(usize),
    /// Stored and read back.
    Store,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        8 => (0u64..40, 1u64..12, 0u32..4, 1u32..4).prop_map(|(f, n, g, e)| Change::Add(f, f + n, g, e)),
        2 => (0u64..50).prop_map(Change::Start),
        1 => (0usize..5).prop_map(Change::Clear),
        1 => Just(Change::Store),
    ];
    proptest::collection::vec(change, 0..60)
}

proptest! {
    #[test]
    fn no_object_is_lost_and_the_order_holds(changes in changes()) {
        let mut manifest = Manifest::empty(PartitionId(1024));
        let mut uploaded = BTreeSet::new();
        for change in changes {
            match change {
                Change::Add(first, next, generation, epoch) => {
                    let before = manifest.clone();
                    let entry = entry(first, next, generation, epoch);
                    match manifest.add(entry.clone()) {
                        Ok(_) => { uploaded.insert(entry.id); }
                        Err(_) => prop_assert_eq!(&manifest, &before),
                    }
                }
                Change::Start(at) => manifest.move_start(Offset(at)),
                Change::Clear(n) => {
                    let removed: Vec<_> = manifest.garbage().iter().take(n).copied().collect();
                    removed.iter().for_each(|id| { uploaded.remove(id); });
                    manifest.cleared(&removed);
                }
                Change::Store => {
                    let stored = manifest.numbered(TierEpoch(3));
                    prop_assert_eq!(stored.version(), manifest.version() + 1);
                    manifest = Manifest::decode(&stored.encode().unwrap()).unwrap();
                    prop_assert_eq!(&manifest, &stored);
                }
            }
            prop_assert_eq!(manifest.check(), Ok(()));
            let entries = manifest.entries().iter().map(|e| e.id);
            let named: Vec<_> = entries.chain(manifest.garbage().iter().copied()).collect();
            prop_assert_eq!(named.len(), uploaded.len());
            prop_assert!(named.iter().all(|id| uploaded.contains(id)));
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), framed in any::<bool>(),
    ) {
        let bytes = if framed { envelope::seal(Kind::Manifest, &bytes) } else { bytes };
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.check(), Ok(()));
        }
    }
}

fn three() -> Manifest {
    let mut manifest = Manifest::empty(PartitionId(1024));
    for (first, next) in [(0, 10), (10, 20), (25, 30)] {
        manifest.add(entry(first, next, 0, 1)).unwrap();
    }
    manifest
}

#[test]
fn a_rewritten_segment_replaces_those_it_covers() {
    let mut manifest = three();
    assert_eq!(
        manifest.add(entry(0, 25, 1, 1)),
        Ok(Added::In { replaced: 2 })
    );
    assert_eq!(manifest.entries().len(), 2);
    assert_eq!(manifest.garbage().len(), 2);
    assert_eq!(manifest.add(entry(0, 25, 1, 1)), Ok(Added::Already));
    let across = Err(ManifestError::Overlaps(Offset(20), Offset(28)));
    assert_eq!(manifest.add(entry(20, 28, 2, 1)), across);
    let older = Err(ManifestError::Overlaps(Offset(25), Offset(30)));
    assert_eq!(manifest.add(entry(25, 30, 0, 0)), older);
    assert_eq!(
        manifest.add(entry(0, 25, 0, 2)),
        Ok(Added::In { replaced: 1 }),
        "a later owner"
    );
    assert_eq!(
        manifest.add(entry(0, 10, 0, 1)),
        Err(ManifestError::GivenUp(Offset(0)))
    );
}

#[test]
fn another_owner_goes_on_where_its_own_segments_begin() {
    let mut manifest = three();
    let (across, inner) = (entry(15, 25, 0, 2), entry(26, 29, 0, 2));
    assert_eq!(manifest.add(across.clone()), Ok(Added::In { replaced: 0 }));
    assert_eq!(
        manifest.add(entry(28, 40, 0, 2)),
        Ok(Added::In { replaced: 0 })
    );
    assert_eq!(manifest.entries().len(), 5);
    let none = Err(ManifestError::Overlaps(Offset(26), Offset(29)));
    assert_eq!(manifest.add(inner), none, "another one has it all");
    let same = Err(ManifestError::Overlaps(Offset(39), Offset(50)));
    assert_eq!(manifest.add(entry(39, 50, 0, 2)), same, "of the same owner");
    let stored = manifest.numbered(TierEpoch(2));
    assert_eq!(Manifest::decode(&stored.encode().unwrap()), Ok(stored));
    // A later one that covers the first of them whole gives it up.
    assert_eq!(
        manifest.add(entry(12, 26, 0, 3)),
        Ok(Added::In { replaced: 1 })
    );
    assert_eq!(manifest.garbage(), &[across.id]);
}

#[test]
fn what_is_below_the_start_is_garbage() {
    let mut manifest = three();
    manifest.move_start(Offset(15));
    assert_eq!(
        manifest.entries()[0].id.first_offset,
        Offset(10),
        "half of it is wanted"
    );
    assert_eq!(manifest.garbage(), &[entry(0, 10, 0, 1).id]);
    assert_eq!(manifest.add(entry(2, 9, 0, 2)), Ok(Added::BelowStart));
    assert_eq!(manifest.garbage().len(), 2);
    manifest.move_start(Offset(3));
    assert_eq!(manifest.start(), Offset(15));
    let garbage = manifest.garbage().to_vec();
    manifest.cleared(&garbage[..1]);
    assert_eq!(manifest.garbage(), &garbage[1..]);
}

/// These bytes are in buckets: they must stay readable.
#[test]
fn the_format_is_this() {
    let mut manifest = Manifest::empty(PartitionId(1024));
    manifest.add(entry(0, 10, 0, 1)).unwrap();
    manifest.add(entry(10, 300, 0, 1)).unwrap();
    manifest.add(entry(0, 10, 1, 2)).unwrap();
    manifest.move_start(Offset(3));
    let bytes = manifest.numbered(TierEpoch(2)).encode().unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    assert_eq!(
        Manifest::decode(&bytes).unwrap(),
        manifest.numbered(TierEpoch(2))
    );
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        assert!(
            Manifest::decode(&bad).is_err(),
            "byte {at} is covered by nothing"
        );
    }
    assert!(Manifest::decode(&bytes[..bytes.len() - 1]).is_err());
}

const GOLDEN: &str = concat!(
    "4653544d01000000fd03428a",
    "010280080302",
    "0001020a0a64090a0180a0abfef962effdb6f50d",
    "0a0001ac02a2026e09ac0200effdb6f50d",
    "01000001"
);

#[test]
fn what_does_not_add_up_is_refused() {
    let refuse = |change: fn(&mut Manifest)| {
        let mut manifest = three();
        change(&mut manifest);
        Manifest::decode(&manifest.encode().unwrap()).unwrap_err()
    };
    assert!(refuse(|m| m.entries.swap(0, 1)).contains("out of place"));
    assert!(refuse(|m| m.entries[0].next_offset = Offset(20)).contains("out of place"));
    assert!(refuse(|m| m.entries[1].id.first_offset = Offset(0)).contains("out of place"));
    assert!(refuse(|m| m.start = Offset(10)).contains("out of place"));
    assert!(refuse(|m| m.garbage.push(m.entries[1].id)).contains("twice"));
}

#[test]
fn entries_and_settled_metas_are_the_same_thing() {
    let entry = entry(5, 9, 3, 2);
    let meta = entry.meta(PartitionId(1030));
    assert_eq!(Entry::of(&meta, TierEpoch(2), entry.crc32), entry);
    assert_eq!(entry.segment(PartitionId(1030)), meta.id());
}
