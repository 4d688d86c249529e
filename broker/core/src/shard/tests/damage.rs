//! Damage of every kind in every kind of file: nothing wrong is served, nothing durable vanishes
//! without a word, and what is not damaged is served.

use super::*;
use flowstone_storage::mark::Mark;
use flowstone_wire::Lsn;
use std::path::Path;

/// What was stored: for A and B each record's LSN and value.
struct Stored {
    disk: SimDisk,
    records: BTreeMap<PartitionId, Vec<(Lsn, String)>>,
    mark: Lsn,
    groups: Answer,
}

const SMALL: ShardConfig = ShardConfig {
    hot_bytes: 4096,
    materialize_bytes: 3000,
    ..CONFIG
};

fn read_group(ticket: Ticket) -> Input {
    Input::ReadOffsets {
        ticket,
        group: "g".into(),
        partitions: vec![],
    }
}

/// A shard with settled segments, sealed segments, and a tail behind what is materialised.
fn stored() -> Stored {
    let mut rig = Rig::new(SMALL);
    let mut records: BTreeMap<PartitionId, Vec<(Lsn, String)>> = BTreeMap::new();
    for n in 0..120u64 {
        let partition = if n % 3 == 0 { B } else { A };
        let value = format!("value {n} {}", "x".repeat(n as usize % 50));
        let lsn = rig.shard.log().next_lsn();
        let batch = plain(&value, 1000 + n as i64);
        let sent = rig.get(|t| send(Some(t), partition, batch, Acks::Durable));
        sent.unwrap();
        records.entry(partition).or_default().push((lsn, value));
        if n == 50 {
            let offsets = vec![GroupOffset {
                partition: A,
                offset: Offset(7),
                note: "n".into(),
            }];
            rig.get(|ticket| Input::CommitOffsets {
                ticket,
                group: "g".into(),
                offsets,
            })
            .unwrap();
        }
    }
    let groups = rig.get(read_group);
    let disk = rig.disk.kill();
    let mark = Mark::open(&disk, &layout::mark(&rig.dir))
        .unwrap()
        .0
        .state()
        .durable;
    let kinds = ["log", "idx", "seg", "redb"];
    for kind in kinds {
        let is = |p: &PathBuf| p.extension().is_some_and(|e| e == kind);
        assert!(
            disk.paths().iter().any(is),
            "there is no .{kind}: {:?}",
            disk.paths()
        );
    }
    Stored {
        disk,
        records,
        mark,
        groups,
    }
}

#[derive(Default, Debug)]
struct Tally {
    refused: usize,
    reported: usize,
    cut: usize,
    served: usize,
}

/// Opens the damaged shard and reads every record by itself.
fn check(stored: &Stored, disk: SimDisk, what: &str, tally: &mut Tally) {
    let open = [A, B, DLQ, LATE].map(|p| (p, PartitionConfig::default()));
    let Ok(mut rig) = Rig::try_open(disk, SMALL, open.into(), None) else {
        tally.refused += 1;
        return;
    };
    assert_eq!(
        rig.get(read_group),
        stored.groups,
        "{what}: group positions"
    );
    for (partition, records) in &stored.records {
        for (offset, (lsn, value)) in (0..).zip(records) {
            let answer = rig.get(|ticket| Input::Fetch {
                ticket,
                partition: *partition,
                offset: Offset(offset),
                max_bytes: 1,
                wait_ms: 0,
            });
            match answer {
                Ok(Reply::Fetched(_, slices)) if !slices.is_empty() => {
                    let all = slices.iter().flat_map(values_of);
                    let found = all.into_iter().find(|(h, _)| h.base_offset.0 == offset);
                    let (_, values) = found.unwrap_or_else(|| {
                        panic!("{what}: offset {offset} of {partition} was passed over")
                    });
                    assert_eq!(&values[0], value, "{what}: offset {offset} of {partition}");
                    tally.served += 1;
                }
                Err(failure) if failure.code == ErrorCode::Damaged => tally.reported += 1,
                other => {
                    assert!(
                        *lsn > stored.mark,
                        "{what}: LSN {lsn} was durable by the mark {}, and: {other:?}",
                        stored.mark
                    );
                    tally.cut += 1;
                }
            }
        }
    }
}

