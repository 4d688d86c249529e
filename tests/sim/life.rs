//! The life of a process in a run: steps of its shards and what they ask for, its start and its end.

use crate::check::End;
use crate::host::{Done, Job, Told};
use crate::label;
use crate::node::Node;
use crate::planted::Plant;
use crate::rng::Rng;
use crate::run::{Event, Sim};
use crate::trace::Trace;
use crate::world::COMPACTED;
use flowstone_core::{Input, Outbox, Reply};
use flowstone_storage::settled::SegmentId;
use flowstone_storage::sim_disk::Fate;
use flowstone_wire::native::Visibility;
use flowstone_wire::{Failure, PartitionId, ShardId};

impl Sim {
    /// Steps a shard and sees to its outputs; a turn follows.
    pub(crate) fn step(&mut self, shard: ShardId, input: Input) -> Result<(), String> {
        let now = self.now();
        self.choose_disk(shard);
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let is_turn = matches!(input, Input::Turn | Input::Tick);
        self.trace.note(
            self.now_us,
            format_args!("-> {shard} {}", label::of(&input)),
        );
        if matches!(&input, Input::Rewritten(Ok(done)) if done.removed.iter().any(is_compacted)) {
            self.trace.rare("segments were compacted");
        }
        if matches!(&input, Input::Tiered { result: Err(_), .. }) {
            self.trace.rare("the bucket did not answer");
        }
        let host = node.host(shard);
        let mut out = std::mem::take(&mut host.out);
        host.shard.step(now, input, &mut out);
        let result = self.see_to(shard, &mut out);
        let Some(node) = &mut self.node else {
            return result;
        };
        let host = node.host(shard);
        host.out = out;
        if result.is_ok() && !is_turn && !std::mem::replace(&mut host.turn_due, true) {
            let us = host.rng.below(40);
            self.after(us, Event::Turn(self.life, shard));
        }
        result
    }

    /// Syncs of some shards fail and those of others do not.
    fn choose_disk(&self, shard: ShardId) {
        if !self.trouble.tainted.is_empty() {
            self.disk
                .fail_syncs(self.trouble.syncs_fail.contains(&shard));
        }
    }

    fn see_to(&mut self, shard: ShardId, out: &mut Outbox) -> Result<(), String> {
        if self.is_dead() {
            // The process ended in the middle of the step: nobody heard of its outputs.
            out.drain();
            return self.end_somehow();
        }
        let outputs: Vec<_> = out.drain().collect();
        for output in outputs {
            let Some(node) = &mut self.node else {
                return Ok(());
            };
            match node.host(shard).sort(output) {
                Ok(told) => self.told(shard, told)?,
                Err(job) => self.queue_job(shard, job),
            }
        }
        Ok(())
    }

    pub(crate) fn told(&mut self, shard: ShardId, told: Told) -> Result<(), String> {
        let now_us = self.now_us;
        let note = |trace: &mut Trace, what: &str| {
            trace.note(now_us, format_args!("   {shard} {what}"));
        };
        match told {
            Told::Reply(ticket, result) => {
                self.trace
                    .note(now_us, format_args!("<- {ticket:?} {}", shown(&result)));
                self.answer(ticket, result)
            }
            Told::Carry(parcel) => {
                note(&mut self.trace, &label::of_parcel(&parcel));
                self.carry(shard, parcel);
                Ok(())
            }
            Told::Report(text) => {
                note(&mut self.trace, &format!("report: {text}"));
                Ok(())
            }
            Told::Fenced(reason) => {
                note(&mut self.trace, &format!("fenced: {reason}"));
                if !self.trouble.tainted.contains(&shard) {
                    return Err(format!("fenced for no reason: {reason}"));
                }
                if self.world.shards > 1 && self.trouble.tainted.len() == 1 {
                    self.trace.rare("a fenced shard beside one that is not");
                }
                let (us, life) = (self.rng.between(10, 100_000), self.life);
                self.after(us, Event::Stop(life));
                Ok(())
            }
            Told::Drained => {
                note(&mut self.trace, "drained");
                self.shard_drained(shard)
            }
        }
    }

