//! Where unsafe code may be: in `storage/src/sys/`, counted, and nowhere else.

use crate::source::{self, Source};

/// How often the keyword stands in `storage/src/sys/`.
///
/// To change it: say above the new block why it is sound, add its row to the table that opens
/// `storage/src/sys/mod.rs`, and have somebody else read both. Less is better.
pub(crate) const UNSAFE_BLOCKS: usize = 1;

const SYS: &str = "storage/src/sys/";
const STORAGE_ROOT: &str = "storage/src/lib.rs";
const SYS_ROOT: &str = "storage/src/sys/mod.rs";

/// The keyword outside of its place.
pub(crate) fn place(source: &Source) -> Vec<String> {
    if source.path.starts_with(SYS) {
        return Vec::new();
    }
    let lines = source::lines_with_word(&source.code, "unsafe");
    let advice =
        format!("`unsafe` outside of {SYS}: write it safely, or give {SYS} a safe function");
    lines
        .into_iter()
        .map(|line| source.finding(line, &advice))
        .collect()
}

/// How often a file in the one place has the keyword.
pub(crate) fn count(source: &Source) -> usize {
    if source.path.starts_with(SYS) {
        source::lines_with_word(&source.code, "unsafe").len()
    } else {
        0
    }
}

/// Crate roots forbid unsafe code; storage denies it, and only `sys` takes that back.
pub(crate) fn lints(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let root = match source.path.as_str() {
        STORAGE_ROOT => Some("#![deny(unsafe_code)]"),
        path if is_crate_root(path) => Some("#![forbid(unsafe_code)]"),
        _ => None,
    };
    if let Some(line) = root.filter(|line| !source.code.lines().any(|l| l.trim_end() == *line)) {
        found.push(source.finding(0, &format!("a crate root: add `{line}` below its comment")));
    }
    if source.path == SYS_ROOT {
        return found;
    }
    for line in source::lines_with_word(&source.code, "unsafe_code") {
        let text = source.code.lines().nth(line).unwrap_or_default().trim();
        if Some(text) != root && text != "#![forbid(unsafe_code)]" {
            found.push(source.finding(line, &format!("unsafe code is allowed only in {SYS_ROOT}")));
        }
    }
    found
}

/// `src/lib.rs`, `src/main.rs` and the roots under `src/bin/` of any crate.
fn is_crate_root(path: &str) -> bool {
    let Some((_, inner)) = path.split_once("src/") else {
        return false;
    };
    let bin = inner.strip_prefix("bin/");
    inner == "lib.rs"
        || inner == "main.rs"
        || bin.is_some_and(|bin| !bin.contains('/') || bin.ends_with("/main.rs"))
}
