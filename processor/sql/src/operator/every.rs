//! EMIT EVERY: changes of results, at most one of each group in an interval of time.
//!
//! ```text
//! state: number | when it is due | values of the group
//!          ->  key of the record | time | what was given out last, or nothing | what is now, or nothing
//! timer: number | when it is due
//! ```
//!
//! It stands behind the last grouping that gives out every change, so that nothing behind it takes results back. What was before the first change counts as
//! given out, what is behind the last one is what comes out when the time is there: at a multiple of
//! the interval since 1970, or when the window closes. Time is event time where the query has one, and
//! the clock where it has none.

use super::join::row;
use crate::cell::{Writer, push_bytes, take_bytes};
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::aggregate::times;
use crate::operator::{from_ordered, ordered, prefix};
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{Array, BinaryArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Bytes of `number | when it is due`.
const DUE_BYTES: usize = 9;
/// Most groups that are given out at once; the rest follows in units of its own.
const GROUPS_MAX: usize = 256;
/// So many bytes of them are enough.
const GROUPS_BYTES: usize = 4 << 20;

/// Holds changes back.
#[derive(Clone)]
pub(crate) struct Every {
    pub(crate) interval_ms: i64,
    /// The time is event time, not the clock.
    pub(crate) event_time: bool,
    /// What a result is of: two rows with equal values are the same result.
    pub(crate) group: Vec<Arc<dyn PhysicalExpr>>,
    /// The column with the end of the window, if there is one, and for how long it stays open.
    pub(crate) window: Option<(usize, i64)>,
    /// The columns; every one may be null.
    pub(crate) schema: SchemaRef,
}

/// What is stored of a group.
struct Held<'s> {
    key: Option<&'s [u8]>,
    time_ms: i64,
    before: Option<&'s [u8]>,
    after: Option<&'s [u8]>,
}

impl Every {
    pub(super) fn push(&self, number: usize, rows: &Rows, flow: &mut Flow<'_, '_>) -> Result<()> {
        let writers: Vec<Writer> = rows.batch.columns().iter().map(Writer::new).collect();
        let mut group = Vec::new();
        for expr in &self.group {
            let value = expr.evaluate(&rows.batch);
            let value = value.and_then(|v| v.into_array(rows.len()));
            group.push(Writer::new(&value.map_err(reject)?));
        }
        let ends = self.window.map(|(end, _)| times(rows.batch.column(end)));
        let mut value = Vec::new();
        for at in 0..rows.len() {
            let due_ms = self.due_ms(ends.map(|ends| ends[at]), flow);
            let mut place = vec![prefix(number)];
            place.extend_from_slice(&ordered(due_ms));
            group.iter().for_each(|w| w.write(at, &mut place));
            let mut row = Vec::new();
            writers.iter().for_each(|w| w.write(at, &mut row));
            let keys = rows.marks.keys.as_ref();
            let time_ms = rows.marks.times_ms[at];
            let stored = flow.ctx.get(&place).map(Held::read);
            let stored = stored.map(|s| s.ok_or_else(damaged)).transpose()?;
            let held = Held {
                key: keys.filter(|k| k.is_valid(at)).map(|k| k.value(at)),
                time_ms: stored.as_ref().map_or(time_ms, |s| s.time_ms.max(time_ms)),
                before: match (&stored, rows.change) {
                    (Some(stored), _) => stored.before,
                    (None, Change::Before) => Some(&row),
                    (None, _) => None,
                },
                after: (rows.change != Change::Before).then_some(&row),
            };
            if held.before.is_none() && held.after.is_none() {
                // It came and went: nobody has heard of it.
                flow.ctx.delete(&place);
                continue;
            }
            value.clear();
            held.write(&mut value);
            flow.ctx.put(&place, &value);
            self.set_timer(due_ms, &place[..DUE_BYTES], flow);
        }
        Ok(())
    }

