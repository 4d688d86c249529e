//! A node: a process around a replica, the driver of this simulation.
#![cfg(test)]

use super::device::Op;
use super::disk::Disk;
use super::label::Label;
use super::world::{Event, LIMITS, Packet, World};
use crate::replica::Standing;
use crate::replica::{
    Ask, Asked, Envelope, Input, LogId, Member, Message, Outbox, Output, Replica, ReplicaStart,
    Span,
};
use flowstone_wire::{Epoch, Lsn, NodeId, ShardId};
use std::collections::VecDeque;

/// Entries that are not committed, at most, while producers are served.
const PENDING: u64 = 60;

pub(super) struct Node {
    pub(super) number: usize,
    pub(super) disk: Disk,
    pub(super) replica: Option<Replica>,
    /// The number of the process.
    pub(super) run: u64,
    /// What the disk is to do; the first one it does.
    pub(super) ops: VecDeque<Op>,
    /// The epoch that the replica leads, as its driver was told.
    pub(super) led: Option<Epoch>,
    is_sure: bool,
    /// Until then nothing comes to the process.
    pub(super) paused_until_us: u64,
    clock_ahead_us: u64,
    pub(super) is_slow: bool,
    pub(super) syncs_fail: bool,
    /// The process is over for its shard.
    pub(super) has_failed: bool,
    /// When the last promise is durable, where they are apart from the log.
    pub(super) promised_at_us: u64,
    /// It never comes back.
    pub(super) is_gone: bool,
    tick_at_us: u64,
}

impl Node {
    pub(super) fn new(number: usize, disk: Disk) -> Self {
        Self {
            number,
            disk,
            replica: None,
            run: 0,
            ops: VecDeque::new(),
            led: None,
            is_sure: false,
            paused_until_us: 0,
            clock_ahead_us: 0,
            is_slow: false,
            syncs_fail: false,
            has_failed: false,
            promised_at_us: 0,
            is_gone: false,
            tick_at_us: 0,
        }
    }

    pub(super) fn me(&self) -> Member {
        Member {
            node: NodeId(self.number as u32),
            incarnation: self.disk.life,
        }
    }

    pub(super) fn jump_clock(&mut self, us: u64) {
        self.clock_ahead_us += us;
    }
}

type Done = Result<(), String>;

impl World {
    pub(super) fn start(&mut self, node: usize) -> Done {
        if self.nodes[node].is_gone {
            return Ok(());
        }
        self.oracle.recovered(&self.nodes[node])?;
        let n = &mut self.nodes[node];
        n.clock_ahead_us = self.rng.below(1 << 30);
        n.run += 1;
        (n.led, n.is_sure, n.has_failed, n.tick_at_us) = (None, false, false, 0);
        n.ops.clear();
        let start = ReplicaStart {
            me: n.me(),
            promise: n.disk.promise,
            base: n.disk.base,
            spans: n.disk.spans(),
            committed: n.disk.mark.max(n.disk.base.lsn),
        };
        let mut replica = Replica::new(ShardId(0), LIMITS, start)
            .map_err(|e| format!("driver: node {node}: {e}"))?;
        replica.rules.plant = self.options.plant;
        n.replica = Some(replica);
        let run = n.run;
        self.tell(node, run, Input::Tick)
    }

    /// A message arrives.
    pub(super) fn arrives(&mut self, node: usize, packet: Packet) -> Done {
        let n = &self.nodes[node];
        if n.replica.is_none() {
            return Ok(());
        }
        if n.paused_until_us > self.now_us {
            let us = n.paused_until_us - self.now_us;
            self.after(us, Event::Packet(node, Box::new(packet)));
            return Ok(());
        }
        let input = Input::Received(packet.envelope.clone());
        self.step(node, input, Some(&packet))
    }

    /// Something comes to a process.
    pub(super) fn tell(&mut self, node: usize, run: u64, input: Input) -> Done {
        let n = &self.nodes[node];
        if n.replica.is_none() || n.run != run {
            return Ok(());
        }
        if n.paused_until_us > self.now_us {
            let us = n.paused_until_us - self.now_us;
            self.after(us, Event::Tell(node, run, input));
            return Ok(());
        }
        self.step(node, input, None)
    }

