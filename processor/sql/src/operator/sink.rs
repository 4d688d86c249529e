//! The end of a query: rows become records.

use crate::flow::{Flow, Result, reject};
use crate::format::encode::Encoder;
use crate::rows::{Change, Rows};
use datafusion::arrow::array::Array;
use std::collections::BTreeMap;

/// Writes records.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) format: crate::pipeline::OutputFormat,
    /// Rows that were part of the result, by group. Filled by the rows of before and emptied by the
    /// rows of after that follow at once.
    before: BTreeMap<u32, Before>,
}

/// A row that was part of the result.
#[derive(Clone)]
struct Before {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Sink {
    pub(crate) fn new(format: crate::pipeline::OutputFormat) -> Self {
        Self {
            format,
            before: BTreeMap::new(),
        }
    }

    pub(super) fn push(&mut self, rows: &Rows, flow: &mut Flow<'_, '_>) -> Result<()> {
        if rows.change == Change::Before {
            self.before.clear();
        }
        let encoder = Encoder::new(self.format, &rows.batch).map_err(reject)?;
        let mut value = Vec::new();
        for row in 0..rows.len() {
            value.clear();
            let value = encoder.write(row, &mut value);
            let key = rows
                .marks
                .keys
                .as_ref()
                .filter(|k| k.is_valid(row))
                .map(|k| k.value(row));
            match rows.change {
                Change::Insert => emit(rows, row, key, value, flow),
                Change::Before => {
                    let before = Before {
                        key: key.map(<[u8]>::to_vec),
                        value: value.map(<[u8]>::to_vec),
                    };
                    self.before.insert(rows.marks.groups[row], before);
                }
                Change::After => {
                    let before = self.before.remove(&rows.marks.groups[row]);
                    if before.is_none_or(|b| b.value.as_deref() != value) {
                        emit(rows, row, key, value, flow);
                    }
                }
            }
        }
        if rows.change == Change::After {
            self.push_gone(rows, flow);
        }
        Ok(())
    }

    /// Groups that are no longer part of the result: their keys get tombstones.
    fn push_gone(&mut self, rows: &Rows, flow: &mut Flow<'_, '_>) {
        let now_ms = flow.ctx.now_ms();
        let time_ms = rows.marks.times_ms.iter().copied().max().unwrap_or(now_ms);
        for gone in std::mem::take(&mut self.before).into_values() {
            let mut cause = flow.cause_of(crate::rows::NO_RECORD);
            cause.rekeyed = true;
            flow.ctx
                .emit_for(cause, time_ms, gone.key.as_deref(), None, &[]);
        }
    }
}

fn emit(
    rows: &Rows,
    row: usize,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    flow: &mut Flow<'_, '_>,
) {
    let marks = &rows.marks;
    let cause_row = marks.causes[row];
    let mut cause = flow.cause_of(cause_row);
    let own_key = marks.keys.is_some();
    // The partition of an exchange says nothing about that of the result.
    cause.rekeyed |= own_key || flow.keys.is_some();
    let key = match own_key || flow.bulk.is_none() || cause_row == crate::rows::NO_RECORD {
        true => key,
        false => flow.key_of(cause_row),
    };
    flow.ctx
        .emit_for(cause, marks.times_ms[row], key, value, &[]);
}
