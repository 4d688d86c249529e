//! What the catalog would know: topics, their settings and places, the pipelines that run, and the
//! settings of the shards.

use crate::pipelines::{self, Deployed};
use crate::rng::Rng;
use crate::scenario::{Options, Part};
use flowstone_core::catalog::shard_of;
use flowstone_core::input::{PartitionConfig, TaskConfig};
use flowstone_core::{Input, ShardConfig};
use flowstone_storage::{LogConfig, SimDisk};
use flowstone_wire::native::Visibility;
use flowstone_wire::{PartitionId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

const fn id(number: u32) -> PartitionId {
    PartitionId(PartitionId::FIRST_USER + number)
}

/// Input of the pipelines.
pub(crate) const SOURCE: [PartitionId; 2] = [id(0), id(1)];
/// Between the two pipelines of the chain.
pub(crate) const MIDDLE: [PartitionId; 2] = [id(2), id(3)];
/// Windows.
pub(crate) const WINDOWS: [PartitionId; 2] = [id(4), id(5)];
/// A copy of the source.
pub(crate) const COPY: [PartitionId; 2] = [id(6), id(7)];
/// The source by another key, and counts of that.
pub(crate) const SPREAD: [PartitionId; 3] = [id(20), id(21), id(22)];
pub(crate) const TALLY: [PartitionId; 3] = [id(23), id(24), id(25)];
/// A copy of the source, made late and deleted.
pub(crate) const DOOMED: PartitionId = id(26);
/// Dead letters and late records of the pipelines, by their number.
pub(crate) const DLQ: [PartitionId; 6] = [id(8), id(10), id(12), id(30), id(32), id(34)];
pub(crate) const LATE: [PartitionId; 6] = [id(9), id(11), id(13), id(31), id(33), id(35)];
/// Bulk, kept for ever.
pub(crate) const BULK: PartitionId = id(16);
/// Readers see what is written.
pub(crate) const LOUD: PartitionId = id(17);
/// Compacted by key.
pub(crate) const COMPACTED: PartitionId = id(40);
/// Kept by bytes and by time.
pub(crate) const EXPIRING: [PartitionId; 2] = [id(18), id(19)];
/// Topics that come and go are numbered from here.
pub(crate) const FIRST_PASSING: u32 = PartitionId::FIRST_USER + 100;

/// The room for the state stores and settled segments that no log segment takes on a full disk.
pub(crate) const RESERVE_BYTES: u64 = 6 << 20;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: ShardConfig,
    pub(crate) shards: u16,
    /// Where partitions are. Of one that is not here the topic's home follows from its number.
    places: BTreeMap<PartitionId, ShardId>,
    pub(crate) open: BTreeMap<PartitionId, PartitionConfig>,
    pub(crate) tasks: BTreeMap<u32, Deployed>,
    /// Those of `tasks` that are to run now.
    pub(crate) running: BTreeSet<u32>,
    /// The topic that is deleted was made; its pipeline runs only then.
    pub(crate) doomed_made: bool,
    /// Bytes that may be written to the source: a step over all of it must fit a segment.
    pub(crate) source_bytes: u64,
    /// How often a mailbox is full when something is carried.
    pub(crate) full_percent: u64,
    /// The longest time between two faults.
    pub(crate) calm_us: u64,
    /// What the tier has.
    pub(crate) bucket: SimDisk,
}

impl World {
    pub(crate) fn new(rng: &mut Rng, options: &Options) -> Self {
        let with_tasks = rng.percent(75);
        let sizes: &[u64] = if with_tasks {
            &[32 << 10, 48 << 10]
        } else {
            &[4 << 10, 8 << 10, 16 << 10]
        };
        let config = shard_config(*rng.pick(sizes), rng);
        let tasks = if with_tasks {
            pipelines::all()
        } else {
            BTreeMap::new()
        };
        let mut world = Self::of_one_shard(config, BTreeMap::new(), tasks);
        if with_tasks {
            world.source_bytes = config.log.segment_bytes / 4;
        }
        world.full_percent = *rng.pick(&[0, 5, 30]);
        world.calm_us = *rng.pick(&[500_000, 500_000, 150_000]);
        let shards = rng.between(1, 3) as u16;
        world.shards = options.shards.unwrap_or(shards).min(shards);
        world.place_topics(rng);
        world.open_topics(rng, with_tasks);
        world.open_tier(rng, options);
        world.switch_off(options);
        world
    }

    /// A world in which everything is on one shard, and no pipeline runs yet.
    pub(crate) fn of_one_shard(
        config: ShardConfig,
        open: BTreeMap<PartitionId, PartitionConfig>,
        tasks: BTreeMap<u32, Deployed>,
    ) -> Self {
        Self {
            config,
            shards: 1,
            places: BTreeMap::new(),
            open,
            tasks,
            running: BTreeSet::new(),
            doomed_made: false,
            source_bytes: 0,
            full_percent: 0,
            calm_us: 0,
            bucket: SimDisk::default(),
        }
    }

    /// Partition `p` of a topic is on shard `(home + p) mod shards`. Topics of a placement group have
    /// one home: then equal keys stay where they are, and only what changes its key goes far.
    fn place_topics(&mut self, rng: &mut Rng) {
        let one_group = rng.percent(30).then(|| rng.next() as u32);
        let chained: [&[PartitionId]; 6] = [&SOURCE, &MIDDLE, &WINDOWS, &COPY, &SPREAD, &TALLY];
        let single = [&DLQ[..], &LATE, &EXPIRING, &[BULK, LOUD, DOOMED, COMPACTED]].concat();
        for topic in chained {
            let own = rng.next() as u32;
            self.place(topic, one_group.unwrap_or(own));
        }
        for topic in single {
            self.place(&[topic], rng.next() as u32);
        }
    }

