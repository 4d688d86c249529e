//! What goes wrong, and when: power cuts, kills, a disk that stops, fails, fills up or is slow, and
//! clocks that jump.

use crate::check::End;
use crate::run::{Event, Sim};
use crate::world::RESERVE_BYTES;
use flowstone_core::Input;
use flowstone_storage::Disk;

/// Operations of the disk within which a planned stop happens.
const STOP_WITHIN: u64 = 120;

impl Sim {
    /// Has something go wrong, and plans the next time.
    pub(crate) fn fault(&mut self) -> Result<(), String> {
        if self.closing {
            return Ok(());
        }
        let us = self.rng.between(1000, 500_000);
        self.after(us, Event::Fault);
        match self.rng.below(16) {
            0..2 if self.node.is_some() => self.end_somehow(),
            2..6 if self.node.is_some() => {
                self.stop_disk(STOP_WITHIN);
                Ok(())
            }
            6..8 => {
                self.trouble.slow = true;
                self.heal_later(400_000);
                Ok(())
            }
            8..10 => {
                self.fill_disk();
                self.heal_later(1_000_000);
                Ok(())
            }
            10 | 11 if self.node.is_some() => {
                self.disk.fail_syncs(true);
                (self.trouble.syncs_fail, self.trouble.tainted) = (true, true);
                self.trace.note(self.now_us, format_args!("   syncs fail"));
                self.heal_later(100_000);
                Ok(())
            }
            12 => {
                self.jump_ms += self.rng.below(2000) as i64 - 800;
                Ok(())
            }
            13 if self.node.is_some() => self.step(Input::Drain),
            _ => Ok(()),
        }
    }

    fn heal_later(&mut self, most_us: u64) {
        let us = self.rng.below(most_us);
        self.after(us, Event::Heal);
    }

    fn fill_disk(&mut self) {
        self.disk.set_capacity(Some(u64::MAX / 2));
        let used = u64::MAX / 2 - self.disk.free_bytes().unwrap();
        let free = self
            .rng
            .between(RESERVE_BYTES / 2, RESERVE_BYTES + (32 << 10));
        self.disk.set_capacity(Some(used + free));
        self.trouble.full = true;
        self.trace
            .note(self.now_us, format_args!("   disk has {free} bytes"));
    }

    /// Ends every trouble that lasts.
    pub(crate) fn heal(&mut self) {
        self.disk.set_capacity(None);
        self.disk.fail_syncs(false);
        self.trouble.slow = false;
        self.trouble.full = false;
        self.trouble.syncs_fail = false;
        self.trace.note(self.now_us, format_args!("   healed"));
    }

    /// The disk stops in the middle of one of its next operations, and with it the process.
    fn stop_disk(&mut self, within: u64) {
        let operations = self.rng.below(within);
        self.disk.stop_after(operations);
        self.trouble.dead_at = Some(self.disk.operations() + operations);
        self.trace.note(
            self.now_us,
            format_args!("   disk stops after {operations}"),
        );
    }

    /// A start may be interrupted, too.
    pub(crate) fn arm_start(&mut self) {
        if !self.closing && self.rng.percent(30) {
            self.stop_disk(STOP_WITHIN / 2);
        }
    }

    /// Whether the process has ended in the middle of an operation of the disk.
    pub(crate) fn is_dead(&self) -> bool {
        self.trouble
            .dead_at
            .is_some_and(|at| self.disk.operations() > at)
    }

    /// Ends the process by a kill or by a power cut. After a sync that failed, only a power cut tells
    /// what is on the disk.
    pub(crate) fn end_somehow(&mut self) -> Result<(), String> {
        let kill = self.rng.percent(40) && !self.trouble.tainted;
        self.end(if kill { End::Kill } else { End::PowerCut })
    }

    /// From now on nothing goes wrong, and nothing new begins.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.closing = true;
        self.trace.note(self.now_us, format_args!("   closing"));
        self.heal();
        let tainted = self.trouble.tainted || self.trouble.dead_at.is_some();
        let fenced = self
            .node
            .as_ref()
            .is_some_and(|n| n.shard.fenced().is_some());
        self.world.running = self.world.tasks.keys().copied().collect();
        if self.node.is_some() && (tainted || fenced) {
            return self.end(End::PowerCut);
        }
        for id in self.world.running.clone() {
            let config = self.world.tasks[&id].clone();
            self.step(Input::StartTask(Box::new(config)))?;
        }
        Ok(())
    }
}
