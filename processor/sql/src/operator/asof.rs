//! ASOF joins: for each row of the left side the latest row of the right side that is not after it.
//!
//! ```text
//! state: number | 0 | length | values of the key | time | partition, offset and counter
//!                                                     ->  key of the record | the row
//!        number | 1 | ...                             ->  the row
//! timer: the same key. Left: no row that is on time can be the latest before it any more, it is
//!        given out. Right: all rows before it go, because no row that is on time can take them.
//! ```
//!
//! A row is late if its time is below the watermark before it. What is not late is there when a row
//! of the left side is given out, so results do not depend on the order in which rows come. Of rows
//! of the right side with equal times that with the higher partition and offset counts as later.

use super::join::row::{self, on_time, place, stem};
use crate::cell::{Writer, push_bytes, take_bytes};
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::{from_ordered, prefix};
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Bytes of `number | side | length`.
const STEM_BYTES: usize = 6;

/// One input of an ASOF join.
#[derive(Clone)]
pub(crate) struct Side {
    /// What must be equal.
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The column with the event time.
    pub(crate) time: usize,
    /// Its columns; every one may be null.
    pub(crate) schema: SchemaRef,
}

/// An ASOF join.
#[derive(Clone)]
pub(crate) struct AsOf {
    /// Left and right.
    pub(crate) sides: [Side; 2],
    /// By how much a row of the right side may be later than one of the left, in milliseconds; below
    /// zero, by how much it must be earlier.
    pub(crate) shift_ms: i64,
    /// How much later than by the watermark a row may come.
    pub(crate) lateness_ms: i64,
    /// The columns of left, then of right.
    pub(crate) schema: SchemaRef,
}

impl AsOf {
    pub(super) fn push(
        &self,
        number: usize,
        port: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
    ) -> Result<()> {
        let side = &self.sides[port];
        let rows = on_time(rows, side.time, self.lateness_ms, flow)?;
        if rows.len() == 0 {
            return Ok(());
        }
        let keys = row::keys(&side.keys, &rows.batch)?;
        let times = row::times(&rows.batch, side.time)?;
        let writers: Vec<Writer> = rows.batch.columns().iter().map(Writer::new).collect();
        let mut value = Vec::new();
        for (at, time_ms) in times.into_iter().enumerate() {
            if port == 1 && keys[at].is_none() {
                // It equals nothing.
                continue;
            }
            let stem = stem(number, port, keys[at].as_deref().unwrap_or_default());
            let place = place(stem, time_ms, &rows, at, flow);
            value.clear();
            if port == 0 {
                push_bytes(record_key(&rows, at, flow), &mut value);
            }
            writers.iter().for_each(|w| w.write(at, &mut value));
            flow.ctx.put(&place, &value);
            let due_ms = match port {
                0 => time_ms.saturating_add(self.shift_ms),
                _ => time_ms.saturating_add(self.shift_ms.saturating_neg().max(0)),
            };
            flow.set_timer(due_ms.saturating_add(self.lateness_ms + 1), &place);
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
        let mut place = vec![prefix(number)];
        place.extend_from_slice(key);
        if key.first() == Some(&1) {
            return forget_before(&place, flow);
        }
        let (stem, time_ms) = split(&place).ok_or_else(damaged)?;
        let mut right = stem.to_vec();
        right[1] = 1;
        let least_ms = time_ms.saturating_add(self.shift_ms);
        let mut latest = None;
        // Without a key it equals nothing.
        if stem.len() > STEM_BYTES {
            for (place, value) in flow.ctx.scan(&right) {
                let (_, right_ms) = split(place).ok_or_else(damaged)?;
                if right_ms > least_ms {
                    break;
                }
                latest = Some(value);
            }
        }
        let Some(value) = flow.ctx.get(&place) else {
            return Ok(());
        };
        let rows = self.pair(at_ms, time_ms, value, latest)?;
        flow.ctx.delete(&place);
        down.push(rows, flow)
    }

    /// A row of the left side with what was found for it.
    fn pair(&self, at_ms: i64, time_ms: i64, left: &[u8], right: Option<&[u8]>) -> Result<Rows> {
        let mut left = left;
        let key = take_bytes(&mut left).ok_or_else(damaged)?;
        // A zero says that a value is null.
        let nothing = vec![0; self.sides[1].schema.fields().len()];
        let stored = [left, right.unwrap_or(&nothing)];
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (side, stored) in self.sides.iter().zip(stored) {
            let batch = row::read(&side.schema, &[stored]).ok_or_else(damaged)?;
            columns.extend_from_slice(batch.map_err(reject)?.columns());
        }
        let marks = Marks {
            times_ms: vec![time_ms],
            watermarks_ms: vec![at_ms.saturating_sub(1)],
            causes: vec![NO_RECORD],
            groups: Vec::new(),
            keys: Some(BinaryArray::from(vec![key])),
        };
        Ok(Rows {
            batch: RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: true,
        })
    }
}

/// The rows of the right side before the one at `place` go.
fn forget_before(place: &[u8], flow: &mut Flow<'_, '_>) -> Result<()> {
    let (stem, _) = split(place).ok_or_else(damaged)?;
    let older = flow.ctx.scan(stem).map(|(older, _)| older);
    let older: Vec<Vec<u8>> = older
        .take_while(|older| *older < place)
        .map(<[u8]>::to_vec)
        .collect();
    older.iter().for_each(|older| flow.ctx.delete(older));
    Ok(())
}

/// The key of the record that a row is to lead to.
fn record_key<'f>(rows: &'f Rows, at: usize, flow: &'f Flow<'_, '_>) -> Option<&'f [u8]> {
    if let Some(keys) = &rows.marks.keys {
        return keys.is_valid(at).then(|| keys.value(at));
    }
    let cause = rows.marks.causes.get(at).copied().unwrap_or(NO_RECORD);
    let bulk = flow.bulk.as_ref().filter(|_| cause != NO_RECORD)?;
    bulk.records[cause as usize].view.key
}

/// What stands before the time in a place, and the time.
fn split(place: &[u8]) -> Option<(&[u8], i64)> {
    let length = u32::from_be_bytes(*place.get(2..)?.first_chunk()?);
    let end = STEM_BYTES.checked_add(length as usize)?;
    let time = place.get(end..)?.first_chunk()?;
    Some((place.get(..end)?, from_ordered(*time)))
}

fn damaged() -> flowstone_processor::ProcessError {
    reject("a stored row of an ASOF join is cut off or of another plan")
}
