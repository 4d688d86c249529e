//! What happened in a run: a hash over all of it, the last lines as text, and rare things by name.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Arguments;

/// Lines that are shown when a run fails and nobody wants another number.
pub(crate) const LINES: usize = 80;

#[derive(Debug)]
pub(crate) struct Trace {
    lines_max: usize,
    hash: u64,
    lines: VecDeque<String>,
    rare: BTreeSet<&'static str>,
}

/// Rare things, each of which must happen in one run or another: else nothing was proved of it.
pub(crate) const RARE: [&str; 20] = [
    "state was read back",
    "a parcel went to a lower shard",
    "a parcel went to a higher shard",
    "a parcel came a second time",
    "a parcel came after a gap",
    "a parcel came to a fenced shard",
    "a parcel came to a draining shard",
    "a parcel was given out for a deleted topic",
    "a parcel came to a deleted topic",
    "a parcel came before its topic",
    "a parcel found a full mailbox",
    "a kill with parcels under way",
    "a power cut with parcels under way",
    "a fenced shard beside one that is not",
    "a drained shard beside one that is not",
    "a letter of a pipeline behind another shard",
    "a late record",
    "segments were compacted",
    "a segment was in the tier only and was read",
    "the bucket did not answer",
];

impl Trace {
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            lines_max,
            hash: 0,
            lines: VecDeque::new(),
            rare: BTreeSet::new(),
        }
    }

    pub(crate) fn note(&mut self, at_us: u64, what: Arguments<'_>) {
        let line = format!("{at_us:>10} {what}");
        // FNV-1a; the hash starts as 0, which is as good as any.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Notes that one of the rare things has happened.
    pub(crate) fn rare(&mut self, what: &'static str) {
        debug_assert!(RARE.contains(&what), "{what}");
        self.rare.insert(what);
    }

    pub(crate) fn all_rare(&self) -> impl Iterator<Item = &'static str> {
        self.rare.iter().copied()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn text(&self) -> String {
        self.lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\n")
    }
}
