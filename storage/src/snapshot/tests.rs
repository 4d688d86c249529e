//! A snapshot against what it is of, and crashes while it is put in its place.

use super::*;
use crate::mark::{MarkState, ReplicaMark};
use crate::settled::{
    SegmentRuns, SettleInput, SettleJob, SettleStep, SettledReader, remove_orphans,
};
use crate::sim_disk::{Fate, SimDisk};
use crate::{LogConfig, ShardLog};
use flowstone_wire::{BatchBuilder, Codec, Epoch, Incarnation, Offset, PartitionId};

const P: PartitionId = PartitionId(2000);
const CONFIG: LogConfig = LogConfig {
    segment_bytes: 4096,
    min_free_bytes: 0,
};

fn dir() -> &'static Path {
    Path::new("s")
}

/// A shard of so many batches of 1000 bytes: what fills segments is settled, all of it is applied.
fn shard(batches: u64, byte: u8) -> SimDisk {
    let disk = SimDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let state = StateStore::open_of_shard(&disk, dir()).unwrap();
    let opened = ShardLog::open(shared.clone(), dir(), CONFIG, Lsn(0), &mut |_, _| {});
    let (mut log, mut mark, _) = opened.unwrap();
    for n in 0..batches {
        let mut b = BatchBuilder::new(Codec::None);
        assert!(b.push(1000, None, Some(&[byte; 1000]), &[]));
        log.make_room(1200).unwrap();
        log.append(b.finish(), P, Offset(n));
    }
    log.flush().unwrap();
    let job = log.sync_job().unwrap();
    job.run().unwrap();
    log.synced(job.upto);
    let sealed: Vec<SegmentRuns> = log
        .sealed()
        .map(|s| (log.runs_of(&s), s))
        .map(|(r, s)| (s, r))
        .collect();
    if !sealed.is_empty() {
        let input = SettleInput {
            segments: sealed,
            keep: [(P, Offset(0))].into(),
            compress: false,
            min_free_bytes: 0,
            hurry: false,
        };
        let mut job = SettleJob::new(shared, dir(), input);
        let (metas, upto) = loop {
            if let SettleStep::Done(metas, upto) = job.step().unwrap() {
                break (metas, upto);
            }
        };
        state.commit_settled(Some(upto), &metas, &[]).unwrap();
    }
    let rows: Vec<_> = (0..batches)
        .map(|n| (n.to_be_bytes().to_vec(), Some(vec![byte; 10])))
        .collect();
    state.apply(log.durable(), &rows).unwrap();
    let promised = ReplicaMark {
        promised: Epoch(3),
        life: Incarnation(u64::from(byte)),
        ..ReplicaMark::default()
    };
    mark.store(MarkState {
        durable: log.durable(),
        replica: promised,
        ..mark.state()
    })
    .unwrap();
    disk
}

fn parts_of(disk: &SimDisk) -> Vec<Part> {
    let state = StateStore::open_of_shard(disk, dir()).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let applied = state.applied().unwrap();
    let opened = ShardLog::open(shared.clone(), dir(), CONFIG, applied, &mut |_, _| {});
    let (mut log, ..) = opened.unwrap();
    let from = state.settled_upto().unwrap().next();
    let tail = log.tail(from, log.durable(), 3000).unwrap();
    let mut out = Outgoing::begin(shared, dir(), &state, tail).unwrap();
    // What is written from now on is none of its business.
    state
        .apply(Lsn(1 << 40), &[(vec![0xff], Some(vec![1]))])
        .unwrap();
    let mut parts = Vec::new();
    while let Some(part) = out.next_part().unwrap() {
        parts.push(part);
    }
    parts
}

fn bring(from: &SimDisk, to: &SimDisk) {
    let mut incoming = Incoming::begin(Arc::new(to.clone()), dir(), CONFIG).unwrap();
    for part in parts_of(&from.kill()) {
        assert!(!incoming.is_whole());
        incoming.take(part).unwrap();
    }
    assert!(incoming.is_whole());
}

/// What a start finds: rows, what settled segments and the log behind them hold, the next LSN and the mark of
/// the replica.
type Found = (Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>, Lsn, ReplicaMark);

