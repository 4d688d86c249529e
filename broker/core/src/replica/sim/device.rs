//! What the disk of a node does, one thing after the other, and what ends with a process.
#![cfg(test)]

use super::disk::End;
use super::world::{Event, World};
use crate::replica::rules::Plant;
use crate::replica::{Input, LogId, Promise};
use flowstone_wire::Lsn;

/// Something the disk does; one after the other.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Sync,
    /// What was written when the sync began.
    Syncing(LogId),
    Persist(Promise),
    Cut(Lsn),
    /// With the chain there.
    Install(LogId, u64),
}

type Done = Result<(), String>;

impl World {
    pub(super) fn sync(&mut self, node: usize) {
        let ops = &self.nodes[node].ops;
        // One that has not begun will take this, too.
        if !ops.iter().any(|op| matches!(op, Op::Sync)) {
            self.enqueue(node, Op::Sync);
        }
    }

    pub(super) fn enqueue(&mut self, node: usize, op: Op) {
        if let (Op::Persist(promise), true) = (&op, self.promises_apart) {
            return self.persist_apart(node, *promise);
        }
        self.nodes[node].ops.push_back(op);
        if self.nodes[node].ops.len() == 1 {
            self.begin_op(node);
        }
    }

    /// Promises are in a file of their own: they are durable in their order, and before or after what
    /// is written to the log.
    fn persist_apart(&mut self, node: usize, promise: Promise) {
        let us = self.rng.between(50, 1_500);
        let n = &mut self.nodes[node];
        n.promised_at_us = (self.now_us + us).max(n.promised_at_us + 1);
        let (at_us, run) = (n.promised_at_us, n.run);
        self.at(at_us, Event::Done(node, run, Op::Persist(promise)));
    }

    fn begin_op(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let Some(op) = n.ops.front_mut() else {
            return;
        };
        if matches!(op, Op::Sync) {
            *op = Op::Syncing(n.disk.end_id());
        }
        let (op, run) = (op.clone(), n.run);
        let most = if n.is_slow { 60_000 } else { 1_500 };
        let us = self.rng.between(50, most);
        self.after(us, Event::Done(node, run, op));
    }

    /// The disk has done something.
    pub(super) fn done(&mut self, node: usize, run: u64, op: Op) -> Done {
        let n = &mut self.nodes[node];
        if n.replica.is_none() || n.run != run {
            return Ok(());
        }
        let is_apart = matches!(op, Op::Persist(_)) && self.promises_apart;
        if !is_apart {
            n.ops.pop_front();
        }
        if n.syncs_fail {
            n.has_failed = true;
            n.ops.clear();
            let us = self.rng.between(1_000, 40_000);
            self.tell(node, run, Input::Failed)?;
            return self.end(node, End::PowerCut, us);
        }
        let input = self.take_effect(node, op)?;
        if !is_apart {
            self.begin_op(node);
        }
        // The device is faster than the word of it; a little later than the contract has it.
        let us = match input {
            Input::Durable(_) => self.rng.below(if self.planted(Plant::BelieveOldSync) {
                20_000
            } else {
                200
            }),
            _ => 0,
        };
        if us == 0 {
            return self.tell(node, run, input);
        }
        self.after(us, Event::Tell(node, run, input));
        Ok(())
    }

    fn planted(&self, plant: Plant) -> bool {
        self.options.plant == Some(plant)
    }

    fn take_effect(&mut self, node: usize, op: Op) -> Result<Input, String> {
        let me = self.nodes[node].me();
        let disk = &mut self.nodes[node].disk;
        Ok(match op {
            Op::Sync => Input::Tick,
            Op::Syncing(upto) => {
                disk.synced(upto);
                Input::Durable(upto)
            }
            Op::Persist(promise) => {
                disk.promise = Some(promise);
                self.oracle.promises(me, promise)?;
                Input::Persisted(promise.epoch)
            }
            Op::Cut(last) => {
                disk.cut_done(last);
                Input::CutDone(last)
            }
            Op::Install(last, chain) => {
                disk.install(last, chain);
                self.happened("a snapshot was installed");
                self.oracle.has_committed(&self.nodes[node], last.lsn)?;
                Input::Installed(last)
            }
        })
    }

    /// Ends a process, and starts another one after a while.
    pub(super) fn end(&mut self, node: usize, end: End, down_us: u64) -> Done {
        self.tell_story(format_args!("    {node}: {end:?}"));
        let n = &mut self.nodes[node];
        n.replica = None;
        n.paused_until_us = 0;
        // What the disk was doing may have been done.
        let doing = n.ops.front().cloned();
        n.ops.clear();
        n.run += 1;
        if let Some(op) = doing.filter(|_| self.rng.percent(50)) {
            self.take_effect(node, op)?;
        }
        self.nodes[node].disk.ended(end, &mut self.rng);
        self.after(down_us, Event::Start(node));
        Ok(())
    }
}
