//! The life of a process in a run: steps and what they ask for, its start and its end.

use crate::check::{Dump, End, Part};
use crate::label;
use crate::node::{Done, Job, Node, Told};
use crate::planted::Plant;
use crate::record::records_of;
use crate::run::{Event, Sim};
use flowstone_core::{Input, Outbox, Reply, Ticket};
use flowstone_storage::sim_disk::Fate;
use flowstone_wire::native::{Place, Visibility};
use flowstone_wire::{Failure, Offset, PartitionId};

/// Tickets of the one who looks at everything.
const LOOK: Ticket = Ticket(u64::MAX);

impl Sim {
    /// Steps the shard and sees to its outputs; a turn follows.
    pub(crate) fn step(&mut self, input: Input) -> Result<(), String> {
        let now = self.now();
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let is_turn = matches!(input, Input::Turn | Input::Tick);
        self.trace
            .note(self.now_us, format_args!("-> {}", label::of(&input)));
        let mut out = std::mem::take(&mut node.out);
        node.shard.step(now, input, &mut out);
        let result = self.see_to(&mut out);
        if let Some(node) = &mut self.node {
            node.out = out;
        }
        result?;
        if !is_turn && !self.turn_due && self.node.is_some() {
            self.turn_due = true;
            let (us, life) = (self.rng.below(40), self.life);
            self.after(us, Event::Turn(life));
        }
        Ok(())
    }

    fn see_to(&mut self, out: &mut Outbox) -> Result<(), String> {
        if self.is_dead() {
            // The process ended in the middle of the step: nobody heard of its outputs.
            out.drain();
            return self.end_somehow();
        }
        let outputs: Vec<_> = out.drain().collect();
        for output in outputs {
            let Some(node) = &self.node else {
                return Ok(());
            };
            match node.sort(output) {
                Ok(told) => self.told(told)?,
                Err(job) => self.queue_job(job),
            }
        }
        Ok(())
    }

    fn told(&mut self, told: Told) -> Result<(), String> {
        match told {
            Told::Reply(ticket, result) => {
                self.trace.note(
                    self.now_us,
                    format_args!("<- {ticket:?} {}", shown(&result)),
                );
                self.answer(ticket, result)
            }
            Told::Report(text) => {
                self.trace
                    .note(self.now_us, format_args!("   report: {text}"));
                Ok(())
            }
            Told::Fenced(reason) => {
                self.trace
                    .note(self.now_us, format_args!("   fenced: {reason}"));
                if !self.trouble.tainted {
                    return Err(format!("fenced for no reason: {reason}"));
                }
                let (us, life) = (self.rng.between(10, 100_000), self.life);
                self.after(us, Event::Stop(life));
                Ok(())
            }
            Told::Drained => {
                self.trace.note(self.now_us, format_args!("   drained"));
                // All of it is durable: what was written counts as if the power had stayed.
                self.drained()
            }
        }
    }

    fn queue_job(&mut self, job: Job) {
        let lane = job.lane();
        let Some(node) = &mut self.node else { return };
        let idle = node.lanes[lane].is_empty();
        node.lanes[lane].push_back(job);
        if idle {
            let (us, life) = (self.delay_us(), self.life);
            self.after(us, Event::Work(life, lane));
        }
    }

    /// How long a job waits or takes.
    fn delay_us(&mut self) -> u64 {
        let most = match (self.trouble.slow, self.rng.below(20)) {
            (true, 0..8) => 800_000,
            (_, 0) => 100_000,
            (_, 1..5) => 10_000,
            _ => 300,
        };
        self.rng.below(most)
    }

