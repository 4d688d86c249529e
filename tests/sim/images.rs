//! Crash images: a small story is cut at every operation of the disk, every picture that the disk can
//! then show is recovered, and recovery itself is cut at every operation.

mod plain;
mod story;

use crate::check::{Dump, Part};
use crate::rng::Rng;
use flowstone_storage::SimDisk;
use flowstone_storage::sim_disk::Fate;
use plain::Plain;
use std::collections::BTreeSet;
use story::{GROUP, Reference, reference, tell, world};

/// Up to so many unsynced writes every subset is tried, above it a few; in an ordinary run and in one
/// with `FLOWSTONE_SEEDS`.
const ALL_SUBSETS_OF: usize = 4;
const ALL_SUBSETS_OF_LONG_RUN: usize = 10;
const SOME_SUBSETS: u64 = 6;

/// A picture of the disk after a power cut.
struct Image {
    disk: SimDisk,
    name: String,
}

/// Every picture, or some of them, that the disk can show after a power cut now.
fn images(disk: &SimDisk, rng: &mut Rng) -> Vec<Image> {
    let (writes, names) = disk.unsynced();
    let is_long = crate::env("FLOWSTONE_SEEDS").is_some();
    let all_subsets_of = if is_long {
        ALL_SUBSETS_OF_LONG_RUN
    } else {
        ALL_SUBSETS_OF
    };
    let mut all = Vec::new();
    for names_kept in 0..=names {
        if writes <= all_subsets_of {
            for subset in 0..1u32 << writes {
                let fate = |n: usize| {
                    if subset >> n & 1 == 1 {
                        Fate::Kept
                    } else {
                        Fate::Lost
                    }
                };
                let name = format!("writes {subset:b} of {writes}, names {names_kept} of {names}");
                all.push(Image {
                    disk: disk.crash(fate, names_kept),
                    name,
                });
            }
            // The last write may be torn in itself.
            let fate = |n: usize| {
                if n + 1 == writes {
                    Fate::Torn(100)
                } else {
                    Fate::Kept
                }
            };
            let name = format!("the last of {writes} writes torn, names {names_kept} of {names}");
            all.push(Image {
                disk: disk.crash(fate, names_kept),
                name,
            });
            continue;
        }
        for number in 0..SOME_SUBSETS {
            let seed = rng.next();
            let mut chance = Rng::new(seed);
            let fate = |_| match chance.below(5) {
                0 | 1 => Fate::Lost,
                2 => Fate::Torn(chance.below(3000) as usize),
                _ => Fate::Kept,
            };
            let name = format!("subset {number} ({seed}) of {writes} writes, names {names_kept}");
            all.push(Image {
                disk: disk.crash(fate, names_kept),
                name,
            });
        }
    }
    all
}

/// What recovery made of an image.
struct Found {
    written: u64,
    dump: Dump,
    position: Option<u64>,
    rows: String,
    operations: u64,
}

fn recover(disk: &SimDisk) -> Result<(Plain, Found), String> {
    let before = disk.operations();
    let (mut plain, rows) = Plain::start(disk, world())?;
    let operations = disk.operations() - before;
    let found = Found {
        written: plain.written(),
        dump: plain.dump(),
        position: plain.position(GROUP, story::BULK),
        rows,
        operations,
    };
    Ok((plain, found))
}

/// What was recovered is the story up to the end of one of its groups, and has all that was durable.
fn check_prefix(found: &Found, durable: u64, wanted: &Reference) -> Result<(), String> {
    if found.written < durable {
        return Err(format!(
            "the log ends at {}, durable was {durable}",
            found.written
        ));
    }
    if !wanted.ends_group(found.written) {
        return Err(format!("the log ends at {}, inside a group", found.written));
    }
    for (partition, part) in &found.dump {
        let all = wanted.records(*partition, found.written);
        let kept = all.get(part.start as usize..).unwrap_or_default();
        let is: Vec<_> = part.records.iter().map(|(_, r)| r).collect();
        if kept.iter().collect::<Vec<_>>() != is || !dense(part) {
            return Err(format!(
                "{partition} at {} is {is:?}, should be {kept:?}",
                found.written
            ));
        }
    }
    let position = wanted.position(found.written);
    if found.position != position {
        return Err(format!(
            "the group is at {:?}, should be {position:?}",
            found.position
        ));
    }
    Ok(())
}

fn dense(part: &Part) -> bool {
    part.records
        .iter()
        .map(|(o, _)| *o)
        .eq(part.start..part.end)
}

/// The same image, recovered by starts that are cut at every operation first.
fn check_cut_recovery(image: &Image, whole: &Found) -> Result<(), String> {
    for stop in 0..whole.operations {
        for lose in [true, false] {
            let disk = image.disk.kill();
            disk.stop_after(stop);
            if Plain::start(&disk, world()).is_ok() {
                return Err(format!("a start did without operation {stop}"));
            }
            let cut = match lose {
                true => disk.crash(|_| Fate::Lost, 0),
                false => disk.kill(),
            };
            let (_, again) = recover(&cut).map_err(|e| format!("cut at {stop}: {e}"))?;
            let same = again.dump == whole.dump
                && again.written == whole.written
                && again.position == whole.position;
            if !same {
                return Err(format!(
                    "cut at {stop}, lost {lose}: another state is recovered"
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn every_image_of_every_cut_is_a_prefix_of_complete_groups() {
    let (wanted, operations) = reference();
    let (mut rng, mut rows, mut images_seen) = (Rng::new(7), BTreeSet::new(), 0);
    for stop in 0..operations {
        let disk = SimDisk::default();
        disk.stop_after(stop);
        let durable = tell(&disk).1.map_or(0, |plain| plain.durable());
        for image in images(&disk, &mut rng) {
            let place = format!("cut at {stop}, {}", image.name);
            images_seen += 1;
            let (mut plain, found) =
                recover(&image.disk).unwrap_or_else(|e| panic!("{place}: {e}"));
            check_prefix(&found, durable, &wanted).unwrap_or_else(|e| panic!("{place}: {e}"));
            rows.extend(found.rows.chars());
            if images_seen % 5 == 0 {
                plain.run_tasks();
                let end = plain.dump();
                crate::check::check_counts_of(&world(), &end)
                    .unwrap_or_else(|e| panic!("{place}: {e}"));
            }
        }
    }
    assert!(images_seen > 1000, "only {images_seen} images were seen");
    // The rest of the table is damage and leftovers, which storage's own tests draw by hand.
    let reached: String = rows.into_iter().collect();
    assert!(
        "0abcdfh".chars().all(|row| reached.contains(row)),
        "reached rows {reached}"
    );
}

#[test]
fn a_recovery_that_is_cut_anywhere_is_recovered() {
    let (_, operations) = reference();
    let mut rng = Rng::new(11);
    for stop in (0..operations).step_by(9) {
        let disk = SimDisk::default();
        disk.stop_after(stop);
        drop(tell(&disk));
        let all = images(&disk, &mut rng);
        let image = rng.pick(&all);
        let place = format!("cut at {stop}, {}", image.name);
        let (_, whole) = recover(&image.disk.kill()).unwrap_or_else(|e| panic!("{place}: {e}"));
        check_cut_recovery(image, &whole).unwrap_or_else(|e| panic!("{place}: {e}"));
    }
}
