//! Settled segments give back exactly what the log had, and notice every damage.

mod rewrite;

use super::*;
use crate::log::{LogConfig, ShardLog};
use crate::sim_disk::SimDisk;
use crate::state::StateStore;
use bytes::Bytes;
use flowstone_wire::{BatchBuilder, Codec, batch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 8192,
    min_free_bytes: 0,
};
const P: PartitionId = PartitionId(1024);
const Q: PartitionId = PartitionId(1025);

fn filled(disk: &SimDisk, sizes: &[(bool, usize)]) -> (ShardLog, BTreeMap<PartitionId, Vec<u8>>) {
    let open = ShardLog::open(
        Arc::new(disk.clone()),
        Path::new("s"),
        CONFIG,
        Lsn(0),
        &mut |_, _| {},
    );
    let mut log = open.unwrap().0;
    let mut all: BTreeMap<PartitionId, Vec<u8>> = BTreeMap::new();
    let mut next = [0u64; 2];
    for (which, size) in sizes {
        let p = if *which { P } else { Q };
        let mut b = BatchBuilder::new(Codec::None);
        assert!(b.push(
            next[usize::from(*which)] as i64,
            None,
            Some(&vec![7; *size]),
            &[]
        ));
        assert!(b.push(next[usize::from(*which)] as i64 + 1, None, Some(b"x"), &[]));
        let b = b.finish();
        log.make_room(u64::from(b.header().size)).unwrap();
        let a = log.append(b, p, Offset(next[usize::from(*which)]));
        next[usize::from(*which)] += 2;
        all.entry(p).or_default().extend_from_slice(&a.bytes);
    }
    log.flush().unwrap();
    let job = log.sync_job().unwrap();
    job.run().unwrap();
    log.synced(job.upto);
    (log, all)
}

fn settle(
    disk: &SimDisk,
    log: &ShardLog,
    keep: BTreeMap<PartitionId, Offset>,
) -> (Vec<SettledMeta>, Lsn) {
    let mut segments: Vec<_> = log.segments().collect();
    segments.pop();
    let segments = segments
        .into_iter()
        .map(|s| {
            let r = log.runs_of(&s);
            (s, r)
        })
        .collect();
    let input = SettleInput {
        segments,
        keep,
        compress: true,
        min_free_bytes: 0,
        hurry: false,
    };
    let mut job = SettleJob::new(Arc::new(disk.clone()), Path::new("s"), input);
    loop {
        if let SettleStep::Done(metas, upto) = job.step().unwrap() {
            return (metas, upto);
        }
    }
}

fn read_all(reader: &SettledReader, from: Offset, max: usize) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), from);
    loop {
        let (slices, next) = reader.read(at, max).unwrap();
        if slices.is_empty() {
            return out;
        }
        for s in slices {
            out.extend_from_slice(&s);
        }
        at = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn settled_bytes_are_the_log_bytes(
        sizes in proptest::collection::vec((any::<bool>(), 1usize..3000), 10..60), max in 1usize..100_000,
    ) {
        let disk = SimDisk::default();
        let (log, all) = filled(&disk, &sizes);
        let keep = BTreeMap::from([(P, Offset(0)), (Q, Offset(0))]);
        let (metas, upto) = settle(&disk, &log, keep);
        prop_assert!(log.first_lsn() == log.segments().last().unwrap().first_lsn || upto > Lsn(0));
        for meta in metas {
            let reader = SettledReader::open(&disk, Path::new("s"), meta.id()).unwrap();
            reader.verify().unwrap();
            prop_assert_eq!(reader.meta(), &meta);
            let got = read_all(&reader, Offset(0), max);
            prop_assert_eq!(&got[..], &all[&meta.partition][..got.len()]);
            prop_assert_eq!(batch_count(&got) * 2, meta.records as usize);
            let ts = meta.max_timestamp;
            prop_assert_eq!(reader.find_time(ts).unwrap(), Some(Offset(meta.next_offset.0 - 1)));
            prop_assert_eq!(reader.find_time(ts + 1).unwrap(), None);
        }
    }
}

fn batch_count(mut bytes: &[u8]) -> usize {
    let mut n = 0;
    while !bytes.is_empty() {
        bytes = &bytes[batch::verify(bytes).unwrap().size as usize..];
        n += 1;
    }
    n
}

fn one_segment() -> (SimDisk, SettledMeta, Vec<u8>) {
    let disk = SimDisk::default();
    let (log, all) = filled(&disk, &[(true, 2500); 5]);
    let (metas, _) = settle(&disk, &log, BTreeMap::from([(P, Offset(0))]));
    (disk, metas[0].clone(), all[&P].clone())
}

#[test]
fn unwanted_partitions_and_offsets_are_left_out() {
    let disk = SimDisk::default();
    let (log, _) = filled(
        &disk,
        &[(true, 2500), (false, 2500), (true, 2500), (true, 2500)],
    );
    let (metas, _) = settle(&disk, &log, BTreeMap::from([(P, Offset(2))]));
    assert_eq!(metas.len(), 1, "{metas:?}");
    assert_eq!((metas[0].partition, metas[0].first_offset), (P, Offset(2)));
}

#[test]
fn a_flipped_bit_is_never_served() {
    let (disk, meta, all) = one_segment();
    let path = Path::new("s/settled/0000001024/00000000000000000000.seg");
    let len = disk.bytes_of(path).unwrap().len();
    for at in 0..len {
        disk.flip_bit(path, at, 2);
        let served = SettledReader::open(&disk, Path::new("s"), meta.id())
            .and_then(|r| r.read(Offset(0), 1 << 20));
        if let Ok((slices, _)) = served {
            let got: Vec<u8> = slices.iter().flat_map(|s: &Bytes| s.to_vec()).collect();
            assert_eq!(got[..], all[..got.len()], "byte {at}");
            panic!("byte {at} is covered by no checksum");
        }
        disk.flip_bit(path, at, 2);
    }
}

#[test]
fn what_the_manifest_does_not_know_is_removed_and_the_rest_stays() {
    let (disk, meta, _) = one_segment();
    let state = StateStore::open(&disk, Path::new("s/state.redb")).unwrap();
    state
        .commit_settled(Some(Lsn(3)), std::slice::from_ref(&meta), &[])
        .unwrap();
    assert!(
        remove_orphans(&disk, Path::new("s"), &state)
            .unwrap()
            .is_empty()
    );
    assert_eq!(state.settled().unwrap(), std::slice::from_ref(&meta));
    assert_eq!(state.settled_upto().unwrap(), Lsn(3));
    state.commit_settled(None, &[], &[meta.id()]).unwrap();
    assert_eq!(
        remove_orphans(&disk, Path::new("s"), &state).unwrap().len(),
        1
    );
    assert_eq!(
        state.settled_upto().unwrap(),
        Lsn(3),
        "removing does not move it"
    );
}
