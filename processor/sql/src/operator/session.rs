//! Session windows: as long as the rows of a group are less than a gap apart.
//!
//! ```text
//! state: number | length | values of the group | start  ->  end | states of the aggregates
//! timer: the same key, at end + allowed lateness: the session closes
//! ```
//!
//! The end of a session is its last row plus the gap. A row joins the sessions that it touches and
//! that were open by the watermark before it; several become one. A row that joins none and whose
//! own session would be closed already is late.

mod spans;

use crate::cell::Reader;
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::aggregate::accumulate::Aggregates;
use crate::operator::aggregate::group::Groups;
use crate::operator::aggregate::{GroupColumn, times};
use crate::operator::{from_ordered, ordered, prefix};
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt32Array};
use datafusion::arrow::datatypes::SchemaRef;
use spans::{Spans, Stored};
use std::sync::Arc;

/// A grouping by sessions.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) columns: Vec<GroupColumn>,
    /// The column with the start of the session that a row would be alone, which is its time.
    pub(crate) start: usize,
    pub(crate) gap_ms: i64,
    pub(crate) lateness_ms: i64,
    pub(crate) aggregates: Aggregates,
    /// The columns of GROUP BY, then the results.
    pub(crate) schema: SchemaRef,
}

impl Session {
    pub(super) fn push(
        &self,
        number: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        _: &mut Down<'_>,
    ) -> Result<()> {
        let values = self.values(&rows.batch)?;
        let groups = Groups::find(number, &rows, &values, None);
        let mut spans = Spans::new(self.gap_ms, self.lateness_ms);
        for group in 0..groups.len() {
            let key = group_key(number, &groups.key(group)[1..]);
            for (stored, value) in flow.ctx.scan(&key) {
                spans.add_stored(group, Stored::read(stored, value).ok_or_else(damaged)?);
            }
        }
        let at = times(rows.batch.column(self.start));
        let mut kept = Vec::with_capacity(rows.len());
        let mut joined = Vec::with_capacity(rows.len());
        for (row, time_ms) in at.iter().copied().enumerate() {
            match spans.join(groups.numbers[row], time_ms, rows.marks.watermarks_ms[row]) {
                Some(span) => {
                    kept.push(row as u32);
                    joined.push(span);
                }
                None => flow.late(&rows, row, (time_ms, time_ms.saturating_add(self.gap_ms))),
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let rows = match kept.len() == rows.len() {
            true => rows,
            false => rows.pick(&UInt32Array::from(kept)).map_err(reject)?,
        };
        self.store(number, &rows.batch, &groups, &mut spans, &joined, flow)
    }

    fn values(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let exprs = self.columns.iter().filter_map(|column| match column {
            GroupColumn::Value(expr) => Some(expr),
            _ => None,
        });
        let value = |e: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
            e.evaluate(batch)?.into_array(batch.num_rows())
        };
        exprs.map(|e| value(e).map_err(reject)).collect()
    }

    /// Adds the rows to their sessions and stores those.
    fn store(
        &self,
        number: usize,
        batch: &RecordBatch,
        groups: &Groups,
        spans: &mut Spans,
        joined: &[usize],
        flow: &mut Flow<'_, '_>,
    ) -> Result<()> {
        let (touched, numbers) = spans.touched(joined);
        let mut accumulators = self.aggregates.start()?;
        let stored: Vec<(usize, &[u8])> = touched
            .iter()
            .enumerate()
            .flat_map(|(n, span)| spans.stored(*span).map(move |s| (n, &s.state[..])))
            .collect();
        let known = touched
            .iter()
            .filter(|s| spans.stored(**s).next().is_some())
            .count();
        accumulators.merge(&stored, known)?;
        accumulators.update(batch, &numbers, touched.len())?;
        let states = accumulators.states()?;
        for (n, span) in touched.iter().enumerate() {
            for old in spans.stored(*span) {
                flow.ctx.delete(&old.key);
                flow.cancel_timer(old.end.saturating_add(self.lateness_ms), &old.key);
            }
            let (group, start, end) = spans.bounds(*span);
            let mut key = group_key(number, &groups.key(group)[1..]);
            key.extend_from_slice(&ordered(start));
            let mut value = ordered(end).to_vec();
            states.write(n, &mut value);
            flow.ctx.put(&key, &value);
            flow.set_timer(end.saturating_add(self.lateness_ms), &key);
        }
        Ok(())
    }

    pub(crate) fn close(
        &self,
        number: usize,
        at_ms: i64,
        key: &[u8],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let mut whole = vec![prefix(number)];
        whole.extend_from_slice(key);
        let Some(value) = flow.ctx.get(&whole) else {
            return Ok(());
        };
        let stored = Stored::read(&whole, value).ok_or_else(damaged)?;
        let rows = self.closed(at_ms, &stored)?;
        down.push(rows, flow)?;
        flow.ctx.delete(&whole);
        Ok(())
    }

    fn closed(&self, at_ms: i64, stored: &Stored) -> Result<Rows> {
        let mut rest = stored.values().ok_or_else(damaged)?;
        let mut values = Vec::new();
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            if let GroupColumn::Value(_) = column {
                let mut reader = Reader::new(field.data_type());
                reader.read(&mut rest).ok_or_else(damaged)?;
                values.push(reader.finish().map_err(reject)?);
            }
        }
        let mut accumulators = self.aggregates.start()?;
        accumulators.merge(&[(0, &stored.state)], 1)?;
        let keys = crate::format::encode::keys(&values, 1);
        let mut values = values.into_iter();
        let mut columns = Vec::new();
        for column in &self.columns {
            let time =
                |ms: i64| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![ms])) };
            columns.extend(match column {
                GroupColumn::Value(_) => values.next(),
                GroupColumn::Start => Some(time(stored.start)),
                GroupColumn::End => Some(time(stored.end)),
            });
        }
        columns.extend(accumulators.results()?);
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?;
        let marks = Marks {
            times_ms: vec![stored.end.saturating_sub(1)],
            watermarks_ms: vec![at_ms.saturating_sub(1)],
            causes: vec![NO_RECORD],
            groups: Vec::new(),
            keys: Some(keys),
        };
        Ok(Rows {
            batch,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: true,
        })
    }
}

fn damaged() -> flowstone_processor::ProcessError {
    reject("the stored state of a session is cut off or of another plan")
}

/// `number | length | values of the group`.
fn group_key(number: usize, values: &[u8]) -> Vec<u8> {
    let mut key = vec![prefix(number)];
    key.extend_from_slice(&(values.len() as u32).to_be_bytes());
    key.extend_from_slice(values);
    key
}

/// A session as it is stored, read.
fn split(key: &[u8], value: &[u8]) -> Option<(i64, i64)> {
    let start = key.last_chunk()?;
    let end = value.first_chunk()?;
    Some((from_ordered(*start), from_ordered(*end)))
}
