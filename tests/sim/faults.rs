//! What goes wrong, and when: power cuts, kills, a disk that stops, fails, fills up or is slow, and
//! clocks that jump.

use crate::check::End;
use crate::node::Node;
use crate::run::{Event, Sim};
use crate::scenario::Part;
use crate::world::RESERVE_BYTES;
use flowstone_storage::Disk;
use flowstone_wire::ShardId;

/// Operations of the disk within which a planned stop happens.
const STOP_WITHIN: u64 = 120;

impl Sim {
    /// Has something go wrong, and plans the next time.
    pub(crate) fn fault(&mut self) -> Result<(), String> {
        if self.closing {
            return Ok(());
        }
        let us = self.rng.between(1000, self.world.calm_us);
        self.after(us, Event::Fault);
        let options = &self.options;
        match self.rng.below(16) {
            0..2 if self.node.is_some() && options.has(Part::Ends) => self.end_somehow(),
            2..6 if self.node.is_some() && options.has(Part::Stops) => {
                self.stop_disk(STOP_WITHIN);
                Ok(())
            }
            6..8 if options.has(Part::SlowDisk) => {
                self.trouble.slow = true;
                self.heal_later(400_000);
                Ok(())
            }
            8..10 if options.has(Part::FullDisk) => {
                self.fill_disk();
                self.heal_later(1_000_000);
                Ok(())
            }
            10 | 11 if self.node.is_some() && options.has(Part::FailingSyncs) => {
                self.break_syncs();
                self.heal_later(100_000);
                Ok(())
            }
            12 if options.has(Part::ClockJumps) => {
                self.jump_ms += self.rng.below(2000) as i64 - 800;
                Ok(())
            }
            13 if self.node.is_some() && options.has(Part::Drains) => self.drain(),
            _ => Ok(()),
        }
    }

    /// The device does not take what one shard syncs, or what any of them does.
    fn break_syncs(&mut self) {
        let one = self.rng.below(u64::from(self.world.shards)) as u16;
        let all = self.rng.percent(50);
        let broken: Vec<ShardId> = self
            .world
            .all_shards()
            .filter(|s| all || s.0 == one)
            .collect();
        self.trace
            .note(self.now_us, format_args!("   syncs of {broken:?} fail"));
        self.trouble.syncs_fail.extend(&broken);
        self.trouble.tainted.extend(&broken);
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
        self.trouble.syncs_fail.clear();
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
        if !self.closing && self.rng.percent(30) && self.options.has(Part::CutStarts) {
            self.stop_disk(STOP_WITHIN / 2);
        }
    }

    /// Whether the process has ended in the middle of an operation of the disk.
    pub(crate) fn is_dead(&self) -> bool {
        self.trouble
            .dead_at
            .is_some_and(|at| self.disk.operations() > at)
    }

    /// Ends the process by a kill or by a power cut.
    pub(crate) fn end_somehow(&mut self) -> Result<(), String> {
        let kill = self.rng.percent(40);
        self.end(if kill { End::Kill } else { End::PowerCut })
    }

    /// From now on nothing goes wrong, and nothing new begins.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.closing = true;
        self.trace.note(self.now_us, format_args!("   closing"));
        self.heal();
        let tainted = !self.trouble.tainted.is_empty() || self.trouble.dead_at.is_some();
        let fenced = self.node.as_ref().is_some_and(Node::any_fenced);
        self.world.running = self.world.tasks.keys().copied().collect();
        if self.node.is_some() && (tainted || fenced) {
            return self.end(End::PowerCut);
        }
        self.start_tasks()
    }
}
