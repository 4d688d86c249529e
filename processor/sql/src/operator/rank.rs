//! The first rows of each group in a window: `row_number() OVER (PARTITION BY window_start,
//! window_end, ... ORDER BY ...)` of which only the first few are wanted.
//!
//! ```text
//! state: number | end | start | values of the group  ->  the rows that are first so far, in order
//! timer: number | end | start, at end + allowed lateness: the window closes
//! ```
//!
//! Of rows that compare equal the one that came first is before the others.

use crate::cell::{Reader, Writer};
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::aggregate::close::groups_of_window;
use crate::operator::aggregate::group::Groups;
use crate::operator::aggregate::{WindowColumns, on_time, times};
use crate::operator::from_ordered;
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{SortOptions, concat_batches};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Bytes of `number | end | start`.
const KEY_BYTES: usize = 17;
/// Most groups that are given out at once; the rest of the window follows in units of its own.
const GROUPS_MAX: usize = 256;

/// A ranking.
#[derive(Clone)]
pub(crate) struct Rank {
    /// What rows are ranked by, beside the window.
    pub(crate) groups: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) window: WindowColumns,
    pub(crate) order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// How many rows of each group are wanted.
    pub(crate) first: usize,
    /// The columns of the input.
    pub(crate) input: SchemaRef,
    /// Those and the rank.
    pub(crate) schema: SchemaRef,
}

impl Rank {
    pub(super) fn push(
        &self,
        number: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        _: &mut Down<'_>,
    ) -> Result<()> {
        let Some(rows) = on_time(rows, self.window, flow)? else {
            return Ok(());
        };
        let value = |e: &Arc<dyn PhysicalExpr>| e.evaluate(&rows.batch)?.into_array(rows.len());
        let values = self
            .groups
            .iter()
            .map(|e| value(e).map_err(reject))
            .collect::<Result<Vec<_>>>()?;
        let groups = Groups::find(number, &rows, &values, Some(self.window));
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
        for (row, group) in groups.numbers.iter().enumerate() {
            members[*group].push(row);
        }
        let ends = times(rows.batch.column(self.window.end));
        for (group, members) in members.iter().enumerate() {
            let key = groups.key(group).to_vec();
            let stored = flow.ctx.get(&key);
            let known = stored.map(|s| self.read(&[s])).transpose()?;
            if known.is_none() {
                let close_ms = ends[members[0]].saturating_add(self.window.lateness_ms);
                flow.set_timer(close_ms, &key[..KEY_BYTES]);
            }
            let first = self.first_of(known, &rows.batch, members)?;
            flow.ctx.put(&key, &first);
        }
        Ok(())
    }

    /// The rows that are first among those that were and the new ones, as they are stored.
    fn first_of(
        &self,
        known: Option<RecordBatch>,
        batch: &RecordBatch,
        members: &[usize],
    ) -> Result<Vec<u8>> {
        let members = members.iter().map(|row| *row as u32);
        let members = datafusion::arrow::array::UInt32Array::from_iter_values(members);
        let fresh =
            datafusion::arrow::compute::take_record_batch(batch, &members).map_err(reject)?;
        let all = match known {
            Some(known) => {
                let fresh = RecordBatch::try_new(known.schema(), fresh.columns().to_vec());
                let fresh = fresh.map_err(reject)?;
                concat_batches(&known.schema(), [&known, &fresh]).map_err(reject)?
            }
            None => fresh,
        };
        let writers: Vec<Writer> = all.columns().iter().map(Writer::new).collect();
        let order = self.order(&all)?;
        let mut out = Vec::new();
        for row in order.into_iter().take(self.first) {
            writers.iter().for_each(|w| w.write(row, &mut out));
        }
        Ok(out)
    }

    /// The rows in order.
    fn order(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let mut rows: Vec<usize> = (0..batch.num_rows()).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (expr, _) in &self.order {
            let column = expr
                .evaluate(batch)
                .and_then(|v| v.into_array(batch.num_rows()));
            columns.push(column.map_err(reject)?);
        }
        if columns.is_empty() {
            return Ok(rows);
        }
        let field = |(column, (_, options)): (&ArrayRef, &(_, SortOptions))| {
            SortField::new_with_options(column.data_type().clone(), *options)
        };
        let fields = columns.iter().zip(&self.order).map(field).collect();
        let keys = RowConverter::new(fields)
            .and_then(|c| c.convert_columns(&columns))
            .map_err(reject)?;
        rows.sort_by(|a, b| keys.row(*a).cmp(&keys.row(*b)));
        Ok(rows)
    }

    /// Stored rows, those of one group behind those of the other.
    fn read(&self, stored: &[&[u8]]) -> Result<RecordBatch> {
        let damaged = || reject("the stored rows of a ranking are cut off or of another plan");
        let fields = self.input.fields();
        let mut readers: Vec<Reader> = fields.iter().map(|f| Reader::new(f.data_type())).collect();
        for bytes in stored {
            let mut rest = *bytes;
            while !rest.is_empty() {
                for reader in &mut readers {
                    reader.read(&mut rest).ok_or_else(damaged)?;
                }
            }
        }
        let columns = readers.into_iter().map(|r| r.finish().map_err(reject));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(self.input.clone(), columns).map_err(reject)
    }

    pub(crate) fn close(
        &self,
        number: usize,
        at_ms: i64,
        key: &[u8],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let stored = groups_of_window(number, (at_ms, key), GROUPS_MAX, flow);
        let end = key.first_chunk().map_or(at_ms, |end| from_ordered(*end));
        let rows = self.ranked(at_ms, end, &stored)?;
        down.push(rows, flow)?;
        for (key, _) in &stored {
            flow.ctx.delete(key);
        }
        Ok(())
    }

    /// Stored rows with their ranks.
    fn ranked(&self, at_ms: i64, end: i64, stored: &[(Vec<u8>, Vec<u8>)]) -> Result<Rows> {
        let (mut ranks, mut pieces, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (_, bytes) in stored {
            let piece = self.read(&[bytes])?;
            let count = piece.num_rows();
            let value = |e: &Arc<dyn PhysicalExpr>| e.evaluate(&piece)?.into_array(count);
            let values = self
                .groups
                .iter()
                .map(|e| value(e).map_err(reject))
                .collect::<Result<Vec<_>>>()?;
            keys.push(crate::format::encode::keys(&values, count));
            ranks.extend((1..=count as u64).collect::<Vec<_>>());
            pieces.push(piece);
        }
        let all = concat_batches(&self.input, &pieces).map_err(reject)?;
        let count = all.num_rows();
        let mut columns = all.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(ranks)));
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?;
        let keys: datafusion::arrow::array::BinaryArray = keys.iter().flatten().collect();
        let marks = Marks {
            times_ms: vec![end.saturating_sub(1); count],
            watermarks_ms: vec![at_ms.saturating_sub(1); count],
            causes: vec![NO_RECORD; count],
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

/// The same columns, every one of which may be null: what is stored says so of each value.
pub(crate) fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
