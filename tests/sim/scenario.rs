//! What of a seed is run: its parts can be switched off, its shards and its time cut, so that a failure
//! can be told with less.
//!
//! From the environment: `FLOWSTONE_OFF=ends,readers`, `FLOWSTONE_SHARDS=n` at most,
//! `FLOWSTONE_BUSY_MS=n` of virtual time with faults and new requests, `FLOWSTONE_LINES=n` of the trace.

use crate::planted::Plant;
use std::collections::BTreeSet;

/// Something that a run can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Power cuts and kills between two operations of the disk.
    Ends,
    /// A disk that stops in the middle of an operation, and the process with it.
    Stops,
    /// A start that is interrupted.
    CutStarts,
    SlowDisk,
    FullDisk,
    FailingSyncs,
    ClockJumps,
    Drains,
    /// Mailboxes that are full when something is carried.
    FullMailboxes,
    /// Carrying that takes its time.
    SlowCarry,
    Readers,
    Groups,
    /// Topics that come and go.
    PassingTopics,
    /// Pipelines that are stopped and started.
    Switching,
    /// Questions about how things are.
    Questions,
    /// Producers of topics that no pipeline reads.
    Bulk,
    /// Producers of the source of the pipelines: the first of each partition, and others.
    Producers,
    MoreProducers,
    Counts,
    Windows,
    Copies,
    Spreads,
    Tallies,
    Doomed,
    /// A bucket that settled segments are copied to.
    Tier,
}

impl Part {
    pub(crate) const ALL: [(Self, &'static str); 25] = [
        (Self::Ends, "ends"),
        (Self::Stops, "stops"),
        (Self::CutStarts, "cut-starts"),
        (Self::SlowDisk, "slow-disk"),
        (Self::FullDisk, "full-disk"),
        (Self::FailingSyncs, "failing-syncs"),
        (Self::ClockJumps, "clock-jumps"),
        (Self::Drains, "drains"),
        (Self::FullMailboxes, "full-mailboxes"),
        (Self::SlowCarry, "slow-carry"),
        (Self::Readers, "readers"),
        (Self::Groups, "groups"),
        (Self::PassingTopics, "passing-topics"),
        (Self::Switching, "switching"),
        (Self::Questions, "questions"),
        (Self::Bulk, "bulk"),
        (Self::Producers, "producers"),
        (Self::MoreProducers, "more-producers"),
        (Self::Counts, "counts"),
        (Self::Windows, "windows"),
        (Self::Copies, "copies"),
        (Self::Spreads, "spreads"),
        (Self::Tallies, "tallies"),
        (Self::Doomed, "doomed"),
        (Self::Tier, "tier"),
    ];

    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(part, _)| *part == self);
        found.expect("every part is in the list").1
    }

    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, n)| *n == name)?;
        Some(found.0)
    }
}

/// How to run a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) plant: Option<Plant>,
    /// Parts that are switched off.
    pub(crate) off: BTreeSet<Part>,
    /// Shards at most.
    pub(crate) shards: Option<u16>,
    /// Milliseconds with faults and new requests.
    pub(crate) busy_ms: Option<u64>,
    /// Lines of the trace that are shown.
    pub(crate) lines: Option<usize>,
}

impl Options {
    pub(crate) fn planted(plant: Plant) -> Self {
        Self {
            plant: Some(plant),
            ..Self::default()
        }
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        !self.off.contains(&part)
    }

    /// What the environment, asked by name, says.
    pub(crate) fn from_env(ask: impl Fn(&str) -> Option<String>) -> Self {
        let part = |name: &str| {
            let known = Part::ALL.map(|(_, n)| n).join(",");
            Part::named(name).unwrap_or_else(|| panic!("there is no part '{name}': {known}"))
        };
        let off = ask("FLOWSTONE_OFF").unwrap_or_default();
        let number = |text: String| text.parse().expect("a number");
        Self {
            plant: None,
            off: off.split(',').filter(|n| !n.is_empty()).map(part).collect(),
            shards: ask("FLOWSTONE_SHARDS").map(|n| number(n) as u16),
            busy_ms: ask("FLOWSTONE_BUSY_MS").map(number),
            lines: ask("FLOWSTONE_LINES").map(|n| number(n) as usize),
        }
    }

    /// The environment that says this.
    pub(crate) fn to_env(&self) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        if !self.off.is_empty() {
            let names: Vec<&str> = self.off.iter().map(|p| p.name()).collect();
            all.push(("FLOWSTONE_OFF", names.join(",")));
        }
        all.extend(self.shards.map(|n| ("FLOWSTONE_SHARDS", n.to_string())));
        all.extend(self.busy_ms.map(|n| ("FLOWSTONE_BUSY_MS", n.to_string())));
        all
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let options = Options {
        plant: None,
        off: [Part::Ends, Part::Doomed].into(),
        shards: Some(2),
        busy_ms: Some(700),
        lines: None,
    };
    let env = options.to_env();
    let ask = |name: &str| {
        let found = env.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(Options::from_env(ask), options);
    assert_eq!(Options::from_env(|_| None), Options::default());
}
