//! The log against a model, and every picture against the table.

use super::recover_table::{Next, Standing, TABLE};
use super::*;
use crate::sim_disk::{Fate, SimDisk};
use flowstone_wire::batch::{self, FLAG_GROUP_CONTINUES};
use flowstone_wire::{BatchBuilder, Codec, Offset, PartitionId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 4096,
    min_free_bytes: 0,
};
const P: PartitionId = PartitionId(2000);

fn batch_of(values: &[&[u8]]) -> flowstone_wire::CheckedBatch {
    let mut b = BatchBuilder::new(Codec::None);
    for v in values {
        assert!(b.push(1000, None, Some(v), &[]));
    }
    b.finish()
}

type Seen = Vec<(Lsn, PartitionId, Offset, Vec<u8>)>;

fn open(disk: &SimDisk) -> Result<(ShardLog, Recovered, Seen), crate::Error> {
    let mut seen = Vec::new();
    let (log, _, recovered) = ShardLog::open(
        Arc::new(disk.clone()),
        Path::new("s"),
        CONFIG,
        Lsn(0),
        &mut |h, b| seen.push((h.lsn, h.partition, h.base_offset, b.to_vec())),
    )?;
    Ok((log, recovered, seen))
}

/// Appends groups; each inner list is a group, each entry a batch (partition, value bytes).
struct Writer {
    log: ShardLog,
    next: BTreeMap<PartitionId, u64>,
    all: Seen,
}

impl Writer {
    fn new(log: ShardLog) -> Self {
        Self {
            log,
            next: BTreeMap::new(),
            all: Vec::new(),
        }
    }

    fn group(&mut self, batches: &[(PartitionId, usize)]) {
        let mut built: Vec<_> = batches
            .iter()
            .map(|(p, n)| (*p, batch_of(&[&vec![p.0 as u8; *n]])))
            .collect();
        let bytes = built.iter().map(|(_, b)| u64::from(b.header().size)).sum();
        self.log.make_room(bytes).unwrap();
        let last = built.len() - 1;
        for (i, (p, mut b)) in built.drain(..).enumerate() {
            if i < last {
                b.set_flags(FLAG_GROUP_CONTINUES);
            }
            let offset = self.next.entry(p).or_default();
            let a = self.log.append(b, p, Offset(*offset));
            *offset += 1;
            self.all
                .push((a.header.lsn, p, a.header.base_offset, a.bytes.to_vec()));
        }
    }

    fn sync(&mut self) {
        self.log.flush().unwrap();
        if let Some(job) = self.log.sync_job() {
            job.run().unwrap();
            self.log.synced(job.upto);
        }
    }
}

#[test]
fn every_picture_matches_exactly_one_row() {
    for standing in [
        Standing::Valid,
        Standing::Blank,
        Standing::Bad,
        Standing::Stale,
    ] {
        for below in [true, false] {
            for next in [Next::None, Next::Continues, Next::Gap] {
                let rows = TABLE.iter().filter(|r| {
                    r.standing.contains(&standing)
                        && r.below_mark.is_none_or(|b| b == below)
                        && r.next.contains(&next)
                });
                let letters: String = rows.map(|r| r.letter).collect();
                assert_eq!(
                    letters.len(),
                    1,
                    "{standing:?} {below} {next:?}: {letters:?}"
                );
            }
        }
    }
}