fn found(disk: &SimDisk) -> Found {
    finish_install(disk, dir()).unwrap();
    let state = StateStore::open_of_shard(disk, dir()).unwrap();
    remove_orphans(disk, dir(), &state).unwrap();
    let mut rows = Vec::new();
    state
        .load(&mut |k, v| rows.push((k.to_vec(), v.to_vec())))
        .unwrap();
    let mut values = Vec::new();
    for meta in state.settled().unwrap() {
        let reader = SettledReader::open(disk, dir(), meta.id()).unwrap();
        let (slices, _) = reader.read(meta.first_offset, 1 << 20).unwrap();
        values.extend(slices.concat());
    }
    let applied = state.applied().unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = ShardLog::open(shared, dir(), CONFIG, applied, &mut |_, _| {});
    let (mut log, mark, _) = opened.unwrap();
    let first = state.settled_upto().unwrap().next().max(log.first_lsn());
    for piece in log.tail(first, log.durable(), 1 << 20).unwrap() {
        values.extend(piece.bytes);
    }
    (rows, values, log.next_lsn(), mark.state().replica)
}

#[test]
fn a_snapshot_takes_the_place_of_what_was_there_and_the_promise_stays() {
    for (theirs, ours) in [(20, 0), (20, 3), (20, 9), (2, 9)] {
        let (from, to) = (shard(theirs, 7), shard(ours.max(1), 8));
        let before = found(&to.kill());
        bring(&from, &to);
        assert_eq!(found(&to.kill()), before, "nobody has asked for it yet");
        bring(&from, &to);
        install(&to, dir()).unwrap();
        let (rows, values, next, replica) = found(&from);
        for cut in [to.kill(), to.crash(|_| Fate::Lost, 0)] {
            let wanted = (rows.clone(), values.clone(), next, before.3);
            assert_eq!(found(&cut), wanted, "{theirs} and {ours}");
        }
        assert_ne!(replica, before.3);
    }
}

#[test]
fn a_crash_leaves_the_one_or_the_other() {
    let from = shard(12, 7);
    let theirs = found(&from.kill());
    let start = shard(9, 8);
    let ours = found(&start.kill());
    bring(&from, &start);
    let operations = {
        let done = start.kill();
        let before = done.operations();
        install(&done, dir()).unwrap();
        done.operations() - before
    };
    let (mut old, mut new) = (0, 0);
    for stop in 0..=operations {
        for (fate, names) in [(Fate::Lost, 0), (Fate::Kept, 99), (Fate::Lost, 3)] {
            let disk = start.kill();
            disk.stop_after(stop);
            let _ = install(&disk, dir());
            let (rows, values, next, replica) = found(&disk.crash(|_| fate, names));
            assert_eq!(replica, ours.3, "stopped after {stop}");
            let is_old = (&rows, &values, next) == (&ours.0, &ours.1, ours.2);
            let is_new = (&rows, &values, next) == (&theirs.0, &theirs.1, theirs.2);
            assert!(is_old || is_new, "stopped after {stop}: neither");
            (old, new) = (old + usize::from(is_old), new + usize::from(is_new));
        }
    }
    assert!(old > 0 && new > 0, "{old} and {new}");
}

#[test]
fn what_cannot_be_a_snapshot_is_refused() {
    let from = shard(12, 7);
    let mut parts = parts_of(&from);
    let take = |parts: &[Part]| {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let mut incoming = Incoming::begin(disk, dir(), CONFIG).unwrap();
        parts
            .iter()
            .try_for_each(|p| incoming.take(p.clone()))
            .map(|()| incoming.is_whole())
    };
    assert!(take(&parts).unwrap());
    for n in 0..parts.len() {
        let mut without = parts.clone();
        let gone = without.remove(n);
        let whole = take(&without).is_ok_and(|whole| whole);
        let harmless = matches!(gone, Part::State(_) | Part::Tiered(_));
        assert!(!whole || harmless, "without {gone:?}");
    }
    let file = parts
        .iter()
        .position(|p| matches!(p, Part::Bytes(_)))
        .unwrap();
    let Part::Bytes(bytes) = &mut parts[file] else {
        panic!()
    };
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(take(&parts).is_err(), "a footer that is damaged");
}
