//! The story that is cut: several topics, a pipeline, a group, rolls, settling, retention, a deletion.

use super::plain::Plain;
use crate::pipelines;
use crate::record::{New, Rec, batch_of, records_of};
pub(super) use crate::world::BULK;
use crate::world::{COPY, DLQ, EXPIRING, LATE, MIDDLE, SOURCE, World};
use flowstone_core::input::PartitionConfig;
use flowstone_core::{Input, ShardConfig};
use flowstone_storage::log::ReadLimits;
use flowstone_storage::{LogConfig, SimDisk};
use flowstone_wire::native::{Acks, GroupOffset};
use flowstone_wire::{BatchHeader, Offset, PartitionId, ShardId};
use std::collections::BTreeMap;

pub(super) const GROUP: &str = "readers";
const ROUNDS: u64 = 10;

/// Topics and settings of the story.
pub(super) fn world() -> World {
    let config = ShardConfig {
        log: LogConfig {
            segment_bytes: 3500,
            min_free_bytes: 0,
        },
        hot_bytes: 0,
        flush_us: 1000,
        pending_bytes: 1 << 20,
        materialize_bytes: 2500,
        retain_every_us: 20_000,
        compress: false,
        tier_after_ms: None,
    };
    let plain = PartitionConfig::default();
    let expiring = PartitionConfig {
        retention_bytes: Some(1500),
        ..PartitionConfig::default()
    };
    let topics = [&SOURCE[..], &MIDDLE, &COPY, &DLQ, &LATE, &[BULK]].concat();
    let mut open: BTreeMap<_, _> = topics.into_iter().map(|p| (p, plain.clone())).collect();
    open.insert(EXPIRING[0], expiring);
    let mut tasks = pipelines::all();
    tasks.retain(|id, _| [pipelines::COUNTS, pipelines::COPIES].contains(id));
    World::of_one_shard(config, open, tasks)
}

/// Tells the story on a disk, until it ends or the disk stops. Gives what was told of the log, and
/// the driver as it stands then, if it ever started.
pub(super) fn tell(disk: &SimDisk) -> (Reference, Option<Plain>) {
    let mut told = Reference::default();
    let Ok((mut plain, _)) = Plain::start(disk, world()) else {
        return (told, None);
    };
    plain.start_tasks();
    for round in 0..ROUNDS {
        if plain.host.shard.fenced().is_some() {
            break;
        }
        tell_round(round, &mut plain, &mut told);
    }
    (told, Some(plain))
}

fn tell_round(round: u64, plain: &mut Plain, told: &mut Reference) {
    let does = match round % 4 {
        1 => pipelines::BAD,
        2 => pipelines::FLAKY,
        _ => pipelines::GOOD,
    };
    let source = SOURCE[round as usize % 2];
    let value = format!("{{\"id\":\"{round}\",\"n\":1,\"do\":\"{does}\"}}");
    told.send(plain, source, &[value], None, Acks::None);
    let long = |n: u64| "x".repeat(100 + 37 * n as usize);
    let sequence = round as u32 * 2;
    told.send(
        plain,
        BULK,
        &[long(round), long(1)],
        Some((5, 0, sequence)),
        Acks::Durable,
    );
    let acks = if round.is_multiple_of(3) {
        Acks::Written
    } else {
        Acks::Durable
    };
    told.send(plain, EXPIRING[0], &[long(5)], None, acks);
    if round % 3 == 2 {
        let offsets = vec![GroupOffset {
            partition: BULK,
            offset: Offset(round),
            note: "".into(),
        }];
        // The disk may have stopped; then it is not acked.
        let group = GROUP.to_string();
        let _ = plain.get(|ticket| Input::CommitOffsets {
            ticket,
            group,
            offsets,
        });
        told.look(plain);
        if let Some(entry) = told.entries.last_mut() {
            entry.position = Some(round);
        }
    }
    plain.pass(30_000);
    told.look(plain);
}

/// What is in the log, batch by batch.
#[derive(Debug, Default)]
pub(super) struct Reference {
    entries: Vec<Entry>,
    /// How far each partition is known.
    next: BTreeMap<PartitionId, Offset>,
}

#[derive(Debug)]
struct Entry {
    lsn: u64,
    partition: PartitionId,
    records: Vec<Rec>,
    continues: bool,
    /// The group's position from this batch on.
    position: Option<u64>,
}

impl Reference {
    fn send(
        &mut self,
        plain: &mut Plain,
        partition: PartitionId,
        values: &[String],
        producer: Option<(u64, u16, u32)>,
        acks: Acks,
    ) {
        let new = |value: &String| New {
            key: "k".into(),
            value: value.clone(),
            timestamp: plain.unix_ms(),
        };
        let records: Vec<New> = values.iter().map(new).collect();
        let batch = batch_of(&records, producer);
        let _ = plain.get(|ticket| Input::Produce {
            ticket: Some(ticket),
            partition,
            batch,
            acks,
        });
        self.look(plain);
    }

    /// Takes down what the log has got.
    fn look(&mut self, plain: &Plain) {
        let log = plain.host.shard.log();
        let topics = world()
            .open
            .into_keys()
            .chain([PartitionId::control(ShardId(0))]);
        for partition in topics {
            let offset = self.next.get(&partition).copied().unwrap_or_default();
            let limits = ReadLimits {
                max_bytes: 1 << 20,
                upto: log.written(),
            };
            let found = log.read(partition, offset, limits);
            self.next.insert(partition, found.next_offset);
            for slice in &found.slices {
                let mut at = 0;
                while at < slice.len() {
                    let header = BatchHeader::decode(&slice[at..]).unwrap();
                    let end = at + header.size as usize;
                    self.take(&header, &slice.slice(at..end), offset);
                    at = end;
                }
            }
        }
        self.entries.sort_by_key(|e| e.lsn);
    }

    fn take(&mut self, header: &BatchHeader, batch: &bytes::Bytes, from: Offset) {
        if header.base_offset < from {
            return;
        }
        let records = records_of(batch)
            .unwrap()
            .into_iter()
            .map(|(_, r)| r)
            .collect();
        self.entries.push(Entry {
            lsn: header.lsn.0,
            partition: header.partition,
            records,
            continues: header.group_continues(),
            position: None,
        });
    }

    fn upto(&self, lsn: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().take_while(move |e| e.lsn <= lsn)
    }

    /// Whether a group ends with this batch.
    pub(super) fn ends_group(&self, lsn: u64) -> bool {
        lsn == 0
            || self
                .upto(lsn)
                .last()
                .is_some_and(|e| e.lsn == lsn && !e.continues)
    }

    /// The records of a partition up to this batch.
    pub(super) fn records(&self, partition: PartitionId, lsn: u64) -> Vec<Rec> {
        let of = self.upto(lsn).filter(|e| e.partition == partition);
        of.flat_map(|e| e.records.iter().cloned()).collect()
    }

    /// The position of the group as of this batch.
    pub(super) fn position(&self, lsn: u64) -> Option<u64> {
        self.upto(lsn).filter_map(|e| e.position).last()
    }
}

/// The story told to its end, and how many operations of the disk it takes.
pub(super) fn reference() -> (Reference, u64) {
    let disk = SimDisk::default();
    let (told, plain) = tell(&disk);
    assert!(
        plain.is_some_and(|p| p.host.shard.fenced().is_none()),
        "nothing goes wrong"
    );
    let dense = told
        .entries
        .iter()
        .map(|e| e.lsn)
        .eq(1..=told.entries.len() as u64);
    assert!(dense, "the whole log was seen");
    (told, disk.operations())
}
