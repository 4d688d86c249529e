//! Window functions: the bounds of a window beside each row, once for every window that it is in.

use crate::flow::{Down, Flow, Result, reject};
use crate::plan::WindowKind;
use crate::rows::Rows;
use crate::stream::TIMESTAMP;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray, UInt32Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use std::sync::Arc;

/// Assigns windows.
#[derive(Clone)]
pub(crate) struct Window {
    pub(crate) kind: WindowKind,
    /// The column with the event time; without one it is that of the row.
    pub(crate) time: Option<usize>,
    /// The columns of the input, then start and end of the window.
    pub(crate) schema: SchemaRef,
}

impl Window {
    pub(super) fn push(
        &self,
        rows: &Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let times = match self.time {
            Some(time) => self::times(rows.batch.column(time))?,
            None => rows.marks.times_ms.clone(),
        };
        for turn in 0..self.turns() {
            let bounds: Vec<Option<(i64, i64)>> =
                times.iter().map(|t| self.bounds(*t, turn)).collect();
            let mut rows = rows.clone();
            rows.report_late &= turn == 0;
            self.push_bounds(&rows, &bounds, flow, down)?;
        }
        Ok(())
    }

    /// In how many windows a row is at most.
    fn turns(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { .. } | WindowKind::Session { .. } | WindowKind::Count { .. } => 1,
            WindowKind::Hop { slide_ms, size_ms } => size_ms / slide_ms,
            WindowKind::Cumulate { step_ms, size_ms } => size_ms / step_ms,
        }
    }

    /// The window of a row in one turn; the last one to close comes first.
    fn bounds(&self, time: i64, turn: i64) -> Option<(i64, i64)> {
        let floor = |step: i64| time.saturating_sub(time.rem_euclid(step));
        match self.kind {
            WindowKind::Tumble { size_ms } => {
                let start = floor(size_ms);
                Some((start, start.saturating_add(size_ms)))
            }
            WindowKind::Hop { slide_ms, size_ms } => {
                let start = floor(slide_ms).saturating_sub(turn * slide_ms);
                Some((start, start.saturating_add(size_ms)))
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                let start = floor(size_ms);
                let end = start.saturating_add(size_ms - turn * step_ms);
                (end > time).then_some((start, end))
            }
            WindowKind::Session { gap_ms } => Some((time, time.saturating_add(gap_ms))),
            // What it becomes is known when rows are grouped.
            WindowKind::Count { .. } => Some((time, time)),
        }
    }

    fn push_bounds(
        &self,
        rows: &Rows,
        bounds: &[Option<(i64, i64)>],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let mut picked = None;
        if bounds.iter().any(Option::is_none) {
            let here = bounds.iter().enumerate().filter(|(_, b)| b.is_some());
            let here = UInt32Array::from_iter_values(here.map(|(row, _)| row as u32));
            if here.is_empty() {
                return Ok(());
            }
            picked = Some(rows.pick(&here).map_err(reject)?);
        }
        let rows = picked.as_ref().unwrap_or(rows);
        let array = |part: fn(&(i64, i64)) -> i64| -> ArrayRef {
            let values = bounds.iter().flatten().map(part);
            Arc::new(TimestampMillisecondArray::from_iter_values(values))
        };
        let mut columns = rows.batch.columns().to_vec();
        columns.push(array(|b| b.0));
        columns.push(array(|b| b.1));
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?;
        down.push(rows.with_batch(batch), flow)
    }
}

/// The event times of a column.
fn times(column: &ArrayRef) -> Result<Vec<i64>> {
    if column.null_count() > 0 {
        return Err(reject(
            "the time column is null: a row in a window needs a time",
        ));
    }
    let times = cast(column, &TIMESTAMP).map_err(reject)?;
    Ok(times
        .as_primitive::<TimestampMillisecondType>()
        .values()
        .to_vec())
}
