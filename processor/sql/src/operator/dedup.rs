//! The first row of each key: `DEDUP(stream, time, interval, key, ...)`.
//!
//! ```text
//! state: number | values of the key  ->  time of the row that was passed on
//! timer: the same key, at that time + interval: the key is forgotten
//! ```
//!
//! A row passes at once if its key is not known. Whether it is known is decided by the watermark
//! before the row, so that it does not depend on when timers fire. Of a row so late that its key may
//! be forgotten already nobody can say whether it is the first: it goes to the late ones.

use crate::cell::Writer;
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::join::row;
use crate::operator::{from_ordered, ordered, prefix};
use crate::rows::Rows;
use datafusion::arrow::array::{ArrayRef, UInt32Array};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// A filter that lets the first row of each key pass.
#[derive(Clone)]
pub(crate) struct Dedup {
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The column with the event time.
    pub(crate) time: usize,
    /// For how long behind the time of its first row a key is known, in milliseconds.
    pub(crate) interval_ms: i64,
}

impl Dedup {
    pub(super) fn push(
        &self,
        number: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let times = row::times(&rows.batch, self.time)?;
        let mut writers = Vec::new();
        for key in &self.keys {
            let column: ArrayRef = key
                .evaluate(&rows.batch)
                .and_then(|v| v.into_array(rows.len()))
                .map_err(reject)?;
            writers.push(Writer::new(&column));
        }
        let mut passed = Vec::with_capacity(rows.len());
        let mut place = Vec::new();
        for (at, time_ms) in times.into_iter().enumerate() {
            let watermark_ms = rows.marks.watermarks_ms[at];
            let ends_ms = time_ms.saturating_add(self.interval_ms);
            if ends_ms <= watermark_ms {
                flow.late(&rows, at, (time_ms, ends_ms));
                continue;
            }
            place.clear();
            place.push(prefix(number));
            writers.iter().for_each(|w| w.write(at, &mut place));
            if let Some(known) = flow.ctx.get(&place) {
                let known = known.first_chunk().ok_or_else(damaged)?;
                let gone_ms = from_ordered(*known).saturating_add(self.interval_ms);
                if gone_ms > watermark_ms {
                    continue;
                }
                flow.cancel_timer(gone_ms, &place);
            }
            flow.ctx.put(&place, &ordered(time_ms));
            flow.set_timer(ends_ms, &place);
            passed.push(at as u32);
        }
        if passed.len() == rows.len() {
            return down.push(rows, flow);
        }
        if passed.is_empty() {
            return Ok(());
        }
        let rows = rows.pick(&UInt32Array::from(passed)).map_err(reject)?;
        down.push(rows, flow)
    }

    /// A key is forgotten.
    pub(crate) fn forget(&self, number: usize, key: &[u8], flow: &mut Flow<'_, '_>) {
        let mut place = vec![prefix(number)];
        place.extend_from_slice(key);
        flow.ctx.delete(&place);
    }
}

fn damaged() -> flowstone_processor::ProcessError {
    reject("the stored time of a key is cut off or of another plan")
}