    pub(crate) fn queue_job(&mut self, shard: ShardId, job: Job) {
        let (lane, slow) = (job.lane(), self.trouble.slow);
        if matches!(&job, Job::Read { segment, .. } if segment.remote.is_some()) {
            self.trace
                .rare("a segment was in the tier only and was read");
        }
        if matches!(&job, Job::ReadState { .. }) {
            self.trace.rare("state was read back");
        }
        let Some(node) = &mut self.node else { return };
        let host = node.host(shard);
        let idle = host.lanes[lane].is_empty();
        host.lanes[lane].push_back(job);
        if idle {
            let us = delay_us(slow, &mut host.rng);
            self.after(us, Event::Work(self.life, shard, lane));
        }
    }

    /// Does the next piece of work of a lane.
    pub(crate) fn work(&mut self, shard: ShardId, lane: usize) -> Result<(), String> {
        self.choose_disk(shard);
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let host = node.host(shard);
        let Some(job) = host.lanes[lane].pop_front() else {
            return Ok(());
        };
        self.trace.note(
            self.now_us,
            format_args!("   {shard} {}", label::of_job(&job)),
        );
        let done = host.work(job);
        if self.is_dead() {
            return self.end_somehow();
        }
        let (life, slow) = (self.life, self.trouble.slow);
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let host = node.host(shard);
        let (us, next_us) = (
            delay_us(slow, &mut host.rng),
            delay_us(slow, &mut host.rng) / 4,
        );
        let mut more = !host.lanes[lane].is_empty();
        match done {
            Done::More(job) => {
                host.lanes[lane].push_front(job);
                more = true;
            }
            Done::Nothing => {}
            done => self.after(us, Event::Answer(life, shard, done)),
        }
        if more {
            self.after(next_us, Event::Work(life, shard, lane));
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, shard: ShardId, done: Done) -> Result<(), String> {
        match done {
            Done::Input(input) => self.step(shard, input),
            Done::Reply(ticket, result) => self.told(shard, Told::Reply(ticket, result)),
            Done::Nothing | Done::More(_) => Ok(()),
        }
    }

    /// Starts a process on what the disk has, and looks at everything.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        if self.node.is_some() {
            return Ok(());
        }
        self.arm_start();
        let plant = self.options.plant;
        let (node, rows) = match Node::start(&self.disk, &self.world, plant, (self.seed, self.life))
        {
            Ok(started) => started,
            Err(e) if self.is_dead() => {
                self.trace
                    .note(self.now_us, format_args!("   start cut short: {e}"));
                return self.end_somehow();
            }
            Err(e) if self.trouble.full && e.to_string().contains("full") => {
                // It says so and ends; whoever runs it makes room and starts it again.
                self.trace
                    .note(self.now_us, format_args!("   no start: {e}"));
                return self.end(End::Kill);
            }
            Err(e) => return Err(format!("recovery: {e}")),
        };
        self.trace
            .note(self.now_us, format_args!("   started, rows {rows}"));
        self.node = Some(node);
        self.open_partitions()?;
        let dump = self.dump()?;
        self.history.check(&self.world, &dump)?;
        self.start_tasks()
    }

    /// Every shard is told of its partitions before one is told that these are all.
    fn open_partitions(&mut self) -> Result<(), String> {
        for (partition, mut config) in self.world.open.clone() {
            if self.options.plant == Some(Plant::WrongVisibility) {
                config.visibility = Visibility::Written;
            }
            let shard = self.world.shard_of(partition);
            self.step(shard, Input::OpenPartition { partition, config })?;
        }
        for shard in self.world.all_shards() {
            let mut out = Outbox::default();
            if let Some(node) = &mut self.node {
                node.host(shard)
                    .shard
                    .close_unknown(PartitionId(u32::MAX), &mut out);
            }
            self.see_to(shard, &mut out)?;
        }
        Ok(())
    }

    /// Starts what is to run, on all shards.
    pub(crate) fn start_tasks(&mut self) -> Result<(), String> {
        for id in self.world.running.clone() {
            for (shard, input) in self.world.start_of(id) {
                self.step(shard, input)?;
            }
        }
        Ok(())
    }

    /// Has every shard stop in order.
    pub(crate) fn drain(&mut self) -> Result<(), String> {
        for shard in self.world.all_shards() {
            self.step(shard, Input::Drain)?;
        }
        Ok(())
    }

    fn shard_drained(&mut self, shard: ShardId) -> Result<(), String> {
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        node.host(shard).drained = true;
        if node.all_drained() {
            // All of it is durable: what was written counts as if the power had stayed.
            self.drained()
        } else {
            self.trace.rare("a drained shard beside one that is not");
            Ok(())
        }
    }

    /// Ends the process and makes the disk what it is then.
    pub(crate) fn end(&mut self, end: End) -> Result<(), String> {
        if self.node.as_ref().is_some_and(|n| n.carrier.is_waiting()) {
            self.trace.rare(match end {
                End::Kill => "a kill with parcels under way",
                End::PowerCut => "a power cut with parcels under way",
            });
        }
        self.cut(end);
        // What a sync failed for can be read until the next start looks at the disk.
        let tainted = !self.trouble.tainted.is_empty();
        self.history
            .ended(if tainted { End::PowerCut } else { end });
        self.gone()
    }

    fn cut(&mut self, end: End) {
        let cut = match end {
            End::Kill => self.disk.kill(),
            End::PowerCut => {
                let (_, names) = self.disk.unsynced();
                let names_kept = self.rng.below(names as u64 + 1) as usize;
                let mode = self.rng.below(4);
                let rng = &mut self.rng;
                let fate = |_| match (mode, rng.below(3)) {
                    (0, _) | (2, 0) | (3, 0) => Fate::Lost,
                    (1, _) | (2, _) | (3, 1) => Fate::Kept,
                    _ => Fate::Torn(rng.below(3000) as usize),
                };
                self.disk.crash(fate, names_kept)
            }
        };
        self.trace.note(self.now_us, format_args!("   {end:?}"));
        self.disk = cut;
    }

    /// An orderly stop: everything is durable, so that a power cut now is no worse than a kill.
    fn drained(&mut self) -> Result<(), String> {
        let fenced = self.node.as_ref().is_some_and(Node::any_fenced);
        self.cut(End::PowerCut);
        self.history
            .ended(if fenced { End::PowerCut } else { End::Kill });
        self.gone()
    }

    fn gone(&mut self) -> Result<(), String> {
        self.node = None;
        self.life += 1;
        self.askers.clear();
        self.clients.iter_mut().for_each(|(_, c)| c.disconnected());
        self.trouble.dead_at = None;
        self.trouble.tainted.clear();
        self.trouble.syncs_fail.clear();
        let us = self.rng.between(10, 30_000);
        self.after(us, Event::Start);
        Ok(())
    }
}

/// How long a job waits or takes.
fn delay_us(slow: bool, rng: &mut Rng) -> u64 {
    let most = match (slow, rng.below(20)) {
        (true, 0..8) => 800_000,
        (_, 0) => 100_000,
        (_, 1..5) => 10_000,
        _ => 300,
    };
    rng.below(most)
}

fn shown(result: &Result<Reply, Failure>) -> String {
    match result {
        Ok(Reply::Fetched(bounds, slices)) => {
            let bytes: usize = slices.iter().map(|s| s.len()).sum();
            format!("{bytes} bytes of {}..{}", bounds.start, bounds.end)
        }
        Ok(Reply::Status(status)) => format!("{:?}", status.shard),
        Ok(other) => format!("{other:?}"),
        Err(failure) => format!("{:?}", failure.code),
    }
}

fn is_compacted(id: &SegmentId) -> bool {
    id.partition == COMPACTED
}
