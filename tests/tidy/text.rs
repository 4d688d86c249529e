//! Rules about files as text: names, openings, lengths, leftovers and white space.

use crate::manifest::Manifest;
use crate::source::{self, Source};

/// Names that say nothing about what is inside.
const NAMES: &[&str] = &[
    "common", "util", "utils", "helpers", "misc", "types", "v2", "new", "impls",
];

/// Words that mark unfinished work, put together here so that this file does not contain them.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
];

const PRODUCTION_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 900;

/// Files, directories and modules named after nothing.
pub(crate) fn names(source: &Source) -> Vec<String> {
    let advice = |name: &str| format!("`{name}` says nothing: name it after what is inside");
    let mut found = Vec::new();
    let dirs = source.path.rsplit_once('/').map_or("", |(dirs, _)| dirs);
    for part in dirs
        .split('/')
        .chain([source.stem()])
        .filter(|part| NAMES.contains(part))
    {
        found.push(source.finding(0, &advice(part)));
    }
    for at in source::word_offsets(&source.code, "mod") {
        let rest = source.code[at + "mod".len()..].trim_start();
        let end = rest
            .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        if NAMES.contains(&&rest[..end]) {
            found.push(source.finding(source::line_of(&source.code, at), &advice(&rest[..end])));
        }
    }
    found
}

/// Packages named after nothing.
pub(crate) fn package_name(manifest: &Manifest) -> Vec<String> {
    let bad = manifest
        .package
        .split(['-', '_'])
        .find(|part| NAMES.contains(part));
    let advice = |part| {
        format!(
            "{}: `{part}` says nothing: name it after its use",
            manifest.path()
        )
    };
    bad.map(advice).into_iter().collect()
}

/// Modules for tests are compiled for tests only.
pub(crate) fn test_modules(source: &Source) -> Vec<String> {
    let lines = source.production.lines().enumerate();
    let bare =
        lines.filter(|(_, line)| line.contains("mod tests;") || line.contains("mod tests {"));
    bare.map(|(at, _)| source.finding(at, "put `#[cfg(test)]` on the line above"))
        .collect()
}

/// Every file says first what it is.
pub(crate) fn opening(source: &Source) -> Vec<String> {
    let sentence = source
        .text
        .strip_prefix("//! ")
        .and_then(|rest| rest.lines().next());
    if sentence.is_some_and(|s| !s.trim().is_empty()) {
        return Vec::new();
    }
    vec![source.finding(
        0,
        "open with one `//!` sentence that says what this file is",
    )]
}

/// A file is short enough to be read at one go. Lines for tests are not counted, comments are.
pub(crate) fn length(source: &Source) -> Vec<String> {
    let production = source
        .for_tests
        .iter()
        .filter(|for_tests| !**for_tests)
        .count();
    let (lines, max) = match production {
        0 => (source.for_tests.len(), TEST_LINES_MAX),
        lines => (lines, PRODUCTION_LINES_MAX),
    };
    let advice =
        format!("{lines} lines, at most {max} are wanted: cut it where its subject changes");
    if lines > max {
        vec![source.finding(0, &advice)]
    } else {
        Vec::new()
    }
}

/// No marks of unfinished work.
pub(crate) fn leftovers(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for word in LEFTOVERS {
        for line in source::lines_with_word(&source.prose, word) {
            found.push(source.finding(line, &format!("`{word}`: finish it, or write an issue")));
        }
    }
    found
}

/// No tabs, nothing at the ends of lines.
pub(crate) fn white_space(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in source.text.split('\n').enumerate() {
        if line.contains('\t') {
            found.push(source.finding(at, "a tab: run `cargo fmt`, write \\t in literals"));
        }
        if line.ends_with([' ', '\t', '\r']) {
            found.push(source.finding(at, "white space at the end of the line: take it away"));
        }
    }
    found
}
