//! Every decoder of untrusted bytes, with valid inputs and many thousand mutations of them.
//!
//! `FLOWSTONE_MUTATIONS=n` tries n mutations for each decoder; `FLOWSTONE_CORPUS=dir` writes the valid
//! inputs to `dir/<decoder>/`, where libFuzzer (`tests/fuzz`) begins.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod drive;
mod mutate;
mod regressions;
mod seeds;
mod targets;

/// One test per decoder, with a number of mutations that takes a second or two.
macro_rules! decoders {
    ($($name:ident: $mutations:literal,)*) => {
        $(#[test]
        fn $name() {
            drive::run(stringify!($name), $mutations);
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

decoders! {
    batch: 100_000,
    body: 100_000,
    frame: 200_000,
    native: 200_000,
    name: 200_000,
    settled: 100_000,
    mark: 50_000,
    index: 30_000,
    log: 60_000,
    rows: 3_000,
    delta: 200_000,
    entries: 200_000,
    spec: 100_000,
    text: 100_000,
    http: 10_000,
    manifest: 100_000,
    owner: 100_000,
    document: 100_000,
    stranger: 100_000,
    peer: 200_000,
}

#[test]
fn every_decoder_has_a_test_and_a_fuzz_target() {
    let names: Vec<&str> = targets::ALL.iter().map(|t| t.name).collect();
    assert_eq!(names, NAMES);
    let fuzz = include_str!("../fuzz/Cargo.toml");
    let listed: Vec<&str> = fuzz
        .lines()
        .skip_while(|line| *line != "[[bin]]")
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    assert_eq!(listed, NAMES);
}
