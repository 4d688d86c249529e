//! The simulation of replication: some nodes, a catalog, disks, a network, virtual time; one seed a run.
//!
//! `FLOWSTONE_SEEDS=n` or `from..to` runs more seeds, `FLOWSTONE_SEED=n` one of them and tells its story.
#![cfg(test)]

pub(crate) mod catalog;
mod device;
mod disk;
mod faults;
mod label;
mod net;
mod node;
mod oracle;
mod planted;
pub(crate) mod rng;
mod world;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::{Options, Story, World};

/// Seeds of one ordinary test run.
const SEEDS: u64 = 5000;

/// Rare things, each of which must happen in some seed: else nothing was proved of it.
const RARE: [&str; 14] = [
    "a node stayed away",
    "a log was cut",
    "a leader was in doubt",
    "a snapshot was sent",
    "a snapshot was installed",
    "a process slept",
    "a node lost its data",
    "a configuration was asked for",
    "another life came back",
    "a leader was restarted",
    "a longer log was to lead",
    "an epoch was to be active",
    "a member was dead",
    "a learner was admitted",
];

/// The seeds to run: so many, unless the environment says others.
pub(crate) fn seeds(count: u64) -> Range<u64> {
    let number = |text: &str| text.parse().expect("a seed is a number");
    if let Ok(seed) = std::env::var("FLOWSTONE_SEED") {
        let seed: u64 = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("FLOWSTONE_SEEDS") {
        Err(_) => 0..count,
        Ok(text) => match text.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&text),
        },
    }
}

/// Runs seeds on all cores until one fails.
fn run_all(seeds: Range<u64>) -> (BTreeSet<&'static str>, [u64; 3], Option<(u64, Story)>) {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((BTreeSet::new(), [0; 3], None));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let story = World::run(seed, Options::default());
            let mut found = found.lock().unwrap();
            found.0.extend(story.rare.iter().copied());
            let counts = [story.events, story.committed, story.epochs];
            found
                .1
                .iter_mut()
                .zip(counts)
                .for_each(|(all, one)| *all += one);
            if story.failure.is_some() {
                next.store(seeds.end, Ordering::Relaxed);
                if found.2.as_ref().is_none_or(|(s, _)| seed < *s) {
                    found.2 = Some((seed, story));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(worker);
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn every_promise_holds() {
    let (seeds, started) = (seeds(SEEDS), Instant::now());
    let (count, is_ordinary) = (seeds.end - seeds.start, seeds.end - seeds.start >= SEEDS);
    let (rare, [events, committed, epochs], failure) = run_all(seeds);
    if let Some((seed, story)) = failure {
        let tells = true;
        let again = World::run(
            seed,
            Options {
                tells,
                ..Options::default()
            },
        );
        let from = again.lines.len().saturating_sub(lines());
        println!("{}", again.lines[from..].join("\n"));
        assert_eq!(
            again.hash, story.hash,
            "seed {seed} is not the same run twice"
        );
        panic!("FLOWSTONE_SEED={seed}: {}", story.failure.unwrap());
    }
    let took = started.elapsed().as_secs_f64();
    let rate = count as f64 / took;
    println!(
        "{count} seeds in {took:.1} s, {rate:.0}/s: {events} events, {epochs} active epochs, {committed} entries"
    );
    let missing: Vec<_> = RARE.iter().filter(|r| !rare.contains(**r)).collect();
    assert!(
        !is_ordinary || missing.is_empty(),
        "never happened: {missing:?}"
    );
}

/// How much of a failure's story is shown: `FLOWSTONE_LINES`, or what fits a few screens.
fn lines() -> usize {
    std::env::var("FLOWSTONE_LINES").map_or(200, |n| n.parse().expect("a number"))
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 4] {
        let run = |seed| {
            let story = World::run(seed, Options::default());
            (story.hash, story.events, story.failure)
        };
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(
            run(seed).0,
            run(seed + 1000).0,
            "another seed is another run"
        );
    }
}
