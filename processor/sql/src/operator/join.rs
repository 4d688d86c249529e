//! Joins of two inputs whose times are within bounds of each other.
//!
//! ```text
//! state: number | side | length | values of the key | time | partition, offset or counter
//!                                                  ->  matched | the row
//! timer: the same key, when nothing that is on time can match the row any more
//! ```
//!
//! A row meets what is stored of the other side and is stored for what is still to come, so each
//! pair is found once, whichever comes first. A row is late if its time is below the watermark
//! before it: then a row that it belongs to may be gone. What is not late meets everything that it
//! belongs to, so the pairs do not depend on the order in which rows come.

mod pairs;
pub(in crate::operator) mod row;

use crate::flow::{Down, Flow, Result, reject};
use crate::operator::{ordered, prefix};
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use pairs::Pairs;
use row::{StoredRow, on_time, place, stem};
use std::sync::Arc;

/// One input of a join.
#[derive(Clone)]
pub(crate) struct Side {
    /// What must be equal.
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The column with the event time.
    pub(crate) time: usize,
    /// Its columns; every one may be null.
    pub(crate) schema: SchemaRef,
    /// Rows without a partner are part of the result.
    pub(crate) outer: bool,
    /// How far behind its own time a row of the other side may be, in milliseconds; below zero, how
    /// far it must be ahead.
    pub(crate) before_ms: i64,
    /// How far ahead.
    pub(crate) after_ms: i64,
}

/// A join.
#[derive(Clone)]
pub(crate) struct Join {
    /// Left and right.
    pub(crate) sides: [Side; 2],
    /// What else must hold of a pair, over the columns of left and right.
    pub(crate) condition: Option<Arc<dyn PhysicalExpr>>,
    /// How much later than by the watermark a row may come.
    pub(crate) lateness_ms: i64,
    /// The columns of left, then of right.
    pub(crate) schema: SchemaRef,
}

impl Join {
    pub(super) fn push(
        &self,
        number: usize,
        port: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let side = &self.sides[port];
        let rows = on_time(rows, side.time, self.lateness_ms, flow)?;
        if rows.len() == 0 {
            return Ok(());
        }
        let keys = row::keys(&side.keys, &rows.batch)?;
        let times = row::times(&rows.batch, side.time)?;
        let mut pairs = Pairs::new(self, port, &rows);
        let mut places = Vec::with_capacity(rows.len());
        for at in 0..rows.len() {
            let own = stem(number, port, keys[at].as_deref().unwrap_or_default());
            places.push(place(own, times[at], &rows, at, flow));
            if let Some(key) = &keys[at] {
                let other = stem(number, 1 - port, key);
                let mut rest = Some(self.earliest(port, &other, times[at]));
                while let Some(first) = rest {
                    rest = self.meet((at, times[at]), (&other, &first), &mut pairs, flow)?;
                    if pairs.is_much() {
                        pairs.push(flow, down)?;
                    }
                }
            }
        }
        let found = pairs.finish(flow, down)?;
        let writer = row::RowWriter::new(&rows.batch);
        for (at, place) in places.iter().enumerate() {
            if keys[at].is_some() || side.outer {
                let value = writer.write(at, found[at]);
                self.store(side, times[at], place, &value, flow);
            }
        }
        Ok(())
    }

    /// Where the stored rows under `stem` begin that a row of this time may meet.
    fn earliest(&self, port: usize, stem: &[u8], time_ms: i64) -> Vec<u8> {
        let earliest_ms = time_ms.saturating_sub(self.sides[port].before_ms);
        [stem, &ordered(earliest_ms)].concat()
    }

    /// Pairs a row with the stored ones under `stem` from `first` on whose times are within the bounds. Gives where
    /// to go on if that was much.
    fn meet(
        &self,
        (at, time_ms): (usize, i64),
        (stem, first): (&[u8], &[u8]),
        pairs: &mut Pairs<'_>,
        flow: &Flow<'_, '_>,
    ) -> Result<Option<Vec<u8>>> {
        let last_ms = time_ms.saturating_add(self.sides[pairs.port()].after_ms);
        // Rows of one key lie in the order of their times: those before and behind are not looked at.
        for (place, value) in flow.ctx.scan_from(stem, first) {
            if pairs.is_much() {
                return Ok(Some(place.to_vec()));
            }
            let stored = StoredRow::read(place, value, stem.len()).ok_or_else(damaged)?;
            if stored.time_ms > last_ms {
                break;
            }
            pairs.add(at, stored);
        }
        Ok(None)
    }

    /// Stores a row until nothing that is on time can match it any more.
    fn store(
        &self,
        side: &Side,
        time_ms: i64,
        place: &[u8],
        value: &[u8],
        flow: &mut Flow<'_, '_>,
    ) {
        flow.ctx.put(place, value);
        let gone_ms = time_ms
            .saturating_add(side.after_ms.max(0))
            .saturating_add(1);
        flow.set_timer(gone_ms.saturating_add(self.lateness_ms), place);
    }

    /// A row that nothing can match any more goes; without a partner it may be part of the result.
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
        let port = usize::from(key.first().is_some_and(|side| *side == 1));
        let Some(value) = flow.ctx.get(&place) else {
            return Ok(());
        };
        let (matched, bytes) = value.split_first().ok_or_else(damaged)?;
        if *matched == 0 && self.sides[port].outer {
            let rows = self.alone(port, at_ms, bytes)?;
            down.push(rows, flow)?;
        }
        flow.ctx.delete(&place);
        Ok(())
    }

    /// A row without a partner.
    fn alone(&self, port: usize, at_ms: i64, bytes: &[u8]) -> Result<Rows> {
        let own = row::read(&self.sides[port].schema, &[bytes]).ok_or_else(damaged)?;
        let own = own.map_err(reject)?;
        let times = row::times(&own, self.sides[port].time)?;
        let other = self.sides[1 - port].schema.fields().iter();
        let nulls: Vec<ArrayRef> = other
            .map(|f| datafusion::arrow::array::new_null_array(f.data_type(), 1))
            .collect();
        let columns = match port {
            0 => [own.columns(), &nulls[..]].concat(),
            _ => [&nulls[..], own.columns()].concat(),
        };
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?;
        let marks = Marks {
            times_ms: times,
            watermarks_ms: vec![at_ms.saturating_sub(1)],
            causes: vec![NO_RECORD],
            groups: Vec::new(),
            keys: None,
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
    reject("a stored row of a join is cut off or of another plan")
}