    /// When a change that is there now is to be given out. The watermark is the one before the unit:
    /// what was due by then has been given out.
    fn due_ms(&self, window_end_ms: Option<i64>, flow: &Flow<'_, '_>) -> i64 {
        let now_ms = match self.event_time {
            true => flow.ctx.watermark(),
            false => flow.ctx.now_ms(),
        };
        let next_ms = now_ms
            .saturating_sub(now_ms.rem_euclid(self.interval_ms))
            .saturating_add(self.interval_ms);
        match (window_end_ms, self.window) {
            (Some(end_ms), Some((_, open_ms))) => next_ms.min(end_ms.saturating_add(open_ms)),
            _ => next_ms,
        }
    }

    fn set_timer(&self, due_ms: i64, key: &[u8], flow: &mut Flow<'_, '_>) {
        match self.event_time {
            true => flow.set_timer(due_ms, key),
            false => flow.set_clock_timer(due_ms, key),
        }
    }

    /// Gives out what is due.
    pub(crate) fn close(
        &self,
        number: usize,
        at_ms: i64,
        key: &[u8],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let mut due = vec![prefix(number)];
        due.extend_from_slice(key);
        let (mut stored, mut bytes, mut is_all) = (Vec::new(), 0, true);
        for (place, value) in flow.ctx.scan(&due) {
            if stored.len() == GROUPS_MAX || bytes >= GROUPS_BYTES {
                is_all = false;
                break;
            }
            bytes += value.len();
            stored.push((place.to_vec(), value.to_vec()));
        }
        if !is_all {
            self.set_timer(at_ms, &due, flow);
        }
        let held = stored.iter().map(|(_, value)| Held::read(value));
        let held = held
            .map(|h| h.ok_or_else(damaged))
            .collect::<Result<Vec<_>>>()?;
        let before = self.rows(&held, |h| h.before, Change::Before)?;
        down.push(before, flow)?;
        let after = self.rows(&held, |h| h.after, Change::After)?;
        down.push(after, flow)?;
        for (place, _) in &stored {
            flow.ctx.delete(place);
        }
        Ok(())
    }

    fn rows<'h>(
        &self,
        held: &'h [Held<'h>],
        part: fn(&Held<'h>) -> Option<&'h [u8]>,
        change: Change,
    ) -> Result<Rows> {
        let there = held.iter().enumerate();
        let there: Vec<_> = there.filter_map(|(n, h)| Some((n, h, part(h)?))).collect();
        let stored: Vec<&[u8]> = there.iter().map(|(_, _, row)| *row).collect();
        let batch = row::read(&self.schema, &stored).ok_or_else(damaged)?;
        let keys = there.iter().map(|(_, h, _)| h.key);
        let marks = Marks {
            times_ms: there.iter().map(|(_, h, _)| h.time_ms).collect(),
            watermarks_ms: vec![i64::MIN; there.len()],
            causes: vec![NO_RECORD; there.len()],
            groups: there.iter().map(|(n, ..)| *n as u32).collect(),
            keys: Some(keys.collect::<BinaryArray>()),
        };
        Ok(Rows {
            batch: batch.map_err(reject)?,
            marks: Arc::new(marks),
            change,
            report_late: true,
        })
    }
}

impl<'s> Held<'s> {
    fn read(mut bytes: &'s [u8]) -> Option<Self> {
        let key = take_bytes(&mut bytes)?;
        let (time, mut rest) = bytes.split_first_chunk()?;
        Some(Self {
            key,
            time_ms: from_ordered(*time),
            before: take_bytes(&mut rest)?,
            // A row is never empty.
            after: (!rest.is_empty()).then_some(rest),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        push_bytes(self.key, out);
        out.extend_from_slice(&ordered(self.time_ms));
        push_bytes(self.before, out);
        out.extend_from_slice(self.after.unwrap_or_default());
    }
}

fn damaged() -> flowstone_processor::ProcessError {
    reject("a result that was held back is cut off or of another plan")
}
