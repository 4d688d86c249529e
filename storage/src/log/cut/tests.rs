//! A cut log against the one it was, copies against their originals, and crashes in between.

use super::super::{CheckedCopy, CopyError};
use super::*;
use crate::sim_disk::{Fate, SimDisk};
use bytes::Bytes;
use flowstone_wire::batch::FLAG_GROUP_CONTINUES;
use flowstone_wire::{BatchBuilder, BatchHeader, Codec, Epoch, Offset, PartitionId};
use proptest::prelude::*;
use std::path::Path;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 4096,
    min_free_bytes: 0,
};
const P: PartitionId = PartitionId(2000);

type Seen = Vec<(Lsn, Vec<u8>)>;

fn open(disk: &SimDisk) -> (ShardLog, Mark, Seen) {
    let mut seen = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut visit = |h: &BatchHeader, b: &Bytes| seen.push((h.lsn, b.to_vec()));
    let opened = ShardLog::open(disk, Path::new("s"), CONFIG, Lsn(0), &mut visit);
    let (log, mark, _) = opened.expect("nothing durable is missing");
    (log, mark, seen)
}

fn sync(log: &mut ShardLog) {
    log.flush().unwrap();
    if let Some(job) = log.sync_job() {
        job.run().unwrap();
        log.synced(job.upto);
    }
}

/// Appends groups of batches with values of these sizes; returns the last LSN of each group.
fn fill(log: &mut ShardLog, epoch: u32, groups: &[Vec<usize>]) -> Vec<Lsn> {
    log.set_epoch(Epoch(epoch));
    let mut ends = Vec::new();
    for group in groups {
        let last = group.len() - 1;
        let batches: Vec<_> = (group.iter().enumerate())
            .map(|(i, n)| {
                let mut b = BatchBuilder::new(Codec::None);
                assert!(b.push(1000, None, Some(&vec![epoch as u8; *n]), &[]));
                let mut b = b.finish();
                if i < last {
                    b.set_flags(FLAG_GROUP_CONTINUES);
                }
                b
            })
            .collect();
        let bytes = batches.iter().map(|b| u64::from(b.header().size)).sum();
        log.make_room(bytes).unwrap();
        for b in batches {
            let offset = Offset(log.next_lsn().0 - 1);
            log.append(b, P, offset);
        }
        ends.push(Lsn(log.next_lsn().0 - 1));
    }
    sync(log);
    ends
}

fn cut(log: &mut ShardLog, mark: &mut Mark, last: Lsn) {
    let job = log.cut_job(last).unwrap();
    let done = job.run(mark).unwrap();
    log.cut_done(done).unwrap();
}

fn bytes_of(log: &mut ShardLog, first: u64, last: Lsn) -> Vec<u8> {
    if last.0 < first {
        return Vec::new();
    }
    log.slices(Lsn(first), last).unwrap().concat()
}

fn some_groups() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let group = proptest::collection::vec(1_usize..900, 1..4);
    proptest::collection::vec(group, 1..12)
}

