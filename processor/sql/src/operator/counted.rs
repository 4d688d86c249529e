//! Count windows: every so many rows of a group, in the order in which they come.
//!
//! ```text
//! state: number | 0 | length | values of the group           ->  how many rows it has had
//!        number | 1 | length | values of the group | window  ->  least time | largest time
//!                                                                | states of the aggregates
//! ```
//!
//! Window `w` of a group has the rows from `w * slide` on. It is given out, and its state goes, with
//! its last row. A group without an open window leaves nothing.

use crate::flow::{Down, Flow, Result, reject};
use crate::operator::aggregate::accumulate::Aggregates;
use crate::operator::aggregate::group::Groups;
use crate::operator::aggregate::{GroupColumn, times};
use crate::operator::{from_ordered, ordered, prefix};
use crate::rows::{Change, Marks, Rows};
use datafusion::arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt32Array};
use datafusion::arrow::compute::{take, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A grouping by numbers of rows.
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) columns: Vec<GroupColumn>,
    /// The column with the event time of each row.
    pub(crate) start: usize,
    /// Rows of a window.
    pub(crate) rows: u64,
    /// Rows from the start of a window to that of the next one; not more than those of a window.
    pub(crate) slide: u64,
    pub(crate) aggregates: Aggregates,
    /// The columns of GROUP BY, then the results.
    pub(crate) schema: SchemaRef,
}

/// A window that rows of the unit are in.
struct Span {
    group: usize,
    window: u64,
    from_ms: i64,
    to_ms: i64,
    /// Its last row in the unit.
    last: u32,
    /// What was stored of it.
    stored: Option<Vec<u8>>,
}

/// The windows of a unit, those that something is stored of first.
struct Spans {
    all: Vec<Span>,
    /// For each group how many rows it has had.
    counts: Vec<u64>,
    /// Rows, and the window that each is in; a row may be there several times.
    rows: Vec<u32>,
    numbers: Vec<usize>,
}

impl Counted {
    pub(super) fn push(
        &self,
        number: usize,
        rows: &Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let values = self.values(&rows.batch)?;
        let groups = Groups::find(number, rows, &values, None);
        let spans = self.spans(number, rows, &groups, flow)?;
        let mut accumulators = self.aggregates.start()?;
        let stored = spans.all.iter().enumerate();
        let stored: Vec<(usize, &[u8])> = stored
            .filter_map(|(n, s)| Some((n, &s.stored.as_ref()?[..])))
            .collect();
        accumulators.merge(&stored, stored.len())?;
        let picked = UInt32Array::from(spans.rows.clone());
        let picked = take_record_batch(&rows.batch, &picked).map_err(reject)?;
        accumulators.update(&picked, &spans.numbers, spans.all.len())?;
        let states = accumulators.states()?;
        let mut full: Vec<(&Span, Vec<u8>)> = Vec::new();
        for (n, span) in spans.all.iter().enumerate() {
            let key = window_key(number, &groups, span.group, span.window);
            let mut state = Vec::new();
            if spans.counts[span.group] >= span.window * self.slide + self.rows {
                states.write(n, &mut state);
                full.push((span, state));
                flow.ctx.delete(&key);
                continue;
            }
            state.extend_from_slice(&ordered(span.from_ms));
            state.extend_from_slice(&ordered(span.to_ms));
            states.write(n, &mut state);
            flow.ctx.put(&key, &state);
        }
        for (group, count) in spans.counts.iter().enumerate() {
            let key = group_key(number, 0, &groups, group);
            // Windows without an overlap begin anew.
            match self.slide == self.rows && count % self.rows == 0 {
                true => flow.ctx.delete(&key),
                false => flow.ctx.put(&key, &count.to_be_bytes()),
            }
        }
        if full.is_empty() {
            return Ok(());
        }
        full.sort_by_key(|(span, _)| (span.last, span.window));
        let full = self.full(rows, &values, &full)?;
        down.push(full, flow)
    }

    fn values(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let exprs = self.columns.iter().filter_map(|column| match column {
            GroupColumn::Value(expr) => Some(expr),
            _ => None,
        });
        let value = |e: &Arc<dyn PhysicalExpr>| e.evaluate(batch)?.into_array(batch.num_rows());
        exprs.map(|e| value(e).map_err(reject)).collect()
    }

