//! What must be true in the end, of the log, of what readers see, and of what the task has done.

use super::super::{A, B, CONFIG, DLQ, LATE, values_of};
use super::clients::value;
use super::node::Setup;
use super::world::World;
use crate::input::{PartitionConfig, SinkPartition, TaskConfig};
use crate::replica::sim::rng::Rng;
use crate::shard::{Shard, ShardConfig};
use flowstone_processor::{Context, Pipeline, PipelineOptions, ProcessError, Processor, Record};
use flowstone_storage::LogConfig;
use flowstone_storage::log::ReadLimits;
use flowstone_wire::{Lsn, Offset, PartitionId};

/// Numbers what it sees and gives it out: a step that is done twice or lost shows.
struct Tally;

impl Processor for Tally {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let old = ctx.get(b"n").map(|n| <[u8; 4]>::try_from(n).unwrap());
        let number = old.map_or(0, u32::from_be_bytes) + 1;
        ctx.put(b"n", &number.to_be_bytes());
        let value = std::str::from_utf8(record.value.unwrap()).unwrap();
        let text = format!("{number}:{value}");
        ctx.emit(
            record.timestamp,
            record.key,
            Some(text.as_bytes()),
            record.headers,
        );
        Ok(())
    }
}

pub(super) fn setup(rng: &mut Rng) -> Setup {
    let chain = Pipeline::chain("tally", "a")
        .stage("n", || Box::new(Tally))
        .to("b");
    let options = PipelineOptions {
        // None of the state fits, or all of it.
        state_bytes_max: rng.pick(&[10, 1 << 20]),
        ..PipelineOptions::default()
    };
    let local = |id| vec![SinkPartition { id, local: true }];
    Setup {
        config: ShardConfig {
            hot_bytes: rng.pick(&[20_000, 100_000, 1 << 20]),
            materialize_bytes: rng.pick(&[1, 3000, 1 << 20]),
            retain_every_us: 1_000_000,
            log: LogConfig {
                segment_bytes: 16 << 10,
                min_free_bytes: 0,
            },
            tier_after_ms: rng.percent(50).then(|| rng.pick(&[1, 1500])),
            ..CONFIG
        },
        partitions: vec![A, B, DLQ, LATE],
        uneven_bytes: rng.pick(&[0, 3000]),
        settings: PartitionConfig {
            local_retention_bytes: rng.pick(&[None, Some(2000), Some(20_000)]),
            ..PartitionConfig::default()
        },
        task: TaskConfig {
            id: 1,
            pipeline: chain.options(options).build().unwrap(),
            inputs: vec![(A, 0)],
            sources: vec![0],
            starts: Default::default(),
            sinks: vec![local(DLQ), local(LATE), local(B)],
            share: 0..0,
        },
    }
}

/// Everything that the hot log of a shard has of a partition: first offset and values. Where all of it is
/// settled, nothing from its end on.
fn hot(shard: &Shard, partition: PartitionId) -> (Offset, Vec<String>) {
    let Some(start) = shard.log().hot_start(partition) else {
        return (shard.partitions[&partition].next, Vec::new());
    };
    let (mut all, mut offset) = (Vec::new(), start);
    loop {
        let limits = ReadLimits {
            max_bytes: 1 << 20,
            upto: shard.log().durable(),
        };
        let found = shard.log().read(partition, offset, limits);
        if found.is_empty() {
            return (start, all);
        }
        for (header, values) in found.slices.iter().flat_map(values_of) {
            all.extend(values);
            offset = header.next_offset();
        }
    }
}

/// What is settled and what is hot meet.
fn no_hole(shard: &Shard) {
    for (id, p) in &shard.partitions {
        let settled_end = p.settled.back().map_or(Offset(0), |m| m.next_offset);
        let hot = shard.log().hot_start(*id).unwrap_or(p.next);
        assert!(
            hot <= settled_end.max(p.start),
            "offsets {settled_end} to {hot} of partition {id} are nowhere"
        );
    }
}

/// Without the padding.
fn named(values: &[String]) -> Vec<&str> {
    let name = |v: &String| v.len() - v.trim_start_matches(|c| c != ' ').len();
    values.iter().map(|v| &v[..name(v)]).collect()
}

