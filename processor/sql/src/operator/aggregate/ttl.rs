//! Groups without a window that are forgotten when no row of them has come for a time.
//!
//! ```text
//! state: states of the aggregates | when the last row came, rounded down
//! timer: number | values of the group, when the group may be forgotten
//! ```
//!
//! A row that comes so long behind the last one of its group begins it anew: in event time that does not depend on
//! how many rows are taken together. The timer is for groups of which no row comes any more; it is set again where
//! rows have come since. The time of the last row is rounded, so that the state of a group does not change with each
//! row because of it.

use super::Aggregate;
use super::group::Groups;
use crate::flow::{Flow, Result, reject};
use crate::operator::{from_ordered, ordered, prefix};
use crate::rows::Rows;
use datafusion::arrow::array::UInt32Array;

/// The time of the last row is a multiple of this part of the time to live.
const STEPS: i64 = 8;

/// For how long a group is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl {
    /// Milliseconds behind its last row, at least; over 0.
    pub(crate) ms: i64,
    /// They are of event time, not of the clock.
    pub(crate) event_time: bool,
}

impl Ttl {
    fn rounded(self, time_ms: i64) -> i64 {
        let step = self.step_ms();
        time_ms.div_euclid(step).saturating_mul(step)
    }

    fn step_ms(self) -> i64 {
        (self.ms / STEPS).max(1)
    }

    fn due_ms(self, last_ms: i64) -> i64 {
        last_ms
            .saturating_add(self.ms)
            .saturating_add(self.step_ms())
    }

    /// Whether a group with this state is to be forgotten at this time.
    pub(super) fn is_over(self, state: &[u8], time_ms: i64) -> bool {
        last_ms(state).is_some_and(|last| self.due_ms(last) <= time_ms)
    }

    /// The time of a row.
    pub(super) fn time_ms(self, rows: &Rows, row: usize, flow: &Flow<'_, '_>) -> i64 {
        match self.event_time {
            true => rows.marks.times_ms[row],
            false => flow.ctx.now_ms(),
        }
    }

    /// The first row that begins a group anew of which there are rows before it.
    fn restart(self, groups: &Groups, rows: &Rows) -> Option<usize> {
        let mut lasts: Vec<Option<i64>> = vec![None; groups.len()];
        for (row, group) in groups.numbers.iter().enumerate() {
            let time_ms = rows.marks.times_ms[row];
            let last = &mut lasts[*group];
            if last.is_some_and(|last| self.due_ms(last) <= time_ms) {
                return Some(row);
            }
            *last = (*last).max(Some(self.rounded(time_ms)));
        }
        None
    }

    fn set_timer(self, at_ms: i64, place: &[u8], flow: &mut Flow<'_, '_>) {
        match self.event_time {
            true => flow.set_timer(at_ms, place),
            false => flow.set_clock_timer(at_ms, place),
        }
    }

    /// When the last row of each group came, those that are stored included.
    pub(super) fn lasts_ms(self, groups: &Groups, rows: &Rows, flow: &Flow<'_, '_>) -> Vec<i64> {
        let stored = |group| flow.ctx.get(groups.key(group)).and_then(last_ms);
        let mut lasts: Vec<i64> = (0..groups.len())
            .map(|group| stored(group).unwrap_or(i64::MIN))
            .collect();
        for (row, group) in groups.numbers.iter().enumerate() {
            let time_ms = self.rounded(self.time_ms(rows, row, flow));
            lasts[*group] = lasts[*group].max(time_ms);
        }
        lasts
    }

    /// Groups that are new are to be looked at when they may be forgotten.
    pub(super) fn set_timers(
        self,
        fresh: &[u32],
        groups: &Groups,
        lasts_ms: &[i64],
        flow: &mut Flow<'_, '_>,
    ) {
        for group in fresh {
            let at_ms = self.due_ms(lasts_ms[*group as usize]);
            self.set_timer(at_ms, groups.key(*group as usize), flow);
        }
    }
}

/// Appends when the last row of a group came to its state.
pub(super) fn push_last(last_ms: i64, state: &mut Vec<u8>) {
    state.extend_from_slice(&ordered(last_ms));
}

/// What [`push_last`] wrote.
fn last_ms(state: &[u8]) -> Option<i64> {
    state.last_chunk().map(|last| from_ordered(*last))
}

impl Aggregate {
    /// The rows before the first one that begins anew a group of them, and the others.
    pub(super) fn before_restart(&self, number: usize, rows: Rows) -> Result<(Rows, Option<Rows>)> {
        let Some(ttl) = self.ttl.filter(|ttl| ttl.event_time) else {
            return Ok((rows, None));
        };
        let values = self.values(&rows.batch)?;
        let groups = Groups::find(number, &rows, &values, self.window);
        let Some(at) = ttl.restart(&groups, &rows) else {
            return Ok((rows, None));
        };
        let pick = |range: std::ops::Range<usize>| {
            let picked = UInt32Array::from_iter_values(range.map(|row| row as u32));
            rows.pick(&picked).map_err(reject)
        };
        Ok((pick(0..at)?, Some(pick(at..rows.len())?)))
    }

    /// Forgets a group, unless rows of it have come since its timer was set.
    pub(super) fn expire(
        &self,
        ttl: Ttl,
        (number, at_ms): (usize, i64),
        key: &[u8],
        flow: &mut Flow<'_, '_>,
    ) -> Result<()> {
        let place = [&[prefix(number)], key].concat();
        let Some(state) = flow.ctx.get(&place) else {
            return Ok(());
        };
        let damaged = || reject("the stored state of a group does not say when its last row came");
        let due_ms = ttl.due_ms(last_ms(state).ok_or_else(damaged)?);
        if due_ms > at_ms {
            ttl.set_timer(due_ms, &place, flow);
        } else {
            flow.ctx.delete(&place);
        }
        Ok(())
    }
}