    /// The windows that the rows are in.
    fn spans(
        &self,
        number: usize,
        rows: &Rows,
        groups: &Groups,
        flow: &Flow<'_, '_>,
    ) -> Result<Spans> {
        let mut spans = Spans {
            all: Vec::new(),
            counts: Vec::with_capacity(groups.len()),
            rows: Vec::with_capacity(rows.len()),
            numbers: Vec::with_capacity(rows.len()),
        };
        let mut known: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for group in 0..groups.len() {
            let count = flow.ctx.get(&group_key(number, 0, groups, group));
            let count = count.map(|c| c.try_into().map(u64::from_be_bytes));
            spans
                .counts
                .push(count.transpose().map_err(|_| damaged())?.unwrap_or(0));
            for (key, value) in flow.ctx.scan(&group_key(number, 1, groups, group)) {
                let span = Span::read(group, key, value).ok_or_else(damaged)?;
                known.insert((group, span.window), spans.all.len());
                spans.all.push(span);
            }
        }
        let at = times(rows.batch.column(self.start));
        for (row, group) in groups.numbers.iter().enumerate() {
            let index = spans.counts[*group];
            spans.counts[*group] += 1;
            let first = match index.checked_sub(self.rows) {
                Some(before) => before / self.slide + 1,
                None => 0,
            };
            for window in first..=index / self.slide {
                let next = spans.all.len();
                let n = *known.entry((*group, window)).or_insert(next);
                if n == next {
                    spans.all.push(Span {
                        group: *group,
                        window,
                        from_ms: at[row],
                        to_ms: at[row],
                        last: 0,
                        stored: None,
                    });
                }
                let span = &mut spans.all[n];
                span.from_ms = span.from_ms.min(at[row]);
                span.to_ms = span.to_ms.max(at[row]);
                span.last = row as u32;
                spans.rows.push(row as u32);
                spans.numbers.push(n);
            }
        }
        Ok(spans)
    }

    /// The results of windows that are full.
    fn full(&self, rows: &Rows, values: &[ArrayRef], full: &[(&Span, Vec<u8>)]) -> Result<Rows> {
        let last = UInt32Array::from_iter_values(full.iter().map(|(span, _)| span.last));
        let pick = |a: &ArrayRef| take(a, &last, None).map_err(reject);
        let values = values.iter().map(pick).collect::<Result<Vec<_>>>()?;
        let keys = crate::format::encode::keys(&values, full.len());
        let mut accumulators = self.aggregates.start()?;
        let states: Vec<(usize, &[u8])> = full
            .iter()
            .enumerate()
            .map(|(n, (_, state))| (n, &state[..]))
            .collect();
        accumulators.merge(&states, full.len())?;
        let mut values = values.into_iter();
        let mut columns = Vec::new();
        for column in &self.columns {
            let bound = |part: fn(&Span) -> i64| -> ArrayRef {
                let bounds = full.iter().map(|(span, _)| part(span));
                Arc::new(TimestampMillisecondArray::from_iter_values(bounds))
            };
            columns.extend(match column {
                GroupColumn::Value(_) => values.next(),
                GroupColumn::Start => Some(bound(|s| s.from_ms)),
                GroupColumn::End => Some(bound(|s| s.to_ms)),
            });
        }
        columns.extend(accumulators.results()?);
        let of = |row: &u32| *row as usize;
        let last = || last.values().iter().map(of);
        let marks = Marks {
            times_ms: full.iter().map(|(span, _)| span.to_ms).collect(),
            watermarks_ms: last().map(|row| rows.marks.watermarks_ms[row]).collect(),
            causes: last().map(|row| rows.marks.causes[row]).collect(),
            groups: Vec::new(),
            keys: Some(keys),
        };
        Ok(Rows {
            batch: RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: true,
        })
    }
}

impl Span {
    /// What is stored; `None` if it is cut off.
    fn read(group: usize, key: &[u8], value: &[u8]) -> Option<Self> {
        let (from, rest) = value.split_first_chunk()?;
        let (to, state) = rest.split_first_chunk()?;
        Some(Self {
            group,
            window: u64::from_be_bytes(*key.last_chunk()?),
            from_ms: from_ordered(*from),
            to_ms: from_ordered(*to),
            last: 0,
            stored: Some(state.to_vec()),
        })
    }
}

/// `number | part | length | values of the group`.
fn group_key(number: usize, part: u8, groups: &Groups, group: usize) -> Vec<u8> {
    let values = &groups.key(group)[1..];
    let mut key = vec![prefix(number), part];
    key.extend_from_slice(&(values.len() as u32).to_be_bytes());
    key.extend_from_slice(values);
    key
}

fn window_key(number: usize, groups: &Groups, group: usize, window: u64) -> Vec<u8> {
    let mut key = group_key(number, 1, groups, group);
    key.extend_from_slice(&window.to_be_bytes());
    key
}

fn damaged() -> flowstone_processor::ProcessError {
    reject("the stored state of a count window is cut off or of another plan")
}
