//! A bucket that all copies share: objects by name, manifests, and who may write them. The rules are those
//! of `flowstone-tier`, in small.

use super::node::{Done, Live};
use super::world::{Event, World};
use crate::input::{Input, TierFound};
use crate::output::{Output, TierJob};
use flowstone_storage::Disk;
use flowstone_storage::settled::{SegmentId, SettledMeta, SettledReader, Tiered};
use flowstone_storage::{SimDisk, layout};
use flowstone_wire::{Offset, PartitionId, ShardId};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::PathBuf;

/// The claim with which the cluster took the bucket.
const SINCE: u32 = 1;

type Entry = (SettledMeta, Tiered);

#[derive(Default)]
pub(super) struct Bucket {
    objects: SimDisk,
    manifests: BTreeMap<PartitionId, Vec<Entry>>,
    /// Term and epoch of the leader that writes.
    held: (u32, u32),
    pub(super) superseded: usize,
    pub(super) overlaps: usize,
}

fn local(id: SegmentId) -> PathBuf {
    layout::settled_path(&layout::shard_dir(ShardId(0)), id)
}

fn object(id: SegmentId, epoch: u32) -> PathBuf {
    PathBuf::from(format!("{}-{epoch}", local(id).display()))
}

impl Bucket {
    /// The right to write of the leader of this term.
    fn claim(&mut self, term: u32) -> Result<u32, String> {
        let (held, epoch) = self.held;
        if term < held {
            self.superseded += 1;
            return Err(format!("the tier: term {term} is over"));
        }
        if term > held {
            self.held = (term, epoch.max(SINCE) + 1);
        }
        Ok(self.held.1)
    }

    fn upload(&mut self, disk: &SimDisk, meta: &SettledMeta, epoch: u32) -> Result<Tiered, String> {
        let bytes = disk.bytes_of(&local(meta.id()));
        let bytes = bytes.ok_or("the tier: the file is gone")?;
        let name = object(meta.id(), epoch);
        let _ = self.objects.remove(&name);
        let file = self.objects.create(&name, 0).unwrap();
        file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        Ok(Tiered {
            generation: meta.generation,
            epoch,
            bytes: bytes.len() as u64,
            crc32: 0,
            local: true,
        })
    }

    fn add(&mut self, partition: PartitionId, (meta, copy): Entry) -> Result<(), String> {
        let all = self.manifests.entry(partition).or_default();
        let (first, next) = (meta.first_offset, meta.next_offset);
        let holds = |e: &Entry| e.0.first_offset <= first && next <= e.0.next_offset;
        let known = all.iter().any(|(m, t)| *m == meta && t.epoch == copy.epoch);
        let better =
            |e: &&Entry| holds(e) && (e.1.epoch, e.1.generation) >= (copy.epoch, copy.generation);
        if known {
            return Ok(());
        }
        let wider = |e: &&Entry| holds(e) && (e.0.first_offset, e.0.next_offset) != (first, next);
        if all.iter().find(better).or(all.iter().find(wider)).is_some() {
            return Err(format!("the tier: {first} to {next} are there already"));
        }
        let inside = |e: &mut Entry| first <= e.0.first_offset && e.0.next_offset <= next;
        let gone: Vec<Entry> = all.extract_if(.., inside).collect();
        all.push((
            meta,
            Tiered {
                local: false,
                ..copy
            },
        ));
        all.sort_by_key(|(m, _)| m.first_offset);
        assert!(all.is_sorted_by_key(|(m, _)| m.next_offset), "{all:?}");
        self.overlaps += all
            .windows(2)
            .filter(|w| w[1].0.first_offset < w[0].0.next_offset)
            .count();
        gone.iter().for_each(|e| self.remove(e));
        Ok(())
    }

    fn remove(&mut self, (meta, copy): &Entry) {
        self.objects.remove(&object(meta.id(), copy.epoch)).unwrap();
    }

    fn store(&mut self, disk: &SimDisk, job: &TierJob) -> Result<Vec<(SegmentId, Tiered)>, String> {
        let epoch = self.claim(job.term.0)?;
        assert!(!job.replaces);
        let mut copies = Vec::new();
        for meta in &job.upload {
            copies.push((meta.clone(), self.upload(disk, meta, epoch)?));
        }
        for entry in &copies {
            self.add(job.partition, entry.clone())?;
        }
        let all = self.manifests.entry(job.partition).or_default();
        let below: Vec<Entry> = all
            .extract_if(.., |(m, _)| m.next_offset <= job.start)
            .collect();
        below.iter().for_each(|e| self.remove(e));
        Ok(copies.iter().map(|(m, t)| (m.id(), *t)).collect())
    }

