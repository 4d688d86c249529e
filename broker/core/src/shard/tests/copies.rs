//! Several copies of a shard: whole shards on simulated disks, a network, the real catalog, virtual time.
//!
//! What the replica decides is proven in `replica::sim`; here it is carried out on real logs, with producers,
//! readers and a task. A seed is a run. `FLOWSTONE_SEEDS=n` or `from..to` runs more of them, `FLOWSTONE_SEED=n`
//! one and tells its story.

mod bucket;
mod checks;
mod clients;
mod faults;
mod node;
mod refusals;
mod world;

use crate::replica::sim::seeds;
use std::collections::BTreeSet;
use world::World;

const SEEDS: u64 = 150;

/// Rare things, each of which must happen in some seed: else nothing was proved of it.
const RARE: [&str; 18] = [
    "state was read back",
    "a log was cut",
    "a leader retired",
    "a shard was opened again",
    "a process was killed",
    "the power was cut",
    "a link was cut",
    "an outcome was lost",
    "a retry was a duplicate",
    "a task went on elsewhere",
    "a segment was settled",
    "a snapshot was installed",
    "a local file went",
    "a local file went for others",
    "what another leader has uploaded was taken over",
    "something was read from the bucket",
    "segments of two leaders overlap",
    "a leader of before was refused by the bucket",
];

#[test]
fn what_is_acknowledged_is_there_once_and_in_order_on_all_copies() {
    let seeds = seeds(SEEDS);
    let (one, ordinary) = (
        seeds.end - seeds.start == 1,
        seeds.end - seeds.start >= SEEDS,
    );
    let (mut rare, mut acked, mut epochs) = (BTreeSet::new(), 0, 0);
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| World::run(seed, one));
        let Ok(story) = ran else {
            panic!("FLOWSTONE_SEED={seed} fails");
        };
        rare.extend(story.rare);
        acked += story.acked;
        epochs += story.epochs;
    }
    println!("{acked} batches acknowledged in {epochs} epochs");
    let missing: Vec<_> = RARE.iter().filter(|r| !rare.contains(**r)).collect();
    assert!(
        !ordinary || missing.is_empty(),
        "never happened: {missing:?}"
    );
}
