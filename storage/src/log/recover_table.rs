//! The recovery table: what to do with every picture that a disk can show.

/// What stands at a position of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A whole batch with the expected LSN.
    Valid,
    /// Zeros, or the end of the file.
    Blank,
    /// Bytes that are not a batch.
    Bad,
    /// A whole batch, but of another LSN or an older epoch.
    Stale,
}

/// The next segment, by the LSN in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is none.
    None,
    /// It starts with the expected LSN.
    Continues,
    /// It starts elsewhere.
    Gap,
}

/// What to do at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take the batch.
    Accept,
    /// Go on with the next segment.
    NextSegment,
    /// The log ends here, as it should.
    End,
    /// The log ends here; what follows was never durable and goes.
    Cut,
    /// Something durable is missing.
    Damaged,
}

/// A row of the recovery table. `None` in a condition means that it does not matter.
#[derive(Debug)]
pub struct Row {
    /// Its letter, for reports and tests.
    pub letter: char,
    /// What stands there.
    pub standing: &'static [Standing],
    /// Whether the expected LSN was durable for certain.
    pub below_mark: Option<bool>,
    /// What the next segment is.
    pub next: &'static [Next],
    /// What to do.
    pub verdict: Verdict,
}

use Next::{Continues, Gap};
use Standing::{Bad, Blank, Stale, Valid};
const ANY_NEXT: &[Next] = &[Next::None, Continues, Gap];

/// What to do with every picture that a disk can show. Every picture matches exactly one row.
pub const TABLE: &[Row] = &[
    // a: the normal case.
    Row {
        letter: 'a',
        standing: &[Valid],
        below_mark: None,
        next: ANY_NEXT,
        verdict: Verdict::Accept,
    },
    // b: a segment was full and rolled; the rest of its allocation was never used.
    Row {
        letter: 'b',
        standing: &[Blank],
        below_mark: None,
        next: &[Continues],
        verdict: Verdict::NextSegment,
    },
    // c: the tail of the log.
    Row {
        letter: 'c',
        standing: &[Blank],
        below_mark: Some(false),
        next: &[Next::None],
        verdict: Verdict::End,
    },
    // d: a torn tail, or bytes of an older life behind it.
    Row {
        letter: 'd',
        standing: &[Bad, Stale],
        below_mark: Some(false),
        next: &[Next::None],
        verdict: Verdict::Cut,
    },
    // e: leftovers behind the last batch of a full segment; no LSN is missing.
    Row {
        letter: 'e',
        standing: &[Bad, Stale],
        below_mark: None,
        next: &[Continues],
        verdict: Verdict::NextSegment,
    },
    // f: a power cut lost the end of a segment and kept some of the next one; none of it was durable.
    Row {
        letter: 'f',
        standing: &[Blank, Bad, Stale],
        below_mark: Some(false),
        next: &[Gap],
        verdict: Verdict::Cut,
    },
    // g: a durable batch is not there.
    Row {
        letter: 'g',
        standing: &[Blank, Bad, Stale],
        below_mark: Some(true),
        next: &[Next::None, Gap],
        verdict: Verdict::Damaged,
    },
];

pub(super) fn row_for(standing: Standing, below_mark: bool, next: Next) -> &'static Row {
    let hit = |r: &&Row| {
        r.standing.contains(&standing)
            && r.below_mark.is_none_or(|b| b == below_mark)
            && r.next.contains(&next)
    };
    TABLE
        .iter()
        .find(hit)
        .expect("a test holds that every picture has its row")
}