    fn step(&mut self, node: usize, input: Input, packet: Option<&Packet>) -> Done {
        let mut out = Outbox::default();
        let n = &mut self.nodes[node];
        let clock_us = self.now_us + n.clock_ahead_us;
        let replica = n.replica.as_mut().expect("callers look");
        replica.step(clock_us, input, &mut out);
        let deadline = replica.deadline();
        if let Some(at_us) = deadline {
            let at_us = at_us
                .saturating_sub(n.clock_ahead_us)
                .max(self.now_us + 100);
            if n.tick_at_us <= self.now_us || at_us < n.tick_at_us {
                n.tick_at_us = at_us;
                let run = n.run;
                self.after(at_us - self.now_us, Event::Tell(node, run, Input::Tick));
            }
        }
        for output in out.drain() {
            self.carry_out(node, output, packet)?;
        }
        self.check_lease(node)
    }

    fn carry_out(&mut self, node: usize, output: Output, packet: Option<&Packet>) -> Done {
        if self.options.tells && !matches!(output, Output::Report(_)) {
            self.tell_story(format_args!("    {node} > {}", Label(&output)));
        }
        match output {
            Output::Send(envelope) => {
                self.check_promise(node, &envelope)?;
                self.send(node, envelope);
            }
            Output::Append(span) => self.append(node, span, packet.expect("it has just come"))?,
            Output::Cut(last) => {
                self.happened("a log was cut");
                self.nodes[node].disk.cut(last);
                self.enqueue(node, Op::Cut(last));
                self.crash_soon(node, 20);
            }
            Output::Persist(promise) => {
                self.enqueue(node, Op::Persist(promise));
                self.crash_soon(node, 5);
            }
            Output::Install(last) => {
                let chain = packet.expect("it has just come").chain;
                self.enqueue(node, Op::Install(last, chain));
            }
            Output::SendSnapshot {
                header,
                least,
                committed,
            } => self.send_snapshot(node, header, [least, committed]),
            Output::Begin(epoch) => self.begin(node, epoch)?,
            Output::Retire => {
                (self.nodes[node].led, self.nodes[node].is_sure) = (None, false);
            }
            Output::Committed(upto) => self.committed(node, upto)?,
            Output::LeaderDoubt => {
                self.happened("a leader was in doubt");
                self.nodes[node].is_sure = false;
            }
            Output::LeaderSure => self.nodes[node].is_sure = true,
            Output::AskCatalog(asked) => {
                self.check_admit(node, &asked)?;
                self.happened(match asked.ask {
                    Ask::Config => "a configuration was asked for",
                    Ask::Learn => "another life came back",
                    Ask::Reappoint => "a leader was restarted",
                    Ask::Lead { .. } => "a longer log was to lead",
                    Ask::Activate => "an epoch was to be active",
                    Ask::Drop(_) => "a member was dead",
                    Ask::Admit(_) => "a learner was admitted",
                });
                self.tell_catalog(node, || Event::Asked(asked.clone()));
            }
            Output::Report(report) => {
                self.tell_catalog(node, || Event::Reported(Box::new(report.clone())))
            }
            Output::Fault(_) if self.options.outcomes_only => {}
            Output::Fault(fault) => return Err(format!("fault at node {node}: {fault}")),
        }
        Ok(())
    }

    fn tell_catalog(&mut self, node: usize, event: impl Fn() -> Event) {
        let arrivals = self
            .net
            .arrivals(node, self.nodes.len(), self.now_us, &mut self.rng);
        for at_us in arrivals.into_iter().flatten() {
            self.at(at_us, event());
        }
    }

    fn send(&mut self, node: usize, envelope: Envelope) {
        let to = envelope.header.to.node.0 as usize;
        let entries = match &envelope.message {
            Message::Append {
                span: Some(span), ..
            } => self.nodes[node].disk.slice(span),
            _ => Vec::new(),
        };
        let packet = Packet {
            envelope,
            entries,
            chain: 0,
        };
        let arrivals = self.net.arrivals(node, to, self.now_us, &mut self.rng);
        for at_us in arrivals.into_iter().flatten() {
            self.at(at_us, Event::Packet(to, Box::new(packet.clone())));
        }
    }

