//! The simulation: whole nodes in virtual time, one seed a run, every fault a disk and a process can
//! have, and a checker for every promise.
//!
//! `FLOWSTONE_SEEDS=n` or `from..to` runs more seeds, `FLOWSTONE_SEED=n` one of them, `FLOWSTONE_OFF`,
//! `FLOWSTONE_SHARDS` and `FLOWSTONE_BUSY_MS` less of it (see `scenario.rs`). What fails is run again with
//! ever less of it, and the least that still fails is printed with the variables that say it.
#![expect(clippy::unwrap_used, reason = "tests may")]

mod carry;
mod check;
mod clients;
mod faults;
mod host;
mod images;
mod label;
mod life;
mod look;
mod node;
mod pipelines;
mod planted;
mod record;
mod rng;
mod run;
mod scenario;
mod shrink;
mod tier;
mod trace;
mod world;

use run::{Broken, run};
use scenario::Options;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;
use trace::RARE;

/// Seeds of one ordinary test run.
const SEEDS: u64 = 600;

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The seeds to run: `FLOWSTONE_SEED=n` is one, `FLOWSTONE_SEEDS` is a number of them or `from..to`.
fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse().expect("a seed is a number");
    if let Some(seed) = env("FLOWSTONE_SEED") {
        let seed: u64 = number(&seed);
        return seed..seed + 1;
    }
    match env("FLOWSTONE_SEEDS") {
        None => 0..SEEDS,
        Some(text) => match text.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&text),
        },
    }
}

/// What many seeds gave.
#[derive(Default)]
struct Found {
    rare: BTreeSet<&'static str>,
    failure: Option<(u64, Broken)>,
}

/// Runs seeds on all cores: each thread takes the next one, and all stop when one has failed.
fn run_all(seeds: Range<u64>, options: &Options) -> Found {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(Found::default()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = run(seed, options.clone());
            let mut found = found.lock().unwrap();
            match result {
                Ok(kept) => found.rare.extend(kept.rare),
                Err(failure) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    if found.failure.as_ref().is_none_or(|(s, _)| seed < *s) {
                        found.failure = Some((seed, failure));
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(worker);
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn every_promise_holds() {
    let (seeds, options) = (seeds(), Options::from_env(env));
    let (count, started) = (seeds.end - seeds.start, Instant::now());
    let is_ordinary = count >= SEEDS && options == Options::default();
    let found = run_all(seeds, &options);
    if let Some((seed, failure)) = found.failure {
        tell(seed, options, failure);
    }
    let took = started.elapsed().as_secs_f64();
    println!("{count} seeds in {took:.1} s, {:.0}/s", count as f64 / took);
    let missing: Vec<_> = RARE.iter().filter(|r| !found.rare.contains(**r)).collect();
    println!("never happened: {missing:?}");
    assert!(
        !is_ordinary || missing.is_empty(),
        "some things never happened"
    );
}

/// Finds the least of a failure and shows it.
fn tell(seed: u64, options: Options, failure: Broken) -> ! {
    println!("{}\nseed {seed}: {}", failure.trace, failure.what);
    let least = shrink::shrink(seed, options, failure);
    panic!(
        "{}\nseed {seed}, the least that fails after {} runs: {}\nreproduce with {}",
        least.failure.trace,
        least.runs,
        least.failure.what,
        least.command(seed)
    );
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
