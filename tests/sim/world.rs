//! What the catalog would know: topics, their settings, the pipelines that run, and the shard's settings.

use crate::pipelines;
use crate::rng::Rng;
use flowstone_core::ShardConfig;
use flowstone_core::input::{PartitionConfig, TaskConfig};
use flowstone_storage::LogConfig;
use flowstone_wire::PartitionId;
use flowstone_wire::native::Visibility;
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
/// Dead letters and late records of the pipelines, by their number.
pub(crate) const DLQ: [PartitionId; 3] = [id(8), id(10), id(12)];
pub(crate) const LATE: [PartitionId; 3] = [id(9), id(11), id(13)];
/// Bulk, kept for ever.
pub(crate) const BULK: PartitionId = id(16);
/// Readers see what is written.
pub(crate) const LOUD: PartitionId = id(17);
/// Kept by bytes and by time.
pub(crate) const EXPIRING: [PartitionId; 2] = [id(18), id(19)];
/// Topics that come and go are numbered from here.
pub(crate) const FIRST_PASSING: u32 = PartitionId::FIRST_USER + 100;

/// The room for the state store and settled segments that no log segment takes on a full disk.
pub(crate) const RESERVE_BYTES: u64 = 6 << 20;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: ShardConfig,
    pub(crate) open: BTreeMap<PartitionId, PartitionConfig>,
    pub(crate) tasks: BTreeMap<u32, TaskConfig>,
    /// Those of `tasks` that are to run now.
    pub(crate) running: BTreeSet<u32>,
    /// Bytes that may be written to the source: a step over all of it must fit a segment.
    pub(crate) source_bytes: u64,
}

impl World {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let with_tasks = rng.percent(75);
        let sizes: &[u64] = if with_tasks {
            &[32 << 10, 48 << 10]
        } else {
            &[4 << 10, 8 << 10, 16 << 10]
        };
        let segment_bytes = *rng.pick(sizes);
        let config = ShardConfig {
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
        };
        let mut world = Self {
            config,
            open: BTreeMap::new(),
            tasks: BTreeMap::new(),
            running: BTreeSet::new(),
            source_bytes: if with_tasks { segment_bytes / 4 } else { 0 },
        };
        world.open_topics(rng, with_tasks);
        if with_tasks {
            world.tasks = pipelines::all();
            world.running = [pipelines::COUNTS, pipelines::WINDOWS].into();
        }
        world
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
        self.open.insert(EXPIRING[0], by_bytes);
        self.open.insert(EXPIRING[1], by_time);
        if with_tasks {
            let topics = [&SOURCE[..], &MIDDLE, &WINDOWS, &COPY, &DLQ, &LATE];
            self.open
                .extend(topics.concat().into_iter().map(|p| (p, plain.clone())));
        }
    }

    /// Whether records of a partition may expire.
    pub(crate) fn expires(&self, partition: PartitionId) -> bool {
        let config = self.open.get(&partition);
        config.is_some_and(|c| c.retention_bytes.is_some() || c.retention_ms.is_some())
    }

    /// Whether readers of a partition see only what is committed.
    pub(crate) fn is_committed(&self, partition: PartitionId) -> bool {
        self.open
            .get(&partition)
            .is_some_and(|c| c.visibility == Visibility::Committed)
    }
}