#[test]
fn reads_merge_adjacent_slices_and_stop_at_bounds() {
    let mut w = Writer::new(open(&SimDisk::default()).unwrap().0);
    for _ in 0..5 {
        w.group(&[(P, 100)]);
    }
    w.group(&[(PartitionId(2001), 10)]);
    w.group(&[(P, 100)]);
    w.sync();
    let all = ReadLimits {
        max_bytes: 1 << 20,
        upto: Lsn(7),
    };
    let found = w.log.read(P, Offset(0), all);
    assert_eq!(
        (found.slices.len(), found.next_offset),
        (2, Offset(6)),
        "two stretches"
    );
    let found = w.log.read(
        P,
        Offset(3),
        ReadLimits {
            upto: Lsn(4),
            ..all
        },
    );
    assert_eq!(
        (found.slices.len(), found.next_offset),
        (1, Offset(4)),
        "not behind the mark"
    );
    let found = w.log.read(
        P,
        Offset(1),
        ReadLimits {
            max_bytes: 1,
            ..all
        },
    );
    assert_eq!(found.next_offset, Offset(2), "one batch is always given");
    assert!(w.log.read(P, Offset(6), all).is_empty());
    assert!(w.log.read(PartitionId(9999), Offset(0), all).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any groups, synced now and then; a power cut keeps any subset of what was not synced. What
    /// comes back is a prefix of whole groups that holds everything that was synced.
    #[test]
    fn a_power_cut_leaves_a_prefix_of_whole_groups(
        groups in proptest::collection::vec(
            (proptest::collection::vec((2000u32..2004, 1usize..700), 1..4), any::<bool>()), 1..30),
        fates in proptest::collection::vec(0u8..4, 64),
        names_kept in 0usize..4,
        second in proptest::collection::vec(0u8..4, 64),
    ) {
        let disk = SimDisk::default();
        let mut w = Writer::new(open(&disk).unwrap().0);
        let (mut ends, mut synced) = (vec![0], 0);
        for (group, sync) in &groups {
            let group: Vec<_> = group.iter().map(|(p, n)| (PartitionId(*p), *n)).collect();
            w.group(&group);
            ends.push(w.all.len());
            if *sync { w.sync(); synced = w.all.len(); } else { w.log.flush().unwrap(); }
        }
        let fate = |list: &[u8], n: usize| match list[n % list.len()] {
            0 => Fate::Lost, 1 => Fate::Torn(n * 37 % 500), _ => Fate::Kept,
        };
        let cut = disk.crash(|n| fate(&fates, n), names_kept);
        let (log, recovered, seen) = open(&cut).unwrap();
        prop_assert!(seen.len() >= synced, "{} < {synced}: {recovered:?}", seen.len());
        prop_assert_eq!(&seen[..], &w.all[..seen.len()]);
        prop_assert!(ends.contains(&seen.len()), "a group was torn: {recovered:?}");
        // The recovered log goes on, and survives another cut in the same manner.
        let mut again = Writer { log, next: BTreeMap::new(), all: seen };
        for (_, p, o, _) in &again.all { again.next.insert(*p, o.0 + 1); }
        again.group(&[(P, 50), (PartitionId(2001), 60)]);
        again.sync();
        again.group(&[(P, 70)]);
        again.log.flush().unwrap();
        let (_, _, last) = open(&cut.crash(|n| fate(&second, n), 9)).unwrap();
        prop_assert!(last.len() + 1 >= again.all.len());
        prop_assert_eq!(&last[..], &again.all[..last.len()]);
    }

    /// Killing the process loses nothing that was flushed.
    #[test]
    fn a_kill_loses_nothing_written(sizes in proptest::collection::vec(1usize..900, 1..40)) {
        let disk = SimDisk::default();
        let mut w = Writer::new(open(&disk).unwrap().0);
        for n in sizes { w.group(&[(P, n)]); w.log.flush().unwrap(); }
        let (_, _, seen) = open(&disk.kill()).unwrap();
        prop_assert_eq!(seen, w.all);
    }

    /// Recovery that is itself cut short anywhere is recovered again, to the same log.
    #[test]
    fn recovery_can_be_interrupted_anywhere(
        sizes in proptest::collection::vec(1usize..1500, 4..20), stop in 0u64..12,
        fates in proptest::collection::vec(0u8..3, 32),
    ) {
        let disk = SimDisk::default();
        let mut w = Writer::new(open(&disk).unwrap().0);
        for (i, n) in sizes.iter().enumerate() {
            w.group(&[(P, *n), (PartitionId(2001), 5)]);
            if i == 2 { w.sync(); } else { w.log.flush().unwrap(); }
        }
        let fate = |n: usize| match fates[n % 32] { 0 => Fate::Lost, _ => Fate::Kept };
        let cut = disk.crash(fate, 99);
        let expected = open(&cut.kill()).unwrap().2;
        let interrupted = cut.kill();
        interrupted.stop_after(stop);
        let _ = open(&interrupted);
        for names in [0, 1, 99] {
            let (_, _, seen) = open(&interrupted.crash(fate, names)).unwrap();
            prop_assert_eq!(&seen, &expected);
        }
    }
}

/// Five single-batch groups of 1000 bytes fill more than one segment of 4096.
fn rolled() -> (SimDisk, Writer) {
    let disk = SimDisk::default();
    let mut w = Writer::new(open(&disk).unwrap().0);
    for _ in 0..5 {
        w.group(&[(P, 1000)]);
    }
    (disk, w)
}

#[test]
fn every_row_is_reached() {
    let mut reached = String::new();
    let mut note = |disk: &SimDisk| {
        let rows = open(disk).map_or_else(|_| "g".into(), |o| o.1.rows);
        reached.push_str(&rows);
    };
    note(&SimDisk::default()); // 0
    let (disk, mut w) = rolled();
    w.log.flush().unwrap();
    note(&disk.kill()); // a b c
    let torn = |n: usize| {
        if n.is_multiple_of(2) {
            Fate::Kept
        } else {
            Fate::Torn(90)
        }
    };
    note(&disk.crash(torn, 99)); // d
    let (disk, mut w) = rolled();
    w.sync();
    let first = Path::new("s/log/00000000000000000001.log");
    let end = w.log.segments().next().unwrap().bytes as usize;
    disk.flip_bit(first, end, 1);
    note(&disk.kill()); // e
    // The mark still says 0, so a hole in the first segment is not damage: f.
    disk.flip_bit(first, 500, 1);
    note(&disk.kill());
    let disk = SimDisk::default();
    let mut w = Writer::new(open(&disk).unwrap().0);
    w.group(&[(P, 10), (P, 10)]);
    w.log.flush().unwrap();
    note(&disk.crash(|n| if n == 1 { Fate::Lost } else { Fate::Kept }, 99)); // h, see below
    // Durable for certain, and gone: g.
    let (disk, mut w) = rolled();
    w.sync();
    drop(w);
    drop(open(&disk).unwrap());
    disk.flip_bit(first, 500, 1);
    note(&disk.kill());
    for row in "0abcdefgh".chars() {
        assert!(
            reached.contains(row),
            "row {row} was not reached: {reached}"
        );
    }
}

#[test]
fn damage_below_the_mark_is_reported_with_its_place_and_changes_nothing() {
    let (disk, mut w) = rolled();
    w.sync();
    drop(w);
    drop(open(&disk).unwrap());
    let first = Path::new("s/log/00000000000000000001.log");
    disk.flip_bit(first, 1200, 1);
    let before = disk.bytes_of(first);
    let Err(crate::Error::Damaged {
        first_lsn: lsn,
        position,
        ..
    }) = open(&disk).map(|_| ())
    else {
        panic!("damage was not noticed")
    };
    assert_eq!((lsn, position > 1000 && position < 1200), (Lsn(2), true));
    assert_eq!(disk.bytes_of(first), before);
}

#[test]
fn bytes_of_an_older_life_do_not_come_back() {
    let disk = SimDisk::default();
    let mut w = Writer::new(open(&disk).unwrap().0);
    w.group(&[(P, 100)]);
    w.sync();
    w.group(&[(P, 100)]);
    w.group(&[(P, 100)]);
    w.log.flush().unwrap();
    let writes = disk.unsynced().0;
    // The write in the middle is lost, the one behind it survives.
    let cut = disk.crash(
        |n| {
            if n == writes - 2 {
                Fate::Lost
            } else {
                Fate::Kept
            }
        },
        99,
    );
    let (log, _, seen) = open(&cut).unwrap();
    assert_eq!(seen.len(), 1);
    let mut w = Writer::new(log);
    w.next.insert(P, 1);
    w.group(&[(P, 100)]);
    w.sync();
    assert_eq!(
        open(&cut).unwrap().2.len(),
        2,
        "the third batch of the first life stays dead"
    );
}

#[test]
fn a_full_disk_refuses_and_resumes() {
    let disk = SimDisk::default();
    let mut w = Writer::new(open(&disk).unwrap().0);
    disk.set_capacity(Some(4096 + 8192));
    w.group(&[(P, 3900)]);
    let full = w.log.make_room(3900).unwrap_err();
    assert!(matches!(full, crate::Error::DiskFull { .. }), "{full}");
    w.sync();
    let limits = ReadLimits {
        max_bytes: 9999,
        upto: Lsn(9),
    };
    assert!(!w.log.read(P, Offset(0), limits).is_empty(), "reads go on");
    disk.set_capacity(None);
    w.group(&[(P, 3900)]);
    w.sync();
    assert_eq!(open(&disk).unwrap().2.len(), 2);
}

#[test]
fn a_start_takes_sealed_segments_below_the_mark_from_their_index() {
    let (disk, mut w) = rolled();
    w.sync();
    drop(w);
    drop(open(&disk).unwrap());
    let (log, _, recovered) = ShardLog::open(
        Arc::new(disk),
        Path::new("s"),
        CONFIG,
        Lsn(5),
        &mut |_, _| panic!("everything is applied"),
    )
    .unwrap();
    assert!(
        recovered.scanned_bytes < 3000,
        "only the tail is read: {recovered:?}"
    );
    let found = log.read(
        P,
        Offset(0),
        ReadLimits {
            max_bytes: 1 << 20,
            upto: Lsn(5),
        },
    );
    assert_eq!(found.next_offset, Offset(5));
    for slice in &found.slices {
        batch::verify(slice).unwrap();
    }
}

#[test]
fn released_segments_leave_a_log_that_still_opens() {
    let (disk, mut w) = rolled();
    w.sync();
    let paths = w.log.release(Lsn(3));
    assert_eq!(paths.len(), 2);
    for path in &paths {
        crate::disk::remove_if_there(&disk, path).unwrap();
    }
    assert_eq!(w.log.first_lsn(), Lsn(4));
    assert_eq!(w.log.hot_start(P), Some(Offset(3)));
    let opened = ShardLog::open(
        Arc::new(disk.clone()),
        Path::new("s"),
        CONFIG,
        Lsn(3),
        &mut |_, _| {},
    );
    assert_eq!(opened.unwrap().0.next_lsn(), Lsn(6));
    let err = open(&disk).map(|_| ()).unwrap_err();
    assert!(
        matches!(
            err,
            crate::Error::Damaged {
                first_lsn: Lsn(1),
                ..
            }
        ),
        "{err}"
    );
}
