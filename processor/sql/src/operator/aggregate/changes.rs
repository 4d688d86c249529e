//! EMIT CHANGES: what was and what is now in the groups that the rows of a unit touch.

use super::Aggregate;
use super::group::Groups;
use crate::flow::{Down, Flow, Result, reject};
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, UInt32Array};
use datafusion::arrow::compute::take;
use std::sync::Arc;

/// What was before the rows of a unit came.
#[derive(Default)]
pub(super) struct Changed {
    /// Groups that nothing is stored of.
    pub(super) fresh: Vec<u32>,
    /// The others.
    pub(super) known: Vec<u32>,
    /// Results of those.
    pub(super) before: Vec<ArrayRef>,
}

/// The groups that the rows of a unit are in.
pub(super) struct Touched<'r> {
    pub(super) rows: &'r Rows,
    /// The columns of GROUP BY that are not bounds of windows.
    pub(super) values: &'r [ArrayRef],
    pub(super) groups: &'r Groups,
}

impl Aggregate {
    /// Gives out what was and what is now in the touched groups.
    pub(super) fn push_changes(
        &self,
        touched: &Touched<'_>,
        changed: Changed,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        if self.aggregates.is_empty() {
            let rows = self.piece(touched, changed.fresh, Vec::new(), Change::Insert)?;
            return down.push(rows, flow);
        }
        let groups = touched.groups;
        let mut after = self.aggregates.start()?;
        let all: Vec<(usize, &[u8])> = (0..groups.len())
            .filter_map(|n| Some((n, flow.ctx.get(groups.key(n))?)))
            .collect();
        after.merge(&all, groups.len())?;
        let after = after.results()?;
        let numbers = (0..groups.len() as u32).collect();
        let before = self.piece(touched, changed.known, changed.before, Change::Before)?;
        down.push(before, flow)?;
        down.push(self.piece(touched, numbers, after, Change::After)?, flow)
    }

    /// The rows of some groups.
    fn piece(
        &self,
        touched: &Touched<'_>,
        numbers: Vec<u32>,
        results: Vec<ArrayRef>,
        change: Change,
    ) -> Result<Rows> {
        let Touched {
            rows,
            values,
            groups,
        } = touched;
        let first = numbers.iter().map(|n| groups.firsts[*n as usize]);
        let first = UInt32Array::from_iter_values(first);
        let pick = |a: &ArrayRef| take(a, &first, None).map_err(reject);
        let values = values.iter().map(pick).collect::<Result<Vec<_>>>()?;
        let bounds = match self.window {
            Some(w) => {
                let column = |at: usize| pick(rows.batch.column(at));
                Some((column(w.start)?, column(w.end)?))
            }
            None => None,
        };
        let of = |all: &[i64]| {
            first
                .values()
                .iter()
                .map(|row| all[*row as usize])
                .collect()
        };
        let cause = |row: &u32| rows.marks.causes.get(*row as usize).copied();
        let marks = Marks {
            times_ms: of(&rows.marks.times_ms),
            watermarks_ms: of(&rows.marks.watermarks_ms),
            causes: first
                .values()
                .iter()
                .map(|row| cause(row).unwrap_or(NO_RECORD))
                .collect(),
            groups: numbers,
            keys: Some(self.keys(&values, bounds.as_ref(), first.len())),
        };
        let batch = self.batch(values, bounds, results, marks.groups.len())?;
        Ok(Rows {
            batch,
            marks: Arc::new(marks),
            change,
            report_late: true,
        })
    }
}