    fn send_snapshot(&mut self, node: usize, header: crate::replica::Header, bounds: [Lsn; 2]) {
        self.happened("a snapshot was sent");
        let mut upto = self.rng.pick(&bounds);
        let disk = &self.nodes[node].disk;
        if disk.entry(upto).is_some_and(|e| !e.ends_group) {
            upto = bounds[1];
        }
        let epoch = disk.entry(upto).map_or(disk.base.epoch, |e| e.epoch);
        let chain = disk.chain_at(upto).unwrap();
        let last = LogId { epoch, lsn: upto };
        let message = Message::Snapshot { last };
        let (run, end_us) = (self.nodes[node].run, self.rng.between(3_000, 30_000));
        self.after(
            end_us,
            Event::Tell(node, run, Input::SnapshotEnded(header.to)),
        );
        // It takes its time, and what is taken for lost may come after all.
        let to = header.to.node.0 as usize;
        let copies = if self.rng.percent(30) { 2 } else { 1 };
        for _ in 0..copies {
            let late_us = self.rng.between(1, 2 * end_us);
            if let [Some(at_us), _] = self.net.arrivals(node, to, self.now_us, &mut self.rng) {
                let packet = Packet {
                    envelope: Envelope {
                        header,
                        message: message.clone(),
                    },
                    entries: Vec::new(),
                    chain,
                };
                self.at(at_us + late_us, Event::Packet(to, Box::new(packet)));
            }
        }
    }

    /// A follower writes what has come.
    fn append(&mut self, node: usize, span: Span, packet: &Packet) -> Done {
        let Message::Append {
            span: Some(sent), ..
        } = &packet.envelope.message
        else {
            return Err(format!("driver: node {node} appends what did not come"));
        };
        let skip = (span.first.0 - sent.first.0) as usize;
        for entry in &packet.entries[skip..] {
            let disk = &mut self.nodes[node].disk;
            let lsn = disk.append(entry.epoch, entry.content, entry.bytes, entry.ends_group);
            self.oracle.entry(&self.nodes[node], lsn)?;
        }
        if self.nodes[node].disk.end() != span.last {
            return Err(format!(
                "driver: node {node} got {span:?} with other entries"
            ));
        }
        self.sync(node);
        Ok(())
    }

    fn begin(&mut self, node: usize, epoch: Epoch) -> Done {
        self.mix(u64::from(epoch.0));
        self.oracle.begins(&self.nodes[node], epoch)?;
        self.nodes[node].led = Some(epoch);
        self.crash_soon(node, 5);
        self.lead_append(node, epoch, 1)
    }

    /// A leader appends groups.
    pub(super) fn lead_append(&mut self, node: usize, epoch: Epoch, groups: u64) -> Done {
        let first = self.nodes[node].disk.end().next();
        let mut bytes = 0;
        let mut last = first;
        for _ in 0..groups {
            let count = if groups == 1 {
                1
            } else {
                self.rng.between(1, 3)
            };
            for at in 1..=count {
                self.given += 1;
                let (content, size) = (self.given, self.rng.between(50, 700));
                let disk = &mut self.nodes[node].disk;
                last = disk.append(epoch, content, size, at == count);
                bytes += size;
                self.oracle.entry(&self.nodes[node], last)?;
            }
        }
        self.sync(node);
        let span = Span {
            epoch,
            first,
            last,
            bytes,
        };
        self.step(node, Input::Written(span), None)
    }

    fn committed(&mut self, node: usize, upto: Lsn) -> Done {
        self.mix(upto.0);
        let led = self.nodes[node].led;
        let mut oracle = std::mem::take(&mut self.oracle);

        let result = oracle.commits(&self.nodes[node], upto, led, &self.disks(), &self.catalog);
        self.oracle = oracle;
        let n = &self.nodes[node];
        if led.is_none() && upto > n.disk.durable() && !self.options.outcomes_only {
            return Err(format!(
                "visible: node {node} shows {upto}, durable to {}",
                n.disk.durable()
            ));
        }
        result
    }

