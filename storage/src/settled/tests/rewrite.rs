//! A rewritten partition says the same: every record, or of each key the newest.

use super::*;
use crate::disk::Disk;
use crate::sim_disk::Fate;
use flowstone_wire::{Epoch, Stamp, record};

const TOMBSTONE_MS: u64 = 1000;

/// A record: its key, and its value or that it is a tombstone. `None` as key: it has none.
type Put = (Option<u8>, bool);

fn shard() -> &'static Path {
    Path::new("s")
}

/// Writes batches of records into segments; `cuts` says after which batches a segment ends.
fn segments(disk: &SimDisk, batches: &[Vec<Put>], cut_every: usize) -> Vec<SettledMeta> {
    let (mut metas, mut offset) = (Vec::new(), 0u64);
    for part in batches.chunks(cut_every) {
        let id = SegmentId {
            partition: P,
            first_offset: Offset(offset),
            generation: 0,
        };
        let mut writer = SettledWriter::create(Arc::new(disk.clone()), shard(), id, true).unwrap();
        for puts in part {
            let mut builder = BatchBuilder::new(Codec::None);
            for (n, (key, has_value)) in puts.iter().enumerate() {
                let value = format!("value of {}", offset + n as u64);
                let value = has_value.then_some(value.as_bytes());
                let key = key.map(|k| [k]);
                assert!(builder.push(5, key.as_ref().map(|k| &k[..]), value, &[]));
            }
            let (header, bytes) = builder.finish().stamp(Stamp {
                partition: P,
                base_offset: Offset(offset),
                lsn: Lsn(offset + 1),
                epoch: Epoch(1),
            });
            writer.push(&header, &bytes).unwrap();
            offset = header.next_offset().0;
        }
        metas.push(writer.finish().unwrap());
    }
    metas
}

fn rewrite(disk: &SimDisk, input: RewriteInput) -> Result<Rewritten, crate::Error> {
    let mut job = RewriteJob::new(Arc::new(disk.clone()), shard(), input);
    for _ in 0..100_000 {
        if let RewriteStep::Done(done) = job.step()? {
            return Ok(done);
        }
    }
    panic!("it does not end")
}

/// The manifest after it.
fn apply(metas: &mut Vec<SettledMeta>, done: Rewritten) {
    metas.retain(|m| !done.removed.contains(&m.id()));
    metas.extend(done.added);
    metas.sort_by_key(|m| m.first_offset);
}

