//! What is not called or written in production code, in tests, or anywhere.

use crate::source::{self, Source};

/// Not in production code.
const PRODUCTION: &[(&str, &str)] = &[
    (
        ".unwrap()",
        "return the error, or `expect` with the reason why it cannot happen",
    ),
    ("todo!", "finish it"),
    (
        "unimplemented!",
        "finish it, or make it an error that the caller can see",
    ),
    ("dbg!", "use tracing, or take it away"),
    (
        "thread::sleep",
        "a thread waits for something: wait for that",
    ),
];

/// Calls that must not be made in production code.
pub(crate) fn production(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (call, instead) in PRODUCTION {
        for (at, _) in source.production.match_indices(call) {
            let line = source::line_of(&source.production, at);
            found.push(source.finding(line, &format!("`{call}`: {instead}")));
        }
    }
    found
}

/// Tests that are switched off do not test.
pub(crate) fn ignored(source: &Source) -> Vec<String> {
    let lines = source
        .code
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("#[ignore"));
    let advice = "an ignored test: mend it or drop it; let a long one read an environment variable";
    lines.map(|(at, _)| source.finding(at, advice)).collect()
}

/// Tests that sleep are slow on a fast machine and fail on a slow one.
pub(crate) fn sleeping_tests(source: &Source) -> Vec<String> {
    let advice = "`sleep(` in a test: wait for the event itself, with a deadline";
    let sleeps = |line: &str| {
        let mut places = source::word_offsets(line, "sleep").into_iter();
        places.any(|place| line[place..].starts_with("sleep("))
    };
    let lines = source.code.lines().zip(&source.for_tests).enumerate();
    let asleep = lines.filter(|(_, (line, for_tests))| **for_tests && sleeps(line));
    asleep.map(|(at, _)| source.finding(at, advice)).collect()
}

/// One program: nothing is compiled by choice.
pub(crate) fn cargo_features(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in source.code.lines().enumerate() {
        let conditional = ["cfg(", "cfg!(", "cfg_attr("]
            .iter()
            .any(|form| line.contains(form));
        if conditional && !source::word_offsets(line, "feature").is_empty() {
            found.push(source.finding(at, "no cargo features: choose at run time"));
        }
    }
    found
}