impl World {
    pub(super) fn check(&mut self) {
        let leader = self.catalog.config.leader.node.0 as usize;
        let mut in_vain = 0;
        while self.clients.seen.len() < self.acked_end() {
            let before = self.clients.seen.len();
            self.read();
            // Now and then it asks a node that does not lead.
            in_vain = if self.clients.seen.len() > before {
                0
            } else {
                in_vain + 1
            };
            assert!(in_vain < 100, "the reader stands at {before}");
        }
        let seen = self.clients.seen.clone();
        let seen = named(&seen);
        for (value, offset) in &self.clients.acked {
            assert_eq!(seen[offset.0 as usize], value, "at {offset}");
        }
        for (n, count) in self.clients.sequences().enumerate() {
            let mine = seen.iter().filter(|v| v.starts_with(&format!("{n}.")));
            let wanted: Vec<String> = (0..count).map(|s| value(n, s)).collect();
            assert_eq!(mine.copied().collect::<Vec<_>>(), wanted, "of producer {n}");
        }
        // It may wait for the state store.
        let end = Offset(seen.len() as u64);
        self.until("the task does not end", |w| {
            let live = w.nodes[leader].live.as_ref();
            live.is_some_and(|l| l.shard.partitions[&B].next >= end) && w.is_whole()
        });
        self.check_task(leader, &seen);
        self.check_copies();
        self.check_bucket();
    }

    /// All of it comes once more, wherever it lies now.
    fn check_bucket(&mut self) {
        self.bucket.check();
        if self.bucket.overlaps > 0 {
            self.rare.insert("segments of two leaders overlap");
        }
        if self.bucket.superseded > 0 {
            self.rare
                .insert("a leader of before was refused by the bucket");
        }
        let end = self.clients.seen.len();
        (self.clients.again, self.clients.seen_again) = (true, 0);
        let mut in_vain = 0;
        while self.clients.seen_again < end {
            let before = self.clients.seen_again;
            self.read_again();
            let waits = self.clients.seen_again == before;
            in_vain = if waits { in_vain + 1 } else { 0 };
            assert!(in_vain < 200, "a second reader stands at {before} of {end}");
        }
    }

    fn acked_end(&self) -> usize {
        self.clients.sequences().map(|s| s as usize).sum()
    }

    fn check_task(&mut self, leader: usize, seen: &[&str]) {
        let live = self.nodes[leader].live.as_ref().unwrap();
        let end = live.shard.partitions[&B].next.0 as usize;
        assert_eq!(end, seen.len(), "what the task has done");
        let (start, results) = hot(&live.shard, B);
        let from = start.0 as usize;
        let wanted = seen.iter().enumerate().skip(from);
        let wanted: Vec<String> = wanted.map(|(i, v)| format!("{}:{v}", i + 1)).collect();
        assert_eq!(named(&results), wanted, "what the task gave out");
        if self.catalog.epochs.len() > 1 {
            self.rare.insert("a task went on elsewhere");
        }
    }

    /// All logs are the same, byte for byte, where they have the same LSNs.
    fn check_copies(&mut self) {
        let logs = |w: &Self| -> (u64, u64) {
            let all = w.nodes.iter().map(|n| n.live.as_ref().unwrap().shard.log());
            let first = all.clone().map(|l| l.first_lsn().0).max().unwrap();
            (first, all.map(|l| l.written().0).min().unwrap())
        };
        let (first, last) = logs(self);
        let mut bytes = self.nodes.iter_mut().map(|n| {
            let shard = &mut n.live.as_mut().unwrap().shard;
            shard.log.slices(Lsn(first), Lsn(last)).unwrap().concat()
        });
        let one = bytes.next().unwrap();
        assert!(
            bytes.all(|b| b == one),
            "logs differ between {first} and {last}"
        );
        let mut ends = self.nodes.iter().map(|n| {
            let shard = &n.live.as_ref().unwrap().shard;
            let ends = shard
                .partitions
                .iter()
                .map(|(id, p)| (*id, p.next, p.committed));
            (ends.collect::<Vec<_>>(), shard.control_next)
        });
        let one = ends.next().unwrap();
        assert!(ends.all(|e| e == one), "views differ");
        drop(ends);
        for node in &self.nodes {
            no_hole(&node.live.as_ref().unwrap().shard);
        }
    }
}
