//! The way of rows to the shard where they meet others that belong to them: rows become records of an
//! internal topic, of which every partition has one writer, and records rows again.
//!
//! ```text
//! key:   the values that rows which meet have in common; none: for every partition
//! value: edge 1 | marks 1 | watermark 8 | event time 8 | key of the original record: size 4 and bytes | values
//! ```
//! The timestamp of the record is the clock's: what an exchange keeps goes by how long ago it was written, however old
//! the rows are.
//!
//! Numbers little-endian. `edge` says where the row goes on; 255 is no row, and tells the time only: then the mark 1 says
//! that the task which writes is idle, and nothing follows the watermark. Of a row the mark 1 is [`Rows::report_late`], and 2
//! says that there is an event time; the first version wrote none, its records have that as their timestamp. The watermark is the one that the task which wrote the record had before the unit: rows of a
//! unit leave in another order than they came in, and none may be late because of another. A
//! partition's records bring its watermark forward, so the task that reads them has the lowest of all.

use crate::cell::Writer;
use crate::flow::{Flow, Result, reject};
use crate::rows::Rows;
use datafusion::arrow::array::ArrayRef;
use datafusion::physical_expr::PhysicalExpr;
use flowstone_processor::{Cause, Context, TaskTime};
use std::sync::Arc;

/// In place of an edge: no row.
const TIME_ONLY: u8 = u8::MAX;
/// Most edges of a query; operators are fewer.
pub(crate) const EDGES_MAX: usize = 64;
/// Marks of a row.
const REPORT_LATE: u8 = 1;
const HAS_TIME: u8 = 2;
/// The mark of what tells the time.
const IDLE: u8 = 1;
/// In place of the size of a key: there is none.
const NO_KEY: u32 = u32::MAX;

/// Writes the rows of one edge.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) edge: u8,
    /// Rows with equal values meet; without any, all do.
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
}

impl Exchange {
    pub(super) fn push(&self, rows: &Rows, flow: &mut Flow<'_, '_>) -> Result<()> {
        let value = |e: &Arc<dyn PhysicalExpr>| e.evaluate(&rows.batch)?.into_array(rows.len());
        let keys = self.keys.iter().map(|e| value(e).map_err(reject));
        let keys: Vec<ArrayRef> = keys.collect::<Result<_>>()?;
        let keys: Vec<Writer> = keys.iter().map(Writer::new).collect();
        let values: Vec<Writer> = rows.batch.columns().iter().map(Writer::new).collect();
        let before = flow.bulk.as_ref().and_then(|b| b.watermarks.first());
        let watermark_ms = before.copied().unwrap_or(i64::MIN);
        let report_late = if rows.report_late { REPORT_LATE } else { 0 };
        let marks = HAS_TIME | report_late;
        let (mut key, mut bytes) = (Vec::new(), Vec::new());
        for row in 0..rows.len() {
            key.clear();
            keys.iter().for_each(|w| w.write(row, &mut key));
            let cause_row = rows.marks.causes[row];
            bytes.clear();
            bytes.extend_from_slice(&[self.edge, marks]);
            bytes.extend_from_slice(&watermark_ms.to_le_bytes());
            bytes.extend_from_slice(&rows.marks.times_ms[row].to_le_bytes());
            let original = flow.key_of(cause_row);
            let size = original.map_or(NO_KEY, |k| k.len() as u32);
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(original.unwrap_or_default());
            values.iter().for_each(|w| w.write(row, &mut bytes));
            let cause = Cause {
                rekeyed: true,
                ..flow.cause_of(cause_row)
            };
            let now_ms = flow.ctx.now_ms();
            flow.ctx
                .emit_for(cause, now_ms, Some(&key), Some(&bytes), &[]);
        }
        Ok(())
    }
}

/// Tells every partition how far the task is.
pub(crate) fn tell_time(time: TaskTime, ctx: &mut Context<'_>) {
    let mut bytes = vec![TIME_ONLY, if time.idle { IDLE } else { 0 }];
    bytes.extend_from_slice(&time.watermark_ms.to_le_bytes());
    let now_ms = ctx.now_ms();
    ctx.emit_for(ctx.cause(), now_ms, None, Some(&bytes), &[]);
}

/// What a record of an exchange says.
pub(crate) struct Read<'a> {
    /// `None` before the writer knew one.
    pub(crate) watermark_ms: Option<i64>,
    /// Others need not wait for the writer.
    pub(crate) idle: bool,
    pub(crate) row: Option<ReadRow<'a>>,
}

/// A row as it came.
pub(crate) struct ReadRow<'a> {
    pub(crate) edge: usize,
    pub(crate) report_late: bool,
    /// Its event time.
    pub(crate) time_ms: i64,
    /// The key of the record that the row comes from.
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) values: &'a [u8],
}

/// Reads a record with this value and timestamp; `None` if it is none of an exchange.
pub(crate) fn read(value: &[u8], timestamp: i64) -> Option<Read<'_>> {
    let ([edge, marks], rest) = value.split_first_chunk()?;
    let (watermark, rest) = rest.split_first_chunk()?;
    let watermark_ms = Some(i64::from_le_bytes(*watermark)).filter(|ms| *ms != i64::MIN);
    if *edge == TIME_ONLY {
        return rest.is_empty().then_some(Read {
            watermark_ms,
            idle: *marks & IDLE != 0,
            row: None,
        });
    }
    let (time_ms, rest) = match marks & HAS_TIME {
        0 => (timestamp, rest),
        _ => {
            let (time, rest) = rest.split_first_chunk()?;
            (i64::from_le_bytes(*time), rest)
        }
    };
    let (size, rest) = rest.split_first_chunk()?;
    let (key, values) = match u32::from_le_bytes(*size) {
        NO_KEY => (None, rest),
        size => {
            let (key, values) = rest.split_at_checked(size as usize)?;
            (Some(key), values)
        }
    };
    let row = Some(ReadRow {
        edge: usize::from(*edge),
        report_late: marks & REPORT_LATE != 0,
        time_ms,
        key,
        values,
    });
    Some(Read {
        watermark_ms,
        idle: false,
        row,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_no_record_of_an_exchange() {
        let mut bytes = vec![3, HAS_TIME | REPORT_LATE];
        bytes.extend_from_slice(&7_i64.to_le_bytes());
        bytes.extend_from_slice(&5_i64.to_le_bytes());
        bytes.extend_from_slice(&2_u32.to_le_bytes());
        bytes.extend_from_slice(b"kvv");
        let whole = read(&bytes, 9).unwrap();
        let row = whole.row.unwrap();
        assert_eq!((whole.watermark_ms, row.edge, row.time_ms), (Some(7), 3, 5));
        assert_eq!((row.key, row.values), (Some(&b"kv"[..]), &b"v"[..]));
        for cut in 0..bytes.len() - 1 {
            assert!(read(&bytes[..cut], 9).is_none(), "{cut} bytes");
        }
    }

    #[test]
    fn rows_of_the_first_version_have_their_time_outside() {
        let mut bytes = vec![3, REPORT_LATE];
        bytes.extend_from_slice(&7_i64.to_le_bytes());
        bytes.extend_from_slice(&NO_KEY.to_le_bytes());
        bytes.extend_from_slice(b"vv");
        let row = read(&bytes, 9).unwrap().row.unwrap();
        assert_eq!((row.time_ms, row.report_late, row.key), (9, true, None));
        assert_eq!(row.values, b"vv");
    }
}