    /// Does what a copy asks of the bucket. The copy may be gone by the time it is done.
    pub(super) fn serve(&mut self, disk: &SimDisk, asked: &Output) -> Input {
        match asked {
            Output::Tier(job) => Input::Tiered {
                partition: job.partition,
                start: job.start,
                result: self.store(disk, job),
            },
            Output::LookIntoTier(partition) => Input::FoundInTier {
                partition: *partition,
                result: Ok(TierFound {
                    since: SINCE,
                    start: Offset(0),
                    entries: self.manifests.get(partition).cloned().unwrap_or_default(),
                }),
            },
            other => unreachable!("{other:?}"),
        }
    }

    pub(super) fn open(&self, id: SegmentId, epoch: u32) -> Result<SettledReader, String> {
        let name = object(id, epoch);
        let file = self.objects.open(&name).map_err(|e| e.to_string())?;
        SettledReader::over(file, &name, id).map_err(|e| e.to_string())
    }

    /// What the bucket has of a partition has no holes, and each object is there.
    pub(super) fn check(&self) -> usize {
        for (partition, all) in &self.manifests {
            for (meta, copy) in all {
                let reader = self.open(meta.id(), copy.epoch).unwrap();
                reader.verify().unwrap();
                assert_eq!(reader.meta().next_offset, meta.next_offset);
            }
            let hole = all
                .windows(2)
                .find(|w| w[0].0.next_offset < w[1].0.first_offset);
            assert!(hole.is_none(), "{partition}: {hole:?}");
        }
        let named: usize = self.manifests.values().map(Vec::len).sum();
        assert!(named <= self.objects.paths().len());
        named
    }
}

impl Live {
    /// Notes what a job has copied.
    pub(super) fn note(&self, done: &Input) {
        if let Input::Tiered {
            result: Ok(copies), ..
        } = done
        {
            self.state.commit_tiered(copies).unwrap();
        }
    }

    /// Changes rows and files for what the bucket has.
    pub(super) fn let_go(&self, disk: &SimDisk, work: Output) -> Done {
        let gone: Vec<SegmentId> = match work {
            Output::Adopt { dropped, put } => {
                self.state.commit_adopted(&dropped, &put).unwrap();
                dropped
            }
            Output::ForgetLocal(notes) => {
                self.state.commit_tiered(&notes).unwrap();
                notes.iter().map(|(id, _)| *id).collect()
            }
            Output::DropSettled(dropped) => {
                self.state.commit_settled(None, &[], &dropped).unwrap();
                dropped
            }
            other => unreachable!("{other:?}"),
        };
        gone.iter().for_each(|id| drop(disk.remove(&local(*id))));
        Done::Nothing
    }
}

impl World {
    pub(super) fn ask_bucket(&mut self, node: usize, asked: Output) {
        let slow = self.rng.percent(20);
        let after_us = self
            .rng
            .between(1_000, if slow { 3_000_000 } else { 50_000 });
        let boot = self.nodes[node].boot;
        self.at(after_us, Event::Bucket { node, boot, asked });
    }

    /// The bucket does what it was asked, also for a shard that has been opened again since.
    pub(super) fn serve(&mut self, n: usize, boot: u64, asked: Output) {
        let node = &self.nodes[n];
        let Some(live) = node
            .live
            .as_ref()
            .filter(|_| node.boot == boot || !self.rng.percent(50))
        else {
            return;
        };
        let done = self.bucket.serve(&node.disk, &asked);
        live.note(&done);
        if boot == node.boot {
            self.input(n, done);
        }
    }
}

/// Rare things that this work shows.
pub(super) fn rare(work: &Output) -> Vec<&'static str> {
    let mut all = Vec::new();
    match work {
        Output::ForgetLocal(_) => all.push("a local file went"),
        Output::Adopt { dropped, put } => {
            if !dropped.is_empty() {
                all.push("a local file went for others");
            }
            if put.iter().any(|(_, t)| t.is_some_and(|t| !t.local)) {
                all.push("what another leader has uploaded was taken over");
            }
        }
        Output::ReadSettled { segment, .. } if segment.remote.is_some() => {
            all.push("something was read from the bucket");
        }
        Output::ReadState { .. } => all.push("state was read back"),
        _ => {}
    }
    all
}
