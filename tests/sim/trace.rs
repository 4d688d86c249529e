//! What happened in a run: a hash over all of it, and the last lines as text.

use std::collections::VecDeque;
use std::fmt::Arguments;

/// Lines that are shown when a run fails.
const LINES: usize = 80;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn note(&mut self, at_us: u64, what: Arguments<'_>) {
        let line = format!("{at_us:>10} {what}");
        // FNV-1a; the hash starts as 0, which is as good as any.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
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