fn fates() -> [fn(usize) -> Fate; 3] {
    [
        |_| Fate::Lost,
        |_| Fate::Kept,
        |n| if n % 2 == 0 { Fate::Lost } else { Fate::Kept },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_log_ends_there_goes_on_and_stays_cut(
        groups in some_groups(), gone in some_groups(), more in some_groups(), empty in any::<bool>(),
    ) {
        let disk = SimDisk::default();
        let (mut log, mut mark, _) = open(&disk);
        let ends = if empty { vec![Lsn(0)] } else { fill(&mut log, 3, &groups) };
        let last = *ends.last().unwrap();
        let before = bytes_of(&mut log, 1, last);
        let went = fill(&mut log, 5, &gone);
        let held = log.slices(Lsn(1), *went.last().unwrap()).unwrap().concat();
        cut(&mut log, &mut mark, last);
        prop_assert_eq!((log.written(), log.durable()), (last, last));
        prop_assert_eq!(bytes_of(&mut log, 1, last), &before[..]);
        // It stays so, whatever the power does.
        for fate in fates() {
            let (_, _, seen) = open(&disk.crash(fate, 0));
            prop_assert_eq!(seen.iter().map(|(_, b)| &b[..]).collect::<Vec<_>>().concat(), before.clone());
        }
        // What is appended now, of an epoch below that of what went, is found and nothing else.
        fill(&mut log, 4, &more);
        let (_, _, seen) = open(&disk.crash(|_| Fate::Kept, 99));
        prop_assert!(seen.len() as u64 == log.written().0 && held.starts_with(&before));
        let read = log.read(P, Offset(0), crate::log::ReadLimits { max_bytes: 1 << 20, upto: log.written() });
        let all: Vec<u8> = seen.into_iter().flat_map(|(_, b)| b).collect();
        prop_assert_eq!(read.slices.concat(), all);
    }

    #[test]
    fn a_crash_in_a_cut_leaves_a_log_that_begins_like_the_old_one(
        groups in some_groups(), at in any::<prop::sample::Index>(), stop in 0_u64..24, names in 0_usize..6,
    ) {
        let disk = SimDisk::default();
        let (mut log, mut mark, _) = open(&disk);
        let mut ends = vec![Lsn(0)];
        ends.extend(fill(&mut log, 5, &groups));
        let last = *at.get(&ends);
        mark.advance(log.durable(), false).unwrap();
        let (_, _, all) = open(&disk.kill());
        let job = log.cut_job(last).unwrap();
        disk.stop_after(stop);
        let _ = job.run(&mut mark);
        for fate in fates() {
            let (_, _, seen) = open(&disk.crash(fate, names));
            let n = seen.len();
            prop_assert!(n as u64 >= last.0, "{n} of {}, cut at {last}", all.len());
            prop_assert_eq!(&seen[..], &all[..n]);
        }
    }

    #[test]
    fn a_copy_is_the_same_whatever_the_pieces(
        groups in some_groups(), pieces in proptest::collection::vec(1_usize..4, 1..12),
    ) {
        let (disk, other) = (SimDisk::default(), SimDisk::default());
        let (mut log, _, _) = open(&disk);
        let ends = fill(&mut log, 5, &groups);
        let (mut copy, _, _) = open(&other);
        let mut pieces = pieces.into_iter().cycle();
        let (mut at, mut next) = (0, Lsn(1));
        while at < ends.len() {
            at = (at + pieces.next().unwrap()).min(ends.len());
            let last = ends[at - 1];
            let bodies = log.slices(next, last).unwrap();
            let proven = CheckedCopy::prove((Epoch(5), next, last), bodies).unwrap();
            copy.append_copy(proven, next).unwrap();
            next = last.next();
        }
        sync(&mut copy);
        let last = *ends.last().unwrap();
        prop_assert_eq!(bytes_of(&mut copy, 1, last), bytes_of(&mut log, 1, last));
        let (_, _, seen) = open(&other.crash(|_| Fate::Lost, 0));
        prop_assert_eq!(seen, open(&disk).2);
    }
}

#[test]
fn what_is_not_the_next_piece_is_refused_and_changes_nothing() {
    let (mut log, _, _) = open(&SimDisk::default());
    let ends = fill(&mut log, 5, &[vec![10, 10], vec![10], vec![10, 10]]);
    let all = log.slices(Lsn(1), ends[2]).unwrap();
    let prove = |epoch: u32, first: u64, last: u64, bodies: &[Bytes]| {
        let range = (Epoch(epoch), Lsn(first), Lsn(last));
        CheckedCopy::prove(range, bodies.to_vec())
    };
    let bad = |epoch: u32, first: u64, last: u64, bodies: &[Bytes]| {
        let refused = prove(epoch, first, last, bodies);
        assert!(
            matches!(refused, Err(CopyError::NotThat { .. })),
            "{refused:?}"
        );
    };
    bad(6, 1, 5, &all);
    bad(5, 2, 5, &all);
    bad(5, 3, 5, &all);
    bad(5, 1, 4, &log.slices(Lsn(1), Lsn(4)).unwrap());
    bad(5, 1, 3, &all);
    bad(5, 1, 5, &[]);
    let mut torn = all.concat();
    torn[100] ^= 1;
    bad(5, 1, 5, &[Bytes::from(torn)]);
    let (mut copy, _, _) = open(&SimDisk::default());
    let late = prove(5, 3, 5, &log.slices(Lsn(3), Lsn(5)).unwrap()).unwrap();
    let whole = prove(5, 1, 5, &all).unwrap();
    // There is a hole before it; it is not all that is missing; it begins later.
    for (piece, from) in [(&late, 3), (&whole, 3), (&late, 1)] {
        let refused = copy.append_copy(piece.clone(), Lsn(from));
        assert!(
            matches!(refused, Err(CopyError::NotThat { .. })),
            "{refused:?}"
        );
        assert_eq!(copy.next_lsn(), Lsn(1));
    }
    // A log that ends in the middle of what is a group there.
    let (mut other, _, _) = open(&SimDisk::default());
    fill(&mut other, 5, &[vec![10]]);
    assert!(other.append_copy(whole.clone(), Lsn(2)).is_err());
    copy.append_copy(whole, Lsn(1)).unwrap();
    // The first groups of a piece may be here already.
    let more = fill(&mut log, 5, &[vec![10, 10]]);
    let overlapping = log.slices(ends[0].next(), more[0]).unwrap();
    let piece = prove(5, ends[0].0 + 1, more[0].0, &overlapping).unwrap();
    copy.append_copy(piece, ends[2].next()).unwrap();
    assert_eq!(copy.next_lsn(), more[0].next());
    assert!(log.slices(Lsn(1), more[0].next()).is_err());
}

#[test]
fn slices_that_were_given_out_stay_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(crate::RealDisk::new(dir.path()).unwrap());
    let opened = ShardLog::open(disk, Path::new("s"), CONFIG, Lsn(0), &mut |_, _| {});
    let (mut log, mut mark, _) = opened.unwrap();
    let ends = fill(&mut log, 5, &[vec![900], vec![900], vec![900]]);
    let held = log.slices(Lsn(1), ends[2]).unwrap();
    let before = held.concat();
    cut(&mut log, &mut mark, ends[0]);
    fill(&mut log, 6, &[vec![700], vec![800]]);
    assert_eq!(held.concat(), before);
}