    fn place(&mut self, topic: &[PartitionId], home: u32) {
        let all = topic.iter().zip(0..);
        self.places
            .extend(all.map(|(p, index)| (*p, shard_of(home, index, self.shards))));
    }

    fn open_topics(&mut self, rng: &mut Rng, with_tasks: bool) {
        let plain = PartitionConfig::default();
        let loud = PartitionConfig {
            visibility: Visibility::Written,
            ..plain.clone()
        };
        let by_bytes = PartitionConfig {
            retention_bytes: Some(self.config.log.segment_bytes * rng.between(1, 3)),
            ..plain.clone()
        };
        let by_time = PartitionConfig {
            retention_ms: Some(rng.between(50, 2000)),
            ..plain.clone()
        };
        self.open.insert(BULK, plain.clone());
        self.open.insert(LOUD, loud);
        let compacted = PartitionConfig {
            compact: true,
            tombstone_ms: 1000,
            ..plain.clone()
        };
        self.open.insert(COMPACTED, compacted);
        self.open.insert(EXPIRING[0], by_bytes);
        self.open.insert(EXPIRING[1], by_time);
        if with_tasks {
            let topics = [&SOURCE[..], &MIDDLE, &WINDOWS, &COPY, &SPREAD, &TALLY];
            let topics = [topics.concat(), [DLQ, LATE].concat()].concat();
            self.open
                .extend(topics.into_iter().map(|p| (p, plain.clone())));
        }
    }

    /// A tier, and topics that keep little or nothing here of what it has.
    fn open_tier(&mut self, rng: &mut Rng, options: &Options) {
        if !rng.percent(50) || !options.has(Part::Tier) {
            return;
        }
        self.config.tier_after_ms = Some(rng.below(1000));
        for config in self.open.values_mut() {
            if rng.percent(50) {
                config.local_retention_bytes = Some(rng.below(4) * self.config.log.segment_bytes);
            } else if rng.percent(20) {
                config.local_retention_ms = Some(rng.below(1000));
            }
        }
    }

    fn switch_off(&mut self, options: &Options) {
        let parts = [
            (pipelines::COUNTS, Part::Counts),
            (pipelines::WINDOWS, Part::Windows),
            (pipelines::COPIES, Part::Copies),
            (pipelines::SPREADS, Part::Spreads),
            (pipelines::TALLIES, Part::Tallies),
            (pipelines::DOOMED, Part::Doomed),
        ];
        for (id, part) in parts {
            if !options.has(part) {
                self.tasks.remove(&id);
            }
        }
        let late = [pipelines::COPIES, pipelines::DOOMED];
        self.running = self.tasks.keys().copied().collect();
        self.running.retain(|id| !late.contains(id));
    }

    pub(crate) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }

    /// Where a partition is.
    pub(crate) fn shard_of(&self, partition: PartitionId) -> ShardId {
        let own = || shard_of(partition.0, 0, self.shards);
        self.places.get(&partition).copied().unwrap_or_else(own)
    }

    /// The task of a pipeline on a shard.
    pub(crate) fn task(&self, id: u32, shard: ShardId) -> Option<TaskConfig> {
        // What is deleted is written to from afar only: a shard is told of a topic and then of the
        // pipelines that write to it, and here the news of the topic may come late.
        let is_doomed = id == pipelines::DOOMED;
        if is_doomed && (!self.doomed_made || shard == self.shard_of(DOOMED)) {
            return None;
        }
        self.tasks.get(&id)?.task(id, shard, |p| self.shard_of(p))
    }

    /// What starts a pipeline, on all its shards.
    pub(crate) fn start_of(&self, id: u32) -> Vec<(ShardId, Input)> {
        let start = |shard| {
            let config = self.task(id, shard)?;
            Some((shard, Input::StartTask(Box::new(config))))
        };
        self.all_shards().filter_map(start).collect()
    }

    /// Whether records of a partition may expire.
    pub(crate) fn expires(&self, partition: PartitionId) -> bool {
        let config = self.open.get(&partition);
        config.is_some_and(|c| c.retention_bytes.is_some() || c.retention_ms.is_some())
    }

    /// Whether of records with the same key only the newest is kept.
    pub(crate) fn compacts(&self, partition: PartitionId) -> bool {
        self.open.get(&partition).is_some_and(|c| c.compact)
    }

    /// Whether readers of a partition see only what is committed.
    pub(crate) fn is_committed(&self, partition: PartitionId) -> bool {
        self.open
            .get(&partition)
            .is_some_and(|c| c.visibility == Visibility::Committed)
    }
}

fn shard_config(segment_bytes: u64, rng: &mut Rng) -> ShardConfig {
    ShardConfig {
        log: LogConfig {
            segment_bytes,
            min_free_bytes: RESERVE_BYTES,
        },
        hot_bytes: rng.below(3) * segment_bytes,
        flush_us: rng.between(200, 20_000),
        pending_bytes: segment_bytes * rng.between(2, 6),
        materialize_bytes: *rng.pick(&[2000, segment_bytes / 2, segment_bytes * 3]),
        retain_every_us: rng.between(5_000, 200_000),
        compress: rng.percent(30),
        tier_after_ms: None,
    }
}