    /// What was promised binds: nothing is acknowledged to a leader of a lower epoch.
    fn check_promise(&self, node: usize, envelope: &Envelope) -> Done {
        let following = Standing::Following;
        let acks =
            matches!(&envelope.message, Message::Ack { standing, .. } if *standing == following);
        let kept = self.nodes[node].disk.promise.map_or(Epoch(0), |p| p.epoch);
        let epoch = envelope.header.epoch;
        if acks && epoch < kept && !self.options.outcomes_only {
            return Err(format!(
                "promises: node {node} acks in {epoch} after {kept}"
            ));
        }
        Ok(())
    }

    fn check_admit(&self, node: usize, asked: &Asked) -> Done {
        let Ask::Admit(learner) = asked.ask else {
            return Ok(());
        };
        if asked.epoch != self.catalog.config.epoch {
            // Nobody listens to it, and another leader may have cut the learner.
            return Ok(());
        }
        let other = &self.nodes[learner.node.0 as usize];
        let lag = self.nodes[node].disk.bytes_above(other.disk.durable());
        let is_far = other.disk.life == learner.incarnation && lag > LIMITS.admit_bytes;
        if is_far && !self.options.outcomes_only {
            return Err(format!("admission: {learner} lacks {lag} bytes"));
        }
        Ok(())
    }

    /// Producers send to whoever says that it leads.
    pub(super) fn produce(&mut self) -> Done {
        let node = self.rng.index(self.nodes.len());
        let n = &self.nodes[node];
        if n.paused_until_us > self.now_us || n.replica.is_none() {
            return Ok(());
        }
        let Some(epoch) = n.led else {
            return Ok(());
        };
        // A shard refuses producers when too much waits for the disks.
        let committed = n.replica.as_ref().map_or(Lsn(0), Replica::committed);
        if n.disk.end().0 > committed.0 + PENDING {
            return Ok(());
        }
        let groups = self.rng.between(1, 4);
        self.lead_append(node, epoch, groups)
    }

    /// Readers ask whoever is sure to lead; logs are trimmed.
    pub(super) fn look(&mut self) -> Done {
        let node = self.rng.index(self.nodes.len());
        let run = self.nodes[node].run;
        if self.nodes[node].replica.is_none() || self.nodes[node].paused_until_us > self.now_us {
            return Ok(());
        }
        self.tell(node, run, Input::Tick)?;
        if self.rng.percent(10) {
            self.trim(node)?;
        }
        if self.rng.percent(20)
            && let Some(replica) = &self.nodes[node].replica
        {
            let known = replica.committed();
            let disk = &mut self.nodes[node].disk;
            disk.mark = known.min(disk.durable()).max(disk.mark);
        }
        Ok(())
    }

    /// A leader that serves reads is not long behind another one.
    fn check_lease(&self, node: usize) -> Done {
        let n = &self.nodes[node];
        let Some(epoch) = n.led.filter(|_| n.is_sure) else {
            return Ok(());
        };
        let newer = self.catalog.activated_us.iter().find(|(e, _)| **e > epoch);
        if let Some((newer, at_us)) = newer
            && self.now_us >= at_us + LIMITS.doubt_us
        {
            return Err(format!(
                "doubt: node {node} is sure of epoch {epoch}, {newer} is active since {at_us}"
            ));
        }
        Ok(())
    }

    fn trim(&mut self, node: usize) -> Done {
        let n = &self.nodes[node];
        let Some(replica) = &n.replica else {
            return Ok(());
        };
        let mut upto = replica.committed().min(n.disk.durable());
        if self.is_calm || self.rng.percent(60) {
            upto = upto.min(Lsn(replica.keep_from().0 - 1));
        }
        while n.disk.entry(upto).is_some_and(|e| !e.ends_group) {
            upto.0 -= 1;
        }
        let busy = n
            .ops
            .iter()
            .any(|op| matches!(op, Op::Cut(_) | Op::Install(..)));
        if upto <= n.disk.base.lsn || busy {
            return Ok(());
        }
        let run = n.run;
        self.nodes[node].disk.trim(upto);
        self.tell(node, run, Input::Trimmed(upto))
    }
}
