//! What goes wrong: processes and power end, links are cut, an operator moves things.

use super::node::Work;
use super::world::{Event, World};
use flowstone_storage::sim_disk::Fate;

impl World {
    pub(super) fn fault(&mut self) {
        let n = self.rng.index(self.nodes.len());
        let kind = self.rng.below(13);
        self.tell(|| format!("fault {kind} at node {n}"));
        match kind {
            0..=3 => self.stop(n, kind < 2),
            4..=6 => {
                let to = self.rng.index(self.nodes.len());
                self.rare.insert("a link was cut");
                self.cut.insert((n, to));
                if self.rng.percent(60) {
                    self.cut.insert((to, n));
                }
            }
            7 => {
                // All of its links: it does not know, and the catalog hears it still.
                for other in 0..self.nodes.len() {
                    self.cut.extend([(n, other), (other, n)]);
                }
            }
            8..=9 => self.cut.clear(),
            _ => {
                let sent = self.catalog.meddle(self.now_us, &mut self.rng);
                self.send_all(sent);
            }
        }
    }

    /// The process ends, with or without the power, and starts again soon.
    fn stop(&mut self, n: usize, power: bool) {
        let Self { rng, nodes, .. } = self;
        let node = &mut nodes[n];
        if node.live.take().is_none() {
            return;
        }
        node.disk = if power {
            self.rare.insert("the power was cut");
            let names = node.disk.unsynced().1;
            let kept = rng.index(names + 1);
            let fate = |_| match rng.below(3) {
                0 => Fate::Lost,
                1 => Fate::Kept,
                _ => Fate::Torn(rng.index(200)),
            };
            node.disk.crash(fate, kept)
        } else {
            self.rare.insert("a process was killed");
            node.disk.kill()
        };
        node.boot += 1;
        let (boot, after_us) = (node.boot, self.rng.between(10_000, 4_000_000));
        self.clients.forget(n);
        let work = Work::Open;
        self.at(
            after_us,
            Event::Work {
                node: n,
                boot,
                work,
            },
        );
    }

    pub(super) fn heal(&mut self) {
        self.tell(|| "calm".into());
        self.cut.clear();
        let sent = self.catalog.calm_with_all(self.now_us);
        self.send_all(sent);
    }
}
