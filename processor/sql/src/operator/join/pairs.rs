//! The pairs that the rows of a unit make with stored ones.

use super::row::{self, StoredRow};
use super::{Join, damaged};
use crate::flow::{Down, Flow, Result, reject};
use crate::rows::{Change, Marks, Rows};
use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use std::sync::Arc;

/// Most pairs that are computed at once.
const PAIRS_MAX: usize = 4096;
/// Most bytes that they may be, if they are more than one.
const PAIRS_BYTES_MAX: usize = 16 << 20;

/// Pairs of rows; `port` is the side of the rows that are new.
pub(super) struct Pairs<'j> {
    join: &'j Join,
    port: usize,
    rows: &'j Rows,
    /// Bytes of the largest new row.
    new_bytes: usize,
    /// Bytes of the stored rows that wait to be paired.
    stored_bytes: usize,
    new: Vec<u32>,
    stored: Vec<StoredRow>,
    /// For each new row whether it is in a pair that holds.
    matched: Vec<bool>,
}

impl<'j> Pairs<'j> {
    pub(super) fn new(join: &'j Join, port: usize, rows: &'j Rows) -> Self {
        Self {
            join,
            port,
            rows,
            new_bytes: rows.widest(),
            stored_bytes: 0,
            new: Vec::new(),
            stored: Vec::new(),
            matched: vec![false; rows.len()],
        }
    }

    pub(super) fn port(&self) -> usize {
        self.port
    }

    pub(super) fn add(&mut self, new: usize, stored: StoredRow) {
        self.new.push(new as u32);
        self.stored_bytes += stored.row.len();
        self.stored.push(stored);
    }

    /// Whether there is so much that it is to be given out: the pairs of a unit need not all be held.
    pub(super) fn is_much(&self) -> bool {
        self.new.len() >= PAIRS_MAX || self.stored_bytes > PAIRS_BYTES_MAX
    }

    /// Gives out the rest. Says for each new row whether it is in a pair that holds.
    pub(super) fn finish(
        mut self,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<Vec<bool>> {
        self.push(flow, down)?;
        Ok(self.matched)
    }

    /// Gives the pairs that hold to `down`, and notes it at the stored rows.
    pub(super) fn push(&mut self, flow: &mut Flow<'_, '_>, down: &mut Down<'_>) -> Result<()> {
        let (new, stored) = (
            std::mem::take(&mut self.new),
            std::mem::take(&mut self.stored),
        );
        self.stored_bytes = 0;
        let stored_bytes = stored.iter().map(|s| s.row.len()).max().unwrap_or(0);
        let most = PAIRS_BYTES_MAX / (self.new_bytes + stored_bytes).max(1);
        let most = most.clamp(1, PAIRS_MAX);
        for (new, stored) in new.chunks(most).zip(stored.chunks(most)) {
            let batch = self.batch(new, stored)?;
            let holds = self.holds(&batch)?;
            for place in holds.values().iter() {
                let (new, stored) = (new[*place as usize], &stored[*place as usize]);
                self.matched[new as usize] = true;
                if !stored.matched {
                    let value = [&[1][..], &stored.row].concat();
                    flow.ctx.put(&stored.place, &value);
                }
            }
            if holds.is_empty() {
                continue;
            }
            let rows = self
                .marked(batch, new, stored)
                .pick(&holds)
                .map_err(reject)?;
            down.push(rows, flow)?;
        }
        Ok(())
    }

    fn batch(&self, new: &[u32], stored: &[StoredRow]) -> Result<RecordBatch> {
        let new = UInt32Array::from(new.to_vec());
        let new = datafusion::arrow::compute::take_record_batch(&self.rows.batch, &new)
            .map_err(reject)?;
        let rows: Vec<&[u8]> = stored.iter().map(|s| &s.row[..]).collect();
        let other = row::read(&self.join.sides[1 - self.port].schema, &rows).ok_or_else(damaged)?;
        let other = other.map_err(reject)?;
        let columns = match self.port {
            0 => [new.columns(), other.columns()].concat(),
            _ => [other.columns(), new.columns()].concat(),
        };
        RecordBatch::try_new(self.join.schema.clone(), columns).map_err(reject)
    }

    /// The places of the pairs that the condition is true for.
    fn holds(&self, batch: &RecordBatch) -> Result<UInt32Array> {
        let Some(condition) = &self.join.condition else {
            return Ok(UInt32Array::from_iter_values(0..batch.num_rows() as u32));
        };
        let holds = condition
            .evaluate(batch)
            .and_then(|v| v.into_array(batch.num_rows()));
        let holds = holds.map_err(reject)?;
        let holds = holds.as_boolean();
        let is_true = |row: &u32| holds.is_valid(*row as usize) && holds.value(*row as usize);
        Ok(UInt32Array::from_iter_values(
            (0..batch.num_rows() as u32).filter(is_true),
        ))
    }

    /// Pairs have the later time of their rows.
    fn marked(&self, batch: RecordBatch, new: &[u32], stored: &[StoredRow]) -> Rows {
        let marks = &self.rows.marks;
        let of =
            |values: &[i64]| -> Vec<i64> { new.iter().map(|row| values[*row as usize]).collect() };
        let times = of(&marks.times_ms)
            .into_iter()
            .zip(stored)
            .map(|(ms, s)| ms.max(s.time_ms));
        let marks = Marks {
            times_ms: times.collect(),
            watermarks_ms: of(&marks.watermarks_ms),
            causes: new.iter().map(|row| marks.causes[*row as usize]).collect(),
            groups: Vec::new(),
            keys: None,
        };
        Rows {
            batch,
            marks: Arc::new(marks),
            change: Change::Insert,
            report_late: true,
        }
    }
}
