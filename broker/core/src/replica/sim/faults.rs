//! What goes wrong in a run, and when.
#![cfg(test)]

use super::disk::End;
use super::world::{Event, World};
use crate::replica::seal_quorum;
use flowstone_wire::Incarnation;

impl World {
    /// Has something go wrong, and plans the next time.
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        let us = self.rng.between(1, self.fault_us * 2);
        self.after(us, Event::Fault);
        let node = self.rng.index(self.nodes.len());
        match self.rng.below(20) {
            0..=2 => self.end_somehow(node),
            3 => self.lose_data(node),
            4 | 5 => {
                let us = self.rng.between(1_000, 300_000);
                self.nodes[node].paused_until_us = self.now_us + us;
                self.happened("a process slept");
                Ok(())
            }
            6..=8 => {
                self.net.part(&mut self.rng);
                let us = self.rng.between(1_000, 200_000);
                self.after(us, Event::Heal);
                Ok(())
            }
            9 => {
                self.nodes[node].is_slow ^= true;
                Ok(())
            }
            10 => {
                self.nodes[node].syncs_fail = true;
                Ok(())
            }
            11 => {
                let us = self.rng.below(200_000);
                self.nodes[node].jump_clock(us);
                Ok(())
            }
            12 => self.end_all(),
            13 => self.end_leader(),
            14 => {
                // It goes on with what producers send it, and the others go on without.
                let leader = self.catalog.config.leader.node.0 as usize;
                self.net.isolate(leader);
                let us = self.rng.between(50_000, 300_000);
                self.after(us, Event::Heal);
                Ok(())
            }
            15 | 16 => {
                // The catalog and one node see the leader no more; the others see all of them.
                let leader = self.catalog.config.leader.node.0 as usize;
                self.net.block(leader, self.nodes.len());
                self.net.block(leader, node);
                let other = self.rng.index(self.nodes.len());
                self.nodes[other].is_slow = self.rng.percent(50);
                let us = self.rng.between(50_000, 300_000);
                self.after(us, Event::Heal);
                Ok(())
            }
            _ => {
                let sent = self.catalog.meddle(self.now_us, &mut self.rng);
                self.send_out(sent);
                Ok(())
            }
        }
    }

    fn end_somehow(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].replica.is_none() {
            return Ok(());
        }
        let end = if self.rng.percent(40) {
            End::Kill
        } else {
            End::PowerCut
        };
        let us = self.down_us();
        self.nodes[node].syncs_fail = false;
        self.end(node, end, us)
    }

    /// Plans a power cut for the moment after something that must not be half done.
    pub(super) fn crash_soon(&mut self, node: usize, chance: u64) {
        if !self.is_calm && self.rng.percent(chance) {
            let (us, run) = (self.rng.below(4_000), self.nodes[node].run);
            self.after(us, Event::Crash(node, run));
        }
    }

    pub(super) fn crash(&mut self, node: usize, run: u64) -> Result<(), String> {
        if self.is_calm || self.nodes[node].replica.is_none() || self.nodes[node].run != run {
            return Ok(());
        }
        let us = self.down_us();
        self.end(node, End::PowerCut, us)
    }

    fn down_us(&mut self) -> u64 {
        let most = self.rng.pick(&[2_000, 20_000, 300_000]);
        self.rng.between(500, most)
    }

    /// The leader, as the catalog has it, and some of the others at the same moment.
    fn end_leader(&mut self) -> Result<(), String> {
        let leader = self.catalog.config.leader.node.0 as usize;
        self.end_somehow(leader)?;
        let node = self.rng.index(self.nodes.len());
        if self.rng.percent(50) {
            self.end_somehow(node)?;
        }
        Ok(())
    }

    /// The power of all nodes goes at once.
    fn end_all(&mut self) -> Result<(), String> {
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.is_some() {
                let us = self.down_us();
                self.end(node, End::PowerCut, us)?;
            }
        }
        Ok(())
    }

    /// A node loses what was durable, and finds that out at its next start. Not so many of them that
    /// nothing could be sealed any more: then the shard stays closed, and rightly so.
    fn lose_data(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].replica.is_none() {
            return Ok(());
        }
        if !self.can_go_on_without(node) {
            return Ok(());
        }
        let us = self.down_us();
        self.end(node, End::PowerCut, us)?;
        self.given += 1;
        let life = Incarnation(self.given);
        self.nodes[node].disk.forget(life, &mut self.rng);
        self.happened("a node lost its data");
        Ok(())
    }

    /// Whether what is committed could still be found if this node had nothing any more.
    pub(super) fn can_go_on_without(&self, node: usize) -> bool {
        let sets = [Some(&self.catalog.config), self.catalog.active.as_ref()];
        sets.into_iter().flatten().all(|set| {
            let others = set.members.iter().filter(|m| m.node.0 as usize != node);
            let whole = others.filter(|m| self.nodes[m.node.0 as usize].me() == **m);
            whole.count() >= seal_quorum(set.members.len())
        })
    }
}
