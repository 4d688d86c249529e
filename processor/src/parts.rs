//! What the parts of the first stage have done, such as the operators of a query: counted by the unit of work,
//! so that what is undone counts for nothing.
//!
//! ```text
//! enter(part, rows) --> pending --commit--> kept
//!                           \----undo-----> forgotten; the part that was entered last is the one that failed
//! ```

/// What a part of a stage has done since its task was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartStats {
    /// Rows that it has taken.
    pub rows_in: u64,
    /// Rows that it has given to the next part, or records that it has given out.
    pub rows_out: u64,
    /// Records that it has given to the late ones.
    pub late: u64,
    /// Records and timers that failed in it and went to the dead letters.
    pub failed: u64,
}

impl PartStats {
    fn add(&mut self, more: &Self) {
        self.rows_in += more.rows_in;
        self.rows_out += more.rows_out;
        self.late += more.late;
        self.failed += more.failed;
    }
}

/// A part of a stage, as the stage says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// What it is counted by, see [`crate::Context::enter`].
    pub number: usize,
    /// The byte that all keys of its state and timers begin with; `None` where it keeps none.
    pub keys: Option<u8>,
}

/// A part and what it has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    /// What it is.
    pub name: String,
    /// What it has done.
    pub stats: PartStats,
    /// Memory of its state and timers, in bytes.
    pub state_bytes: usize,
}

/// Counts for all parts, by number.
#[derive(Debug, Default)]
pub(crate) struct PartBook {
    kept: Vec<PartStats>,
    /// Of the unit.
    pending: Vec<PartStats>,
    /// The part that is at work.
    current: Option<usize>,
}

fn at(stats: &mut Vec<PartStats>, part: usize) -> &mut PartStats {
    if part >= stats.len() {
        stats.resize(part + 1, PartStats::default());
    }
    &mut stats[part]
}

impl PartBook {
    /// Starts a unit.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.current = None;
        self.pending.clear();
    }

    /// The part at work gives rows to another one, which is at work then. Returns the one before.
    pub(crate) fn enter(&mut self, part: usize, rows: u64) -> Option<usize> {
        if let Some(giver) = self.current {
            at(&mut self.pending, giver).rows_out += rows;
        }
        at(&mut self.pending, part).rows_in += rows;
        self.current.replace(part)
    }

    /// The part at work has done it: the one before is at work again.
    pub(crate) fn leave(&mut self, before: Option<usize>) {
        self.current = before;
    }

    /// The part at work has emitted a record.
    #[inline]
    pub(crate) fn emitted(&mut self, is_late: bool) {
        let Some(part) = self.current else {
            return;
        };
        let stats = at(&mut self.pending, part);
        match is_late {
            true => stats.late += 1,
            false => stats.rows_out += 1,
        }
    }

    /// A record goes to the dead letters because of a part, and the rest of the unit goes on.
    pub(crate) fn refused(&mut self, part: usize) {
        at(&mut self.pending, part).failed += 1;
    }

    /// The part that is at work.
    pub(crate) fn current(&self) -> Option<usize> {
        self.current
    }

    /// The unit is kept.
    #[inline]
    pub(crate) fn commit(&mut self) {
        for (part, more) in self.pending.iter().enumerate() {
            at(&mut self.kept, part).add(more);
        }
        self.pending.clear();
    }

    /// A unit was given up that failed in this part.
    pub(crate) fn gave_up(&mut self, part: Option<usize>) {
        if let Some(part) = part {
            at(&mut self.kept, part).failed += 1;
        }
    }

    /// It was not given up after all.
    pub(crate) fn takes_back(&mut self, part: Option<usize>) {
        if let Some(part) = part {
            at(&mut self.kept, part).failed -= 1;
        }
    }

    /// What a part has done.
    pub(crate) fn of(&self, part: usize) -> PartStats {
        self.kept.get(part).copied().unwrap_or_default()
    }

    /// The parts are others now.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
