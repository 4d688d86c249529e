//! The pure cores: no clock, no randomness, no threads, no locks, no sockets, no async inside.

use crate::source::{self, Source};

/// Where the pure cores are.
const PURE: &[&str] = &[
    "client/wire/src/",
    "processor/src/",
    "processor/sql/src/",
    "broker/core/src/",
];

/// Identifiers and keywords that a pure core does not contain, and what it does instead.
const WORDS: &[(&str, &str)] = &[
    ("Instant", TIME),
    ("SystemTime", TIME),
    ("Mutex", LOCKS),
    ("RwLock", LOCKS),
    ("Condvar", LOCKS),
    ("async", EFFECTS),
    ("await", EFFECTS),
    ("tokio", EFFECTS),
    ("monoio", EFFECTS),
    ("rand", CHANCE),
    ("getrandom", CHANCE),
    ("fastrand", CHANCE),
    ("RandomState", CHANCE),
];

/// Paths that a pure core does not contain.
const PATHS: &[(&str, &str)] = &[
    ("::now(", TIME),
    ("std::thread", EFFECTS),
    ("std::net", EFFECTS),
    ("core::net", EFFECTS),
];

const TIME: &str = "the time is an argument of `step`";
const LOCKS: &str = "one owner steps the core, so there is nothing to lock";
const EFFECTS: &str = "effects are outputs, the shell carries them out";
const CHANCE: &str = "seeds are arguments; iterate over a BTreeMap or give the map a fixed hasher";

/// What a pure core must not contain; outside of the pure cores nothing is found.
pub(crate) fn check(source: &Source) -> Vec<String> {
    if !PURE.iter().any(|dir| source.path.starts_with(dir)) {
        return Vec::new();
    }
    let code = &source.production;
    let mut found = Vec::new();
    let mut report = |at: usize, what: &str, why: &str| {
        let advice = format!("`{what}` in a pure core: {why}");
        found.push(source.finding(source::line_of(code, at), &advice));
    };
    for (word, why) in WORDS {
        source::word_offsets(code, word)
            .into_iter()
            .for_each(|at| report(at, word, why));
    }
    for (path, why) in PATHS {
        code.match_indices(path)
            .for_each(|(at, _)| report(at, path, why));
    }
    for (at, name) in grouped(code) {
        report(at, name, EFFECTS);
    }
    for (map, arguments) in [("HashMap", 3), ("HashSet", 2)] {
        let places = source::word_offsets(code, map);
        let random = places
            .into_iter()
            .filter(|at| hashes_randomly(&code[at + map.len()..], arguments));
        random.for_each(|at| report(at, map, CHANCE));
    }
    found
}

/// `thread` and `net` inside of `use std::{...}`.
fn grouped(code: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("use std::{") {
        let group = &code[start..];
        let group = &group[..group.find(';').unwrap_or(group.len())];
        for name in ["thread", "net"] {
            let places = source::word_offsets(group, name);
            found.extend(places.into_iter().map(|at| (start + at, name)));
        }
    }
    found
}

/// Whether what follows the name of a map leaves the hasher open: then it is seeded at random.
fn hashes_randomly(rest: &str, arguments: usize) -> bool {
    let path = rest.trim_start();
    let generics = path.strip_prefix("::<").or_else(|| path.strip_prefix('<'));
    match generics {
        Some(list) => generic_arguments(list) < arguments,
        None => path.starts_with("::"),
    }
}

/// How many arguments a generic list has that was opened already.
fn generic_arguments(list: &str) -> usize {
    let (mut depth, mut count, mut empty) = (1, 0, true);
    let mut before = ' ';
    for c in list.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if c == ',' && depth == 1 {
            (count, empty) = (count + 1, true);
        } else if !c.is_whitespace() {
            empty = false;
        }
        before = c;
    }
    count + usize::from(!empty)
}
