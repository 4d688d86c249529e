//! Looking up the latest row of a table for each row of a stream.
//!
//! ```text
//! state: number | value of the key  ->  the row of the table
//! ```
//!
//! A record of the table replaces the row of its key, one without a value removes it. A row of the
//! stream takes what is there when it is dealt with, and nothing comes out when the table changes
//! later. The rows of the table in a unit come before those of the stream.

use super::join::row;
use crate::cell::Writer;
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::prefix;
use crate::rows::{NO_RECORD, Rows};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of the table that rows are paired with at once, if they are of more than one.
const FOUND_BYTES_MAX: usize = 16 << 20;

/// A join with a table.
#[derive(Clone)]
pub(crate) struct Lookup {
    /// What is looked up, over the columns of the stream.
    pub(crate) key: Arc<dyn PhysicalExpr>,
    /// What is looked up is the key of the record: its row of the table is on the same shard.
    pub(crate) by_record_key: bool,
    /// The column of the table with its key.
    pub(crate) table_key: usize,
    /// The columns of the table; every one may be null.
    pub(crate) table: SchemaRef,
    /// What else must hold of a pair, over the columns of both.
    pub(crate) condition: Option<Arc<dyn PhysicalExpr>>,
    /// Rows of the stream that find nothing are part of the result.
    pub(crate) outer: bool,
    /// The columns of the stream, then of the table.
    pub(crate) schema: SchemaRef,
}

impl Lookup {
    /// Rows of the stream come in at port 0, those of the table at port 1.
    pub(super) fn push(
        &self,
        number: usize,
        port: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        if port == 1 {
            self.keep(number, &rows, flow);
            return Ok(());
        }
        let found = self.look_up(number, &rows, flow)?;
        let pieces = pieces(&found);
        if pieces.len() == 1 {
            let rows = self.join(rows, found)?;
            return pass(rows, flow, down);
        }
        for piece in pieces {
            let places = UInt32Array::from_iter_values(piece.map(|at| at as u32));
            let piece = rows.pick(&places).map_err(reject)?;
            let found = self.look_up(number, &piece, flow)?;
            let piece = self.join(piece, found)?;
            pass(piece, flow, down)?;
        }
        Ok(())
    }

    /// Takes the rows of the table into the state.
    fn keep(&self, number: usize, rows: &Rows, flow: &mut Flow<'_, '_>) {
        let keys = Writer::new(rows.batch.column(self.table_key));
        let columns: Vec<Writer> = rows.batch.columns().iter().map(Writer::new).collect();
        let mut value = Vec::new();
        for at in 0..rows.len() {
            let key = place(number, &keys, at);
            if is_tombstone(rows, at, flow) {
                flow.ctx.delete(&key);
                continue;
            }
            value.clear();
            columns.iter().for_each(|c| c.write(at, &mut value));
            flow.ctx.put(&key, &value);
        }
    }

    /// What is stored for each row.
    fn look_up<'f>(
        &self,
        number: usize,
        rows: &Rows,
        flow: &'f Flow<'_, '_>,
    ) -> Result<Vec<Option<&'f [u8]>>> {
        let keys = self.key.evaluate(&rows.batch);
        let keys = keys
            .and_then(|v| v.into_array(rows.len()))
            .map_err(reject)?;
        let writer = Writer::new(&keys);
        let mut found = Vec::with_capacity(rows.len());
        for at in 0..rows.len() {
            let key = keys.is_valid(at).then(|| place(number, &writer, at));
            found.push(key.and_then(|key| flow.ctx.get(&key)));
        }
        Ok(found)
    }

    /// The rows with what is found for each.
    fn join(&self, rows: Rows, mut found: Vec<Option<&[u8]>>) -> Result<Rows> {
        let mut batch = self.pairs(&rows, &found)?;
        if let Some(condition) = &self.condition {
            let holds = condition
                .evaluate(&batch)
                .and_then(|v| v.into_array(rows.len()))
                .map_err(reject)?;
            let holds = holds.as_boolean();
            let mut dropped = false;
            for (at, found) in found.iter_mut().enumerate() {
                if found.is_some() && !(holds.is_valid(at) && holds.value(at)) {
                    *found = None;
                    dropped = true;
                }
            }
            if dropped && self.outer {
                batch = self.pairs(&rows, &found)?;
            }
        }
        let rows = rows.with_batch(batch);
        if self.outer || found.iter().all(Option::is_some) {
            return Ok(rows);
        }
        let kept = (0..found.len()).filter(|at| found[*at].is_some());
        let kept = UInt32Array::from_iter_values(kept.map(|at| at as u32));
        rows.pick(&kept).map_err(reject)
    }

    /// The columns of the stream and of the table, nulls where nothing is found.
    fn pairs(&self, rows: &Rows, found: &[Option<&[u8]>]) -> Result<RecordBatch> {
        // A zero says that a value is null.
        let nothing = vec![0; self.table.fields().len()];
        let stored: Vec<&[u8]> = found.iter().map(|f| f.unwrap_or(&nothing)).collect();
        let table = row::read(&self.table, &stored)
            .ok_or_else(|| reject("a stored row of a table is cut off or of another plan"))?
            .map_err(reject)?;
        let columns: Vec<ArrayRef> = [rows.batch.columns(), table.columns()].concat();
        RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)
    }
}

fn pass(rows: Rows, flow: &mut Flow<'_, '_>, down: &mut Down<'_>) -> Result<()> {
    match rows.len() {
        0 => Ok(()),
        _ => down.push(rows, flow),
    }
}

/// The rows in pieces, so that what is found for one piece is not too much at once: all may look up one large row.
fn pieces(found: &[Option<&[u8]>]) -> Vec<Range<usize>> {
    let (mut pieces, mut from, mut held) = (Vec::new(), 0, 0);
    for (at, found) in found.iter().enumerate() {
        let bytes = found.map_or(0, <[u8]>::len);
        if at > from && held + bytes > FOUND_BYTES_MAX {
            pieces.push(from..at);
            (from, held) = (at, 0);
        }
        held += bytes;
    }
    pieces.push(from..found.len());
    pieces
}

/// `number | value of the key`.
fn place(number: usize, keys: &Writer, at: usize) -> Vec<u8> {
    let mut place = vec![prefix(number)];
    keys.write(at, &mut place);
    place
}

/// Whether the record of a row has no value.
fn is_tombstone(rows: &Rows, at: usize, flow: &Flow<'_, '_>) -> bool {
    let cause = rows.marks.causes.get(at).copied().unwrap_or(NO_RECORD);
    let bulk = flow.bulk.as_ref().filter(|_| cause != NO_RECORD);
    bulk.is_some_and(|b| b.records[cause as usize].view.value.is_none())
}
