//! A log segment through recovery: it opens with all that was durable, or says what is damaged.

use super::batch;
use super::disk::{CONFIG, SHARD, put};
use flowstone_storage::log::{ReadLimits, RecoveryNote};
use flowstone_storage::mark::{Mark, MarkState};
use flowstone_storage::{Error, ShardLog, SimDisk, inspect, layout};
use flowstone_wire::{BatchHeader, Epoch, Lsn, Offset, PartitionId, batch as batches};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the second segment, where there is one.
const SECOND_BYTES: usize = 256;

/// Two bytes say how far the log was durable and applied, the rest is one segment, or two.
pub(super) fn log(data: &[u8]) {
    let Some((&[durable, applied], bytes)) = data.split_first_chunk() else {
        return;
    };
    let split = match durable & 0x80 {
        0 => bytes.len(),
        _ => bytes.len().saturating_sub(SECOND_BYTES),
    };
    let (durable, applied) = (Lsn(u64::from(durable & 7)), Lsn(u64::from(applied & 7)));
    let mut bytes = bytes.to_vec();
    for repaired in [false, true] {
        if repaired {
            repair_all(&mut bytes);
        }
        let (first, mut second) = bytes.split_at(split);
        let (count, open) = count(first);
        if open {
            // A group never straddles segments: no run of a shard leaves such a picture.
            second = &[];
        }
        let next = count + 1;
        let whole = |lsn| is_whole(first, lsn) && is_whole(second, lsn);
        if !(whole(durable) && whole(applied)) {
            continue;
        }
        recover(
            &disk(durable, &[(Lsn(1), first), (Lsn(next), second)]),
            durable,
            applied,
        );
    }
}

/// Makes what looks like batches verify.
fn repair_all(bytes: &mut [u8]) {
    let mut at = 0;
    while let Ok(header) = BatchHeader::decode(&bytes[at..]) {
        let end = at + header.size as usize;
        if let Some(one) = bytes.get_mut(at..end)
            && batches::verify(one).is_err()
            // No run of leaders gets to the end of the epochs, and the next one is counted from here.
            && header.epoch.0 < u32::MAX
        {
            batch::repair(one);
        }
        at = end.min(bytes.len());
    }
}

/// Batches that verify, from the start on, and whether the last of them leaves a group open.
fn count(bytes: &[u8]) -> (u64, bool) {
    let (mut at, mut count, mut open) = (0, 0, false);
    while let Ok(header) = batches::verify(&bytes[at..]) {
        at += header.size as usize;
        count += 1;
        open = header.group_continues();
    }
    (count, open)
}

/// Whether a group does not go on behind this LSN: marks and pictures of the state never stand within
/// one, which is written and synced as a whole.
fn is_whole(bytes: &[u8], lsn: Lsn) -> bool {
    // Anywhere: behind damage recovery goes on with the next batch that it can find.
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&batches::MAGIC));
    let mut headers = starts.filter_map(|at| batches::verify(&bytes[at..]).ok());
    headers.all(|h| h.lsn != lsn || !h.group_continues())
}

fn disk(durable: Lsn, segments: &[(Lsn, &[u8])]) -> SimDisk {
    let disk = SimDisk::default();
    let dir = Path::new(SHARD);
    for (first, bytes) in segments {
        if *first == Lsn(1) || !bytes.is_empty() {
            put(
                &disk,
                &layout::log_dir(dir).join(layout::segment_name(*first)),
                bytes,
            );
        }
    }
    let (mut mark, _) = Mark::open(&disk, &layout::mark(dir)).expect("the disk works");
    let state = MarkState {
        durable,
        epoch: Epoch(1),
        starts: 1,
        clean: false,
        ..MarkState::default()
    };
    mark.store(state).expect("the disk works");
    disk
}

fn recover(disk: &SimDisk, durable: Lsn, applied: Lsn) {
    let dir = Path::new(SHARD);
    let report = inspect::shard(disk, dir, true).expect("damage is no error");
    let _ = report.damage();
    let mut seen = applied;
    let mut visit = |header: &BatchHeader, bytes: &bytes::Bytes| {
        assert_eq!(
            header.lsn,
            seen.next(),
            "visited without a gap, from what is applied on"
        );
        assert_eq!(batches::verify(bytes).as_ref(), Ok(header));
        seen = header.lsn;
    };
    let shared = || Arc::new(disk.clone());
    let before = files(disk);
    let opened = ShardLog::open(shared(), dir, CONFIG, applied, &mut visit);
    let log = match opened {
        Ok((log, ..)) => log,
        Err(e) => {
            assert!(matches!(e, Error::Damaged { .. }), "{e}");
            return assert!(files(disk) == before, "what is damaged was changed");
        }
    };
    assert!(
        log.next_lsn() > durable.max(applied),
        "what was durable is there"
    );
    assert_eq!(seen.max(applied).next(), log.next_lsn());
    read_all(&log);
    let next = log.next_lsn();
    drop(log);
    let again = ShardLog::open(shared(), dir, CONFIG, next_applied(next), &mut |_, _| {});
    let (log, _, recovered) = again.expect("what was recovered opens");
    assert_eq!(log.next_lsn(), next);
    let cut =
        |n: &RecoveryNote| matches!(n, RecoveryNote::Cut { .. } | RecoveryNote::Dropped { .. });
    assert!(!recovered.notes.iter().any(cut), "{:?}", recovered.notes);
}

/// All files but the copies that are kept of what is damaged.
fn files(disk: &SimDisk) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let copies = layout::damaged_dir(Path::new(SHARD));
    let mut paths = disk.paths();
    paths.retain(|path| !path.starts_with(&copies));
    let read = |path: PathBuf| (path.clone(), disk.bytes_of(&path));
    paths.into_iter().map(read).collect()
}

fn next_applied(next: Lsn) -> Lsn {
    Lsn(next.0 - 1)
}

/// Everything that the log gives a reader is a batch that verifies.
fn read_all(log: &ShardLog) {
    let limits = ReadLimits {
        max_bytes: 1 << 20,
        upto: log.written(),
    };
    for partition in [0, 1024, 1025].map(PartitionId) {
        let found = log.read(partition, Offset(0), limits);
        for slice in &found.slices {
            let mut at = 0;
            while at < slice.len() {
                let header = batches::verify(&slice[at..]).expect("it was recovered");
                assert_eq!(header.partition, partition);
                at += header.size as usize;
            }
        }
        let _ = log.find_time(partition, 1_700_000_000_000, log.written());
    }
}
