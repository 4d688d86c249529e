//! GROUP BY: groups with their aggregates, in windows or for ever.
//!
//! ```text
//! state: number | end | start | values of the group  ->  states of the aggregates    in windows
//!        number | values of the group                ->  states of the aggregates    for ever
//! timer: number | end | start, at end + allowed lateness: the window closes
//! groups for ever may have a time to live: see `ttl`
//! ```
//!
//! A row is late if its window has closed by the watermark that held before the row. What is not
//! late is added at once; windows close when all rows of the unit are in. That is the same as taking
//! the rows one by one, because a row that comes after the closing of its window is late.

pub(crate) mod accumulate;
mod changes;
pub(crate) mod close;
pub(crate) mod group;
pub(crate) mod ttl;

use crate::flow::{Down, Flow, Result, reject};
use crate::rows::Rows;
use accumulate::Aggregates;
use changes::{Changed, Touched};
use datafusion::arrow::array::{
    ArrayRef, AsArray, BinaryArray, RecordBatch, RecordBatchOptions, UInt32Array,
};
use datafusion::arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use datafusion::physical_expr::PhysicalExpr;
use group::Groups;
use std::sync::Arc;
use ttl::{Ttl, push_last};

/// A column of GROUP BY.
#[derive(Clone)]
pub(crate) enum GroupColumn {
    /// An expression over the input.
    Value(Arc<dyn PhysicalExpr>),
    /// The start of the window.
    Start,
    /// The end of the window.
    End,
}

/// Where the bounds of windows are in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowColumns {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// How long a window takes rows beyond its end.
    pub(crate) lateness_ms: i64,
}

/// A grouping.
#[derive(Clone)]
pub(crate) struct Aggregate {
    pub(crate) columns: Vec<GroupColumn>,
    pub(crate) window: Option<WindowColumns>,
    pub(crate) aggregates: Aggregates,
    /// The columns of GROUP BY, then the results.
    pub(crate) schema: SchemaRef,
    /// Gives out every change, not only what has become final.
    pub(crate) changes: bool,
    /// When groups without a window are forgotten, if they are.
    pub(crate) ttl: Option<Ttl>,
}

impl Aggregate {
    pub(super) fn push(
        &mut self,
        number: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let rows = match self.window {
            Some(window) => match on_time(rows, window, flow)? {
                Some(rows) => rows,
                None => return Ok(()),
            },
            None => rows,
        };
        let mut rest = Some(rows);
        while let Some(rows) = rest {
            let (part, behind) = self.before_restart(number, rows)?;
            self.add(number, part, flow, down)?;
            rest = behind;
        }
        Ok(())
    }

    /// Adds rows to their groups.
    fn add(
        &self,
        number: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let values = self.values(&rows.batch)?;
        let mut groups = Groups::find(number, &rows, &values, self.window);
        groups.known_first(|groups, n| self.stored(groups, n, &rows, flow).is_some());
        let mut changed = Changed::default();
        let mut accumulators = self.aggregates.start()?;
        self.load(&groups, &rows, flow, &mut accumulators, &mut changed)?;
        accumulators.update(&rows.batch, &groups.numbers, groups.len())?;
        let states = accumulators.states()?;
        self.store(&groups, &states, &changed, &rows, flow)?;
        if self.changes || (self.aggregates.is_empty() && self.window.is_none()) {
            let touched = Touched {
                rows: &rows,
                values: &values,
                groups: &groups,
            };
            self.push_changes(&touched, changed, flow, down)?;
        }
        Ok(())
    }