type Seen = (u64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Every record, read as a consumer reads: from offset to offset.
fn read_records(disk: &SimDisk, metas: &[SettledMeta], max_bytes: usize) -> Vec<Seen> {
    let mut all = Vec::new();
    for meta in metas {
        let reader = SettledReader::open(disk, shard(), meta.id()).unwrap();
        reader.verify().unwrap();
        assert_eq!(reader.meta().next_offset, meta.next_offset);
        let mut at = meta.first_offset;
        while at < meta.next_offset {
            let (slices, next) = reader.read(at, max_bytes).unwrap();
            assert!(next > at, "a reader at {at} does not get on");
            for slice in slices {
                let mut from = 0;
                while from < slice.len() {
                    let (header, body) = batch::records(&slice.slice(from..)).unwrap();
                    for r in record::walk(&header, &body) {
                        let r = r.unwrap();
                        all.push((
                            r.offset.0,
                            r.key.map(<[u8]>::to_vec),
                            r.value.map(<[u8]>::to_vec),
                        ));
                    }
                    from += header.size as usize;
                }
            }
            at = next;
        }
    }
    all
}

fn newest(records: &[Seen]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut map = BTreeMap::new();
    for (_, key, value) in records {
        let Some(key) = key else { continue };
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
    map
}

fn covered(metas: &[SettledMeta]) {
    for pair in metas.windows(2) {
        assert_eq!(
            pair[0].next_offset, pair[1].first_offset,
            "the ranges have a gap"
        );
    }
}

fn puts() -> impl Strategy<Value = Vec<Vec<Put>>> {
    let key = prop_oneof![1 => Just(None), 12 => (0u8..9).prop_map(Some)];
    let put = (key, proptest::bool::weighted(0.8));
    proptest::collection::vec(proptest::collection::vec(put, 1..6), 4..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_compacted_partition_replays_to_the_same_values(
        batches in puts(), cut in 1usize..6, key_bytes in 60usize..2000, file_bytes in 1u64..4000,
        passes in 1usize..5,
    ) {
        let disk = SimDisk::default();
        let all = segments(&disk, &batches, cut);
        let full = read_records(&disk, &all, 1 << 20);
        let (mut metas, mut rest) = (Vec::new(), all.into_iter());
        for pass in 0..passes as i64 {
            // More was settled since; the last pass takes all.
            let take = if pass + 1 == passes as i64 { usize::MAX } else { 2 };
            metas.extend(rest.by_ref().take(take));
            let before = read_records(&disk, &metas, 1 << 20);
            let now_ms = 10_000 + pass * 700;
            let compaction = Some(Compaction { now_ms, tombstone_ms: TOMBSTONE_MS, key_bytes });
            let done = rewrite(&disk, RewriteInput {
                min_free_bytes: 0,
                segments: metas.clone(), start: Offset(0), compaction, compress: true, file_bytes,
            }).unwrap();
            apply(&mut metas, done);
            covered(&metas);
            let after = read_records(&disk, &metas, 200);
            prop_assert_eq!(newest(&after), newest(&before));
            // What is there is what was there, at its offset.
            prop_assert!(after.iter().all(|r| before.contains(r)));
            let keyless = |all: &[Seen]| all.iter().filter(|r| r.1.is_none()).count();
            prop_assert_eq!(keyless(&after), keyless(&before));
        }
        let after = read_records(&disk, &metas, 1 << 20);
        prop_assert_eq!(newest(&after), newest(&full));
        if key_bytes > 9 * 65 {
            // The map had room: a key is there once.
            let mut keys: Vec<_> = after.iter().filter_map(|r| r.1.clone()).collect();
            let count = keys.len();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), count);
        }
    }

    #[test]
    fn small_segments_are_put_together_without_loss(
        batches in puts(), cut in 1usize..4, file_bytes in 1u64..3000,
    ) {
        let disk = SimDisk::default();
        let mut metas = segments(&disk, &batches, cut);
        let (full, count) = (read_records(&disk, &metas, 1 << 20), metas.len());
        let done = rewrite(&disk, RewriteInput {
            min_free_bytes: 0,
            segments: metas.clone(), start: Offset(0), compaction: None, compress: false, file_bytes,
        }).unwrap();
        prop_assert_eq!(done.removed.len(), count);
        apply(&mut metas, done);
        covered(&metas);
        prop_assert!(metas.len() <= count);
        prop_assert_eq!(read_records(&disk, &metas, 1 << 20), full);
    }
}

#[test]
fn a_tombstone_stays_for_its_time_and_takes_nothing_back_when_it_goes() {
    let disk = SimDisk::default();
    let put = |k: u8, has_value| vec![(Some(k), has_value)];
    let batches = [put(1, true), put(2, true), put(1, false), put(3, true)];
    let mut metas = segments(&disk, &batches, 2);
    let mut pass = |now_ms| {
        let compaction = Some(Compaction {
            now_ms,
            tombstone_ms: TOMBSTONE_MS,
            key_bytes: 1 << 20,
        });
        let input = RewriteInput {
            min_free_bytes: 0,
            segments: metas.clone(),
            start: Offset(0),
            compaction,
            compress: false,
            file_bytes: 1 << 20,
        };
        let done = rewrite(&disk, input).unwrap();
        apply(&mut metas, done);
        let all = read_records(&disk, &metas, 1 << 20);
        all.iter().map(|r| r.0).collect::<Vec<_>>()
    };
    assert_eq!(pass(5000), [1, 2, 3], "the value it deletes goes at once");
    assert_eq!(pass(5999), [1, 2, 3]);
    assert_eq!(pass(6000), [1, 3]);
    assert_eq!(pass(9000), [1, 3]);
}

/// A kill or a power cut anywhere leaves the old segments or the new ones.
#[test]
fn a_crash_anywhere_leaves_the_old_or_the_new() {
    let key = |n: usize| Some((n % 3) as u8);
    let batches: Vec<Vec<Put>> = (0..12)
        .map(|n| vec![(key(n), true), (key(n + 1), true)])
        .collect();
    let run = |disk: &SimDisk, stop: Option<u64>| -> Result<(), crate::Error> {
        let state = StateStore::open(disk, Path::new("s/state.redb"))?;
        let metas = segments(disk, &batches, 2);
        state.commit_settled(Some(Lsn(1)), &metas, &[])?;
        if let Some(stop) = stop {
            disk.stop_after(stop);
        }
        let compaction = Some(Compaction {
            now_ms: 1,
            tombstone_ms: TOMBSTONE_MS,
            key_bytes: 1 << 20,
        });
        let done = rewrite(
            disk,
            RewriteInput {
                min_free_bytes: 0,
                segments: metas,
                start: Offset(0),
                compaction,
                compress: true,
                file_bytes: 300,
            },
        )?;
        state.commit_settled(None, &done.added, &done.removed)?;
        for id in &done.removed {
            let path = crate::layout::settled_path(shard(), *id);
            disk.remove(&path)
                .map_err(crate::Error::io("remove", &path))?;
        }
        Ok(())
    };
    let whole = SimDisk::default();
    let before = whole.operations();
    run(&whole, None).unwrap();
    let (mut old, mut new) = (0, 0);
    for stop in 0..whole.operations() - before {
        for fate in [Fate::Lost, Fate::Kept, Fate::Torn(40)] {
            let disk = SimDisk::default();
            if run(&disk, Some(stop)).is_ok() {
                continue;
            }
            for names in [0, usize::MAX] {
                let cut = disk.crash(|_| fate, names);
                let state = StateStore::open(&cut, Path::new("s/state.redb")).unwrap();
                remove_orphans(&cut, shard(), &state).unwrap();
                let mut metas = state.settled().unwrap();
                metas.sort_by_key(|m| m.first_offset);
                let seen = read_records(&cut, &metas, 1 << 20);
                match seen.len() {
                    24 => old += 1,
                    3 => new += 1,
                    other => panic!("stop {stop} {fate:?}: {other} records"),
                }
            }
        }
    }
    assert!(old > 20 && new > 3, "{old} {new}");
}
