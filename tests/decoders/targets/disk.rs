//! The small files of a shard: its mark, and the index of a sealed segment.

use super::{dice, flipped};
use flowstone_storage::mark::{Mark, MarkFound, MarkState};
use flowstone_storage::{Disk, LogConfig, ShardLog, SimDisk, layout};
use flowstone_wire::{BatchBuilder, Codec, Epoch, Lsn, Offset, PartitionId};
use std::io::IoSlice;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The shard of every target that has one.
pub(super) const SHARD: &str = "s";
pub(super) const CONFIG: LogConfig = LogConfig {
    segment_bytes: 1024,
    min_free_bytes: 0,
};
const SLOT_AT: [usize; 2] = [0, 4096];

/// Puts a durable file in the place of what may be there.
pub(super) fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let _ = disk.remove(path);
    let file = disk.create(path, 0).expect("there is room");
    file.write_at(0, &[IoSlice::new(bytes)])
        .expect("there is room");
    file.sync().expect("syncs do not fail");
    let dir = path.parent().expect("every file is in a directory");
    disk.sync_dir(dir).expect("syncs do not fail");
}

/// The mark file: as it is, and with checksums that agree.
pub(super) fn mark(data: &[u8]) {
    let mut file = data.to_vec();
    one_mark(&file);
    for at in SLOT_AT {
        if let Some(slot) = file.get_mut(at..at + 64) {
            slot[..4].copy_from_slice(b"FSM1");
            let crc = crc32fast::hash(&slot[8..]);
            slot[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    }
    one_mark(&file);
}

fn open(file: &[u8]) -> (SimDisk, Mark, MarkFound) {
    let disk = SimDisk::default();
    put(&disk, Path::new("s/mark"), file);
    let (mark, found) = Mark::open(&disk, Path::new("s/mark")).expect("the disk works");
    (disk, mark, found)
}

fn one_mark(file: &[u8]) {
    let (disk, mut mark, found) = open(file);
    if !matches!(found, MarkFound::Valid { .. }) {
        assert_eq!(mark.state(), MarkState::default());
    }
    for at in SLOT_AT.into_iter().filter(|at| at + 64 <= file.len()) {
        // A slot with a flipped bit counts as little as one that is not there.
        let mut without = file.to_vec();
        without[at..at + 64].fill(0);
        let bit = 8 * at + dice(file) % (8 * 64);
        let (_, damaged, _) = open(&flipped(file, bit));
        let blank = open(&without).1.state();
        let slot_was_valid = is_valid(&file[at..at + 64]);
        assert!(
            !slot_was_valid || damaged.state() == blank,
            "bit {bit} is not covered"
        );
    }
    let state = MarkState {
        durable: Lsn(mark.state().durable.0 ^ 1),
        epoch: Epoch(7),
        starts: 8,
        clean: true,
        ..mark.state()
    };
    mark.store(state).expect("the disk works");
    let (mark, found) = Mark::open(&disk, Path::new("s/mark")).expect("the disk works");
    assert_eq!(mark.state(), state, "the newest counts: {found:?}");
}

fn is_valid(slot: &[u8]) -> bool {
    slot[..4] == *b"FSM1" && slot[4..8] == crc32fast::hash(&slot[8..]).to_le_bytes()
}

/// A batch of one record of so many bytes.
pub(super) fn one_record(value_bytes: usize) -> flowstone_wire::CheckedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = vec![b'v'; value_bytes];
    assert!(builder.push(1_700_000_000_000, Some(b"key"), Some(&value), &[]));
    builder.finish()
}

/// A shard with two sealed segments and an active one, all durable.
fn sealed() -> &'static SimDisk {
    static DISK: OnceLock<SimDisk> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = SimDisk::default();
        let shared = Arc::new(disk.clone());
        let opened = ShardLog::open(shared, Path::new(SHARD), CONFIG, Lsn(0), &mut |_, _| {});
        let (mut log, mut mark, _) = opened.expect("an empty disk opens");
        for i in 0..9u64 {
            log.make_room(300).expect("there is room");
            let partition = PartitionId(1024 + i as u32 % 2);
            log.append(one_record(200), partition, Offset(i / 2));
        }
        log.flush().expect("the disk works");
        log.sync_job()
            .expect("there is some")
            .run()
            .expect("the disk works");
        let durable = log.written();
        let epoch = log.epoch();
        let state = MarkState {
            durable,
            epoch,
            starts: 1,
            clean: true,
            ..MarkState::default()
        };
        mark.store(state).expect("the disk works");
        disk
    })
}

/// An index file of a sealed segment: as it is, and as the body of one whose checksum agrees.
pub(super) fn index(data: &[u8]) {
    one_index(data);
    let body = data.get(8..).unwrap_or_default();
    let mut repaired = b"FSX1".to_vec();
    repaired.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    repaired.extend_from_slice(body);
    one_index(&repaired);
}

fn one_index(file: &[u8]) {
    let disk = sealed().kill();
    let dir = Path::new(SHARD);
    let path = layout::log_dir(dir).join(layout::index_name(Lsn(1)));
    put(&disk, &path, file);
    // Everything is applied, so that the index is believed where it can be.
    let shared = Arc::new(disk);
    let opened = ShardLog::open(shared, dir, CONFIG, Lsn(9), &mut |_, _| {});
    let (mut log, _, _) = opened.expect("an index is derived: without it the segment is read");
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(1), Lsn(10)));
    let limits = flowstone_storage::log::ReadLimits {
        max_bytes: 500,
        upto: Lsn(9),
    };
    for partition in [0, 1024, 1025, u32::MAX].map(PartitionId) {
        for offset in [0, 1, 3, u64::MAX].map(Offset) {
            let _ = log.read(partition, offset, limits);
        }
        let _ = log.find_time(partition, 1_700_000_000_000, Lsn(9));
        let _ = (log.hot_start(partition), log.hot_runs(partition).count());
    }
    let segments: Vec<_> = log.sealed().collect();
    for segment in &segments {
        let runs = log.runs_of(segment);
        let bytes: u64 = runs
            .iter()
            .flat_map(|(_, r)| r)
            .map(|r| u64::from(r.bytes))
            .sum();
        assert!(
            bytes <= segment.bytes,
            "runs have more bytes than their segment"
        );
    }
    log.make_room(300).expect("there is room");
    log.append(one_record(10), PartitionId(1024), Offset(9));
    log.flush().expect("the disk works");
    assert_eq!(log.release(Lsn(9)).len() % 2, 0);
}