/// Damages every file but those whose name ends with one of `but`, at many places.
fn each_place(stored: &Stored, step: usize, damage: impl Fn(&mut Vec<u8>, usize)) -> Tally {
    let mut tally = Tally::default();
    for path in stored.disk.paths() {
        let bytes = stored.disk.bytes_of(&path).unwrap().len();
        let step = if bytes > 100_000 { 1500 * step } else { step };
        for at in (0..bytes).step_by(step) {
            let disk = stored.disk.kill();
            disk.damage(&path, |bytes| {
                if at < bytes.len() {
                    damage(bytes, at);
                }
            });
            let what = format!("{} at {at}", path.display());
            check(stored, disk, &what, &mut tally);
        }
    }
    tally
}

#[test]
fn a_flipped_bit_is_never_served_and_never_silent() {
    let tally = each_place(&stored(), 29, |bytes, at| bytes[at] ^= 1 << (at % 8));
    assert!(tally.reported > 50, "{tally:?}");
    assert!(
        tally.served > 20 * tally.reported,
        "the rest is served: {tally:?}"
    );
}

#[test]
fn zeroed_ranges_and_cut_files_are_never_silent() {
    let tally = each_place(&stored(), 113, |bytes, at| {
        let end = (at + 512).min(bytes.len());
        bytes[at..end].fill(0);
    });
    assert!(tally.reported > 50, "{tally:?}");
    let tally = each_place(&stored(), 211, |bytes, at| bytes.truncate(at));
    assert!(tally.reported > 50, "{tally:?}");
}

#[test]
fn missing_and_swapped_files_are_never_silent() {
    let stored = stored();
    let paths = stored.disk.paths();
    let mut tally = Tally::default();
    for path in &paths {
        let disk = stored.disk.kill();
        disk.remove(path).unwrap();
        check(
            &stored,
            disk,
            &format!("{} removed", path.display()),
            &mut tally,
        );
        for other in paths.iter().filter(|p| p.extension() == path.extension()) {
            let disk = stored.disk.kill();
            let bytes = stored.disk.bytes_of(other).unwrap();
            disk.damage(path, |b| b.clone_from(&bytes));
            let what = format!("{} is {}", path.display(), other.display());
            check(&stored, disk, &what, &mut tally);
        }
    }
    assert!(tally.reported > 50 && tally.refused > 0, "{tally:?}");
}

#[test]
fn damage_that_costs_more_than_records_needs_consent() {
    let stored = stored();
    let applied = StateStore::open(
        &stored.disk.kill(),
        &layout::state(&layout::shard_dir(ShardId(0))),
    );
    let applied = applied.unwrap().applied().unwrap();
    // The mark says that all is durable; the first batch that the state store has not is damaged.
    let disk = stored.disk.kill();
    let rig = Rig::new(SMALL);
    drop(rig);
    let dir = layout::shard_dir(ShardId(0));
    let (mut mark, _) = Mark::open(&disk, &layout::mark(&dir)).unwrap();
    let last = stored
        .records
        .values()
        .flatten()
        .map(|(lsn, _)| *lsn)
        .max()
        .unwrap();
    assert!(applied < last);
    mark.store(MarkState {
        durable: last,
        ..mark.state()
    })
    .unwrap();
    let log = layout::log_dir(&dir);
    let tail = disk
        .paths()
        .into_iter()
        .rfind(|p| p.starts_with(&log) && is_log(p))
        .unwrap();
    let bytes = disk.bytes_of(&tail).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    disk.damage(&tail, |b| b[end - 3] ^= 1);
    let open = [A, B, DLQ, LATE].map(|p| (p, PartitionConfig::default()));
    let refused = Rig::try_open(disk.kill(), SMALL, open.into(), None);
    let Err(flowstone_storage::Error::Damaged {
        first_lsn,
        last_lsn,
        ..
    }) = refused.map(drop)
    else {
        panic!("it was opened")
    };
    assert_eq!((first_lsn, last_lsn), (last, last));
    let state = StateStore::open_of_shard(&disk, &dir).unwrap();
    let (id, disk_of) = (ShardId(0), Arc::new(disk.clone()));
    let (shard, start) = Shard::salvage(disk_of, &dir, id, SMALL, &state).unwrap();
    assert_eq!(start.recovered.holes.len(), 1);
    assert_eq!(shard.log().next_lsn(), last.next(), "no LSN is given twice");
    let kept = disk
        .paths()
        .into_iter()
        .filter(|p| p.starts_with(layout::damaged_dir(&dir)));
    assert_eq!(kept.count(), 1, "the damaged bytes are kept");
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "log")
}