    /// Does the next piece of work of a lane.
    pub(crate) fn work(&mut self, lane: usize) -> Result<(), String> {
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let Some(job) = node.lanes[lane].pop_front() else {
            return Ok(());
        };
        self.trace
            .note(self.now_us, format_args!("   {}", label::of_job(&job)));
        let done = node.work(job);
        if self.is_dead() {
            return self.end_somehow();
        }
        let (us, life) = (self.delay_us(), self.life);
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let mut more = !node.lanes[lane].is_empty();
        match done {
            Done::More(job) => {
                node.lanes[lane].push_front(job);
                more = true;
            }
            Done::Nothing => {}
            done => self.after(us, Event::Answer(life, done)),
        }
        if more {
            let us = self.delay_us() / 4;
            self.after(us, Event::Work(life, lane));
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, done: Done) -> Result<(), String> {
        match done {
            Done::Input(input) => self.step(input),
            Done::Reply(ticket, result) => self.told(Told::Reply(ticket, result)),
            Done::Nothing | Done::More(_) => Ok(()),
        }
    }

    /// Starts a process on what the disk has, and looks at everything.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        if self.node.is_some() {
            return Ok(());
        }
        self.arm_start();
        let (node, rows) = match Node::start(&self.disk, &self.world, self.options.plant) {
            Ok(started) => started,
            Err(e) if self.is_dead() => {
                self.trace
                    .note(self.now_us, format_args!("   start cut short: {e}"));
                return self.end_somehow();
            }
            Err(e) => return Err(format!("recovery: {e}")),
        };
        self.trace
            .note(self.now_us, format_args!("   started, rows {rows}"));
        self.node = Some(node);
        for (partition, mut config) in self.world.open.clone() {
            if self.options.plant == Some(Plant::WrongVisibility) {
                config.visibility = Visibility::Written;
            }
            self.step(Input::OpenPartition { partition, config })?;
        }
        let mut out = Outbox::default();
        if let Some(node) = &mut self.node {
            node.shard.close_unknown(&mut out);
        }
        self.see_to(&mut out)?;
        let dump = self.dump()?;
        self.history.check(&self.world, &dump)?;
        for id in self.world.running.clone() {
            let config = self.world.tasks[&id].clone();
            self.step(Input::StartTask(Box::new(config)))?;
        }
        Ok(())
    }

    /// Ends the process and makes the disk what it is then.
    pub(crate) fn end(&mut self, end: End) -> Result<(), String> {
        self.cut(end);
        self.history.ended(end);
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
        let fenced = self
            .node
            .as_ref()
            .is_some_and(|n| n.shard.fenced().is_some());
        self.cut(End::PowerCut);
        self.history
            .ended(if fenced { End::PowerCut } else { End::Kill });
        self.gone()
    }

    fn gone(&mut self) -> Result<(), String> {
        self.node = None;
        self.life += 1;
        self.turn_due = false;
        self.askers.clear();
        self.clients.iter_mut().for_each(|c| c.disconnected());
        self.trouble.dead_at = None;
        self.trouble.tainted = false;
        self.trouble.syncs_fail = false;
        let us = self.rng.between(10, 30_000);
        self.after(us, Event::Start);
        Ok(())
    }

    /// Everything that readers can see, at once.
    pub(crate) fn dump(&mut self) -> Result<Dump, String> {
        let open: Vec<PartitionId> = self.world.open.keys().copied().collect();
        open.into_iter()
            .map(|p| Ok((p, self.dump_partition(p)?)))
            .collect()
    }

    fn dump_partition(&mut self, partition: PartitionId) -> Result<Part, String> {
        let find = |place| Input::FindOffset {
            ticket: LOOK,
            partition,
            place,
        };
        let Reply::Found(start) = self.look(find(Place::Start))? else {
            return Err("a place was not answered with an offset".into());
        };
        let mut part = Part {
            start: start.0,
            end: start.0,
            records: Vec::new(),
        };
        let mut offset = start;
        loop {
            let max_bytes = 1 << 20;
            let fetch = Input::Fetch {
                ticket: LOOK,
                partition,
                offset,
                max_bytes,
                wait_ms: 0,
            };
            let Reply::Fetched(bounds, slices) = self.look(fetch)? else {
                return Err("a fetch was not answered with records".into());
            };
            part.end = bounds.end.0;
            for slice in &slices {
                part.records.extend(records_of(slice)?);
            }
            let next = part.records.last().map_or(0, |(o, _)| o + 1);
            if slices.is_empty() || next <= offset.0 {
                break;
            }
            offset = Offset(next);
        }
        // The first batch may begin before what was asked for.
        part.records.retain(|(o, _)| *o >= part.start);
        Ok(part)
    }

    /// Asks and is answered at once; what else the step asks for is queued as always.
    fn look(&mut self, input: Input) -> Result<Reply, String> {
        let now = self.now();
        let Some(node) = &mut self.node else {
            return Err("there is no process to ask".into());
        };
        let mut out = Outbox::default();
        node.shard.step(now, input, &mut out);
        let mut found = None;
        let outputs: Vec<_> = out.drain().collect();
        for output in outputs {
            let Some(node) = &mut self.node else { break };
            match node.sort(output) {
                Ok(Told::Reply(LOOK, result)) => found = Some(result),
                Ok(told) => self.told(told)?,
                Err(
                    job @ (Job::Read { ticket: LOOK, .. } | Job::FindTime { ticket: LOOK, .. }),
                ) => {
                    if let Done::Reply(_, result) = node.work(job) {
                        found = Some(result);
                    }
                }
                Err(job) => self.queue_job(job),
            }
        }
        match found {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(failure)) => Err(format!("durability: reading fails: {failure}")),
            None => Err("liveness: a reader that does not wait is not answered".into()),
        }
    }
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
