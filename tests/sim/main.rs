//! The simulation: whole shards in virtual time, one seed a run, every fault a disk and a process can
//! have, and a checker for every promise.
//!
//! `FLOWSTONE_SEEDS=n` runs more seeds, `FLOWSTONE_SEED=n` one of them.
#![expect(clippy::unwrap_used, reason = "tests may")]

mod check;
mod clients;
mod faults;
mod images;
mod label;
mod life;
mod node;
mod pipelines;
mod planted;
mod record;
mod rng;
mod run;
mod trace;
mod world;

use run::{Options, run};

/// Seeds of one ordinary test run.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a seed is a number"))
}

/// Runs the seeds of one residue class, so that the classes can run beside each other.
fn run_class(class: u64, classes: u64) {
    let seeds = match number("FLOWSTONE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLOWSTONE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds.filter(|s| s % classes == class) {
        if let Err(failure) = run(seed, Options::default()) {
            panic!(
                "{}\nseed {seed}: {}\nreproduce with FLOWSTONE_SEED={seed}",
                failure.trace, failure.what
            );
        }
    }
}

#[test]
fn every_promise_holds_on_even_seeds() {
    run_class(0, 2);
}

#[test]
fn every_promise_holds_on_odd_seeds() {
    run_class(1, 2);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 4] {
        let hash = |seed| run(seed, Options::default()).map_err(|f| f.what);
        let (first, second) = (hash(seed), hash(seed));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first, hash(seed + 1000), "another seed is another run");
    }
}
