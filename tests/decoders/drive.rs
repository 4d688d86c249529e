//! The driver: seeds, what is cut off them, and mutations, the same ones in every run.

use crate::mutate::Mutations;
use crate::targets::{self, Target};
use crate::{regressions, seeds};
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;

/// Seeds up to this length are cut off at every byte.
const CUT_BYTES_MAX: usize = 1024;

/// Runs the decoder of this name over its seeds and `mutations` mutations of them.
pub(crate) fn run(name: &str, mutations: u64) {
    let target = targets::ALL.iter().find(|t| t.name == name);
    let target = target.expect("it is in the table");
    let seeds = seeds::of(name);
    assert!(!seeds.is_empty(), "nothing to start from");
    if let Some(dir) = std::env::var_os("FLOWSTONE_CORPUS") {
        export(&Path::new(&dir).join(name), &seeds);
    }
    // What is made once is not this input's.
    (target.run)(&seeds[0]);
    for input in regressions::of(name) {
        one(target, &input);
    }
    for seed in &seeds {
        one(target, seed);
        for end in 0..seed.len().min(CUT_BYTES_MAX) {
            one(target, &seed[..end]);
        }
    }
    let wanted = std::env::var("FLOWSTONE_MUTATIONS").ok();
    let mutations = wanted.and_then(|n| n.parse().ok()).unwrap_or(mutations);
    let mut source = Mutations::new(name, &seeds);
    for _ in 0..mutations {
        one(target, &source.next_input());
    }
    if name == "http" {
        targets::stop();
    }
}

/// Gives the decoder one input, and shows the input where something does not hold.
fn one(target: &Target, input: &[u8]) {
    let mut result = Ok(());
    let used = allocation_counter::measure(|| {
        result = catch_unwind(|| (target.run)(input));
    });
    if let Err(panic) = result {
        let (name, bytes) = (target.name, input.len());
        eprintln!("{name}: {bytes} bytes: b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
    let bound = target.base_bytes + target.per_byte * input.len() as u64;
    assert!(
        used.bytes_max <= bound,
        "{}: {} bytes of memory for {} of input, at most {bound} are allowed: b\"{}\"",
        target.name,
        used.bytes_max,
        input.len(),
        input.escape_ascii()
    );
}

fn export(dir: &Path, seeds: &[Vec<u8>]) {
    std::fs::create_dir_all(dir).unwrap();
    for (i, seed) in seeds.iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{i:03}")), seed).unwrap();
    }
}
