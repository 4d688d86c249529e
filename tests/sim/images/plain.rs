//! A driver that does everything at once, until the disk stops.

use crate::check::{Dump, Part};
use crate::host::{Done, Host, Told};
use crate::record::records_of;
use crate::rng::Rng;
use crate::world::World;
use flowstone_core::{Input, Now, Outbox, Reply, Ticket};
use flowstone_storage::SimDisk;
use flowstone_wire::native::Place;
use flowstone_wire::{Failure, Offset, PartitionId, ShardId};
use std::collections::{BTreeMap, VecDeque};

const SHARD: ShardId = ShardId(0);

pub(super) struct Plain {
    pub(super) host: Host,
    world: World,
    now: Now,
    answers: BTreeMap<Ticket, Result<Reply, Failure>>,
    tickets: u64,
}

impl Plain {
    /// Starts on what the disk has; tasks do not run yet.
    pub(super) fn start(disk: &SimDisk, world: World) -> Result<(Self, String), String> {
        let (host, rows) =
            Host::start(disk, SHARD, &world, None, Rng::new(0)).map_err(|e| e.to_string())?;
        let now = Now {
            unix_ms: 1_700_000_000_000,
            mono_us: 1,
        };
        let open = world.open.clone();
        let mut plain = Self {
            host,
            world,
            now,
            answers: BTreeMap::new(),
            tickets: 0,
        };
        for (partition, config) in open {
            plain.step(Input::OpenPartition { partition, config });
        }
        let mut out = Outbox::default();
        plain
            .host
            .shard
            .close_unknown(PartitionId(u32::MAX), &mut out);
        Ok((plain, rows))
    }

    pub(super) fn start_tasks(&mut self) {
        let ids: Vec<u32> = self.world.tasks.keys().copied().collect();
        let starts = ids.into_iter().flat_map(|id| self.world.start_of(id));
        let starts: Vec<Input> = starts.map(|(_, input)| input).collect();
        starts.into_iter().for_each(|start| self.step(start));
        self.step(Input::Turn);
    }

    /// Starts the tasks and lets time pass until they are through.
    pub(super) fn run_tasks(&mut self) {
        self.start_tasks();
        (0..20).for_each(|_| self.pass(50_000));
    }

    pub(super) fn pass(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.unix_ms += (us / 1000) as i64;
        self.step(Input::Tick);
    }

    pub(super) fn unix_ms(&self) -> i64 {
        self.now.unix_ms
    }

    pub(super) fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut out = Outbox::default();
        while let Some(input) = inputs.pop_front() {
            self.host.shard.step(self.now, input, &mut out);
            let mut jobs: VecDeque<_> = VecDeque::new();
            for output in out.drain() {
                match self.host.sort(output) {
                    Ok(Told::Reply(ticket, result)) => drop(self.answers.insert(ticket, result)),
                    Ok(Told::Carry(_) | Told::Report(_) | Told::Fenced(_) | Told::Drained) => {}
                    Err(job) => jobs.push_back(job),
                }
            }
            while let Some(job) = jobs.pop_front() {
                match self.host.work(job) {
                    Done::Nothing => {}
                    Done::More(job) => jobs.push_front(job),
                    Done::Input(input) => inputs.extend([input, Input::Turn]),
                    Done::Reply(ticket, result) => drop(self.answers.insert(ticket, result)),
                }
            }
        }
    }

    /// Asks, takes a turn, and gives the answer.
    pub(super) fn get(&mut self, make: impl FnOnce(Ticket) -> Input) -> Result<Reply, Failure> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.step(make(ticket));
        self.step(Input::Turn);
        self.answers
            .remove(&ticket)
            .expect("this driver has answered when it has nothing to do")
    }

    pub(super) fn written(&self) -> u64 {
        self.host.shard.log().written().0
    }

    pub(super) fn durable(&self) -> u64 {
        self.host.shard.log().durable().0
    }

    /// The position of a group.
    pub(super) fn position(&mut self, group: &str, partition: PartitionId) -> Option<u64> {
        let (group, partitions) = (group.to_string(), vec![partition]);
        let reply = self
            .get(|ticket| Input::ReadOffsets {
                ticket,
                group,
                partitions,
            })
            .unwrap();
        let Reply::Offsets(all) = reply else {
            panic!("{reply:?}")
        };
        all.first().map(|o| o.offset.0)
    }

    pub(super) fn dump(&mut self) -> Dump {
        let open: Vec<PartitionId> = self.world.open.keys().copied().collect();
        open.into_iter().map(|p| (p, self.part(p))).collect()
    }

    fn part(&mut self, partition: PartitionId) -> Part {
        let place = Place::Start;
        let start = self
            .get(|ticket| Input::FindOffset {
                ticket,
                partition,
                place,
            })
            .unwrap();
        let Reply::Found(mut offset) = start else {
            panic!("{start:?}")
        };
        let mut part = Part {
            start: offset.0,
            ..Part::default()
        };
        loop {
            let fetch = |ticket| {
                let max_bytes = 1 << 20;
                Input::Fetch {
                    ticket,
                    partition,
                    offset,
                    max_bytes,
                    wait_ms: 0,
                }
            };
            let reply = self.get(fetch).unwrap();
            let Reply::Fetched(bounds, slices) = reply else {
                panic!("{reply:?}")
            };
            part.end = bounds.end.0;
            part.records
                .extend(slices.iter().flat_map(|s| records_of(s).unwrap()));
            if slices.is_empty() {
                break;
            }
            offset = Offset(part.records.last().map_or(0, |(o, _)| o + 1));
        }
        part.records.retain(|(o, _)| *o >= part.start);
        part
    }
}