    /// What is stored of a group, unless it is to be forgotten.
    fn stored<'f>(
        &self,
        groups: &Groups,
        number: usize,
        rows: &Rows,
        flow: &'f Flow<'_, '_>,
    ) -> Option<&'f [u8]> {
        let state = flow.ctx.get(groups.key(number))?;
        let first = groups.firsts[number] as usize;
        let is_over = |ttl: Ttl| ttl.is_over(state, ttl.time_ms(rows, first, flow));
        (!self.ttl.is_some_and(is_over)).then_some(state)
    }

    /// The values of the columns of GROUP BY that are not bounds of windows.
    fn values(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut values = Vec::new();
        for column in &self.columns {
            if let GroupColumn::Value(expr) = column {
                let value = expr
                    .evaluate(batch)
                    .and_then(|v| v.into_array(batch.num_rows()));
                values.push(value.map_err(reject)?);
            }
        }
        Ok(values)
    }

    /// Merges what is stored of the groups; those that something is stored of come first.
    fn load(
        &self,
        groups: &Groups,
        rows: &Rows,
        flow: &Flow<'_, '_>,
        accumulators: &mut accumulate::Accumulators,
        changed: &mut Changed,
    ) -> Result<()> {
        let mut stored = Vec::new();
        for number in 0..groups.len() {
            match self.stored(groups, number, rows, flow) {
                Some(state) => stored.push((number, state)),
                None => changed.fresh.push(number as u32),
            }
        }
        accumulators.merge(&stored, stored.len())?;
        if self.changes && !stored.is_empty() {
            // Groups that are new stay out: they were not part of the result.
            let mut before = self.aggregates.start()?;
            before.merge(&stored, stored.len())?;
            changed.before = before.results()?;
            changed.known = stored.iter().map(|(number, _)| *number as u32).collect();
        }
        Ok(())
    }

    fn store(
        &self,
        groups: &Groups,
        states: &accumulate::States,
        changed: &Changed,
        rows: &Rows,
        flow: &mut Flow<'_, '_>,
    ) -> Result<()> {
        let lasts_ms = self.ttl.map(|ttl| ttl.lasts_ms(groups, rows, flow));
        let mut state = Vec::new();
        for group in 0..groups.len() {
            state.clear();
            states.write(group, &mut state);
            if let Some(lasts_ms) = &lasts_ms {
                push_last(lasts_ms[group], &mut state);
            }
            flow.ctx.put(groups.key(group), &state);
        }
        if let Some((ttl, lasts_ms)) = self.ttl.zip(lasts_ms) {
            ttl.set_timers(&changed.fresh, groups, &lasts_ms, flow);
        }
        let Some(window) = self.window else {
            return Ok(());
        };
        let ends = times(rows.batch.column(window.end));
        let mut last = None;
        for group in &changed.fresh {
            let end = ends[groups.firsts[*group as usize] as usize];
            let key = &groups.key(*group as usize)[..close::KEY_BYTES];
            if last != Some(key) {
                flow.set_timer(end.saturating_add(window.lateness_ms), key);
                last = Some(key);
            }
        }
        Ok(())
    }

    /// Columns in the order of the schema.
    fn batch(
        &self,
        values: Vec<ArrayRef>,
        bounds: Option<(ArrayRef, ArrayRef)>,
        results: Vec<ArrayRef>,
        count: usize,
    ) -> Result<RecordBatch> {
        let mut values = values.into_iter();
        let mut columns = Vec::new();
        for column in &self.columns {
            let next = match column {
                GroupColumn::Value(_) => values.next(),
                GroupColumn::Start => bounds.as_ref().map(|b| b.0.clone()),
                GroupColumn::End => bounds.as_ref().map(|b| b.1.clone()),
            };
            columns.extend(next);
        }
        if self.changes && columns.len() + results.len() < self.schema.fields().len() {
            // Nothing was there before: the results have no rows either.
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        columns.extend(results);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(reject)
    }

    /// The keys of the resulting records.
    fn keys(
        &self,
        values: &[ArrayRef],
        bounds: Option<&(ArrayRef, ArrayRef)>,
        count: usize,
    ) -> BinaryArray {
        let mut all = values.to_vec();
        if let Some((start, end)) = bounds.filter(|_| self.changes) {
            // Each window is a result of its own that changes.
            all.extend([start.clone(), end.clone()]);
        }
        crate::format::encode::keys(&all, count)
    }
}

/// The milliseconds of a column of times without nulls.
pub(crate) fn times(column: &ArrayRef) -> &[i64] {
    column.as_primitive::<TimestampMillisecondType>().values()
}

/// The rows whose windows are open; the others go to the late ones.
pub(crate) fn on_time(
    rows: Rows,
    window: WindowColumns,
    flow: &mut Flow<'_, '_>,
) -> Result<Option<Rows>> {
    let ends = times(rows.batch.column(window.end));
    let is_late =
        |row: usize| ends[row].saturating_add(window.lateness_ms) <= rows.marks.watermarks_ms[row];
    let open: Vec<u32> = (0..rows.len())
        .filter(|r| !is_late(*r))
        .map(|r| r as u32)
        .collect();
    if open.len() == rows.len() {
        return Ok(Some(rows).filter(|r| r.len() > 0));
    }
    if rows.report_late {
        let starts = times(rows.batch.column(window.start));
        for row in (0..rows.len()).filter(|r| is_late(*r)) {
            flow.late(&rows, row, (starts[row], ends[row]));
        }
    }
    if open.is_empty() {
        return Ok(None);
    }
    Ok(Some(rows.pick(&UInt32Array::from(open)).map_err(reject)?))
}
