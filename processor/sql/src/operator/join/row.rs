//! Rows of a join as they are stored.

use crate::cell::{Reader, Writer};
use crate::flow::{Flow, Result, reject};
use crate::operator::{from_ordered, ordered, prefix};
use crate::rows::{NO_RECORD, Rows};
use crate::stream::TIMESTAMP;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// A stored row that may be half of a pair.
pub(super) struct StoredRow {
    pub(super) place: Vec<u8>,
    pub(super) matched: bool,
    pub(super) time_ms: i64,
    pub(super) row: Vec<u8>,
}

impl StoredRow {
    /// What is stored at `place`, whose time stands behind `stem` bytes; `None` if it is cut off.
    pub(super) fn read(place: &[u8], value: &[u8], stem: usize) -> Option<Self> {
        let (matched, row) = value.split_first()?;
        Some(Self {
            time_ms: from_ordered(*place.get(stem..)?.first_chunk()?),
            place: place.to_vec(),
            matched: *matched == 1,
            row: row.to_vec(),
        })
    }
}

/// Writes the rows of a batch. Made once for all of them: what a writer is made of is as long as the
/// batch.
pub(super) struct RowWriter(Vec<Writer>);

impl RowWriter {
    pub(super) fn new(batch: &RecordBatch) -> Self {
        Self(batch.columns().iter().map(Writer::new).collect())
    }

    /// `matched | values`.
    pub(super) fn write(&self, at: usize, matched: bool) -> Vec<u8> {
        let mut value = vec![u8::from(matched)];
        self.0.iter().for_each(|w| w.write(at, &mut value));
        value
    }
}

/// Rows from their values; `None` if one is cut off.
pub(in crate::operator) fn read(
    schema: &SchemaRef,
    rows: &[&[u8]],
) -> Option<std::result::Result<RecordBatch, ArrowError>> {
    let mut readers: Vec<Reader> = schema
        .fields()
        .iter()
        .map(|f| Reader::new(f.data_type()))
        .collect();
    for row in rows {
        let mut rest = *row;
        for reader in &mut readers {
            reader.read(&mut rest)?;
        }
    }
    let columns = readers
        .into_iter()
        .map(Reader::finish)
        .collect::<std::result::Result<Vec<_>, _>>();
    Some(columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns)))
}

/// The values of each row's key; none where one of them is null, which equals nothing.
pub(in crate::operator) fn keys(
    keys: &[Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> Result<Vec<Option<Vec<u8>>>> {
    let count = batch.num_rows();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for key in keys {
        let column = key.evaluate(batch).and_then(|v| v.into_array(count));
        columns.push(column.map_err(reject)?);
    }
    let writers: Vec<Writer> = columns.iter().map(Writer::new).collect();
    let key = |row: usize| {
        if columns.iter().any(|c| c.is_null(row)) {
            return None;
        }
        let mut key = Vec::new();
        writers.iter().for_each(|w| w.write(row, &mut key));
        Some(key)
    };
    Ok((0..count).map(key).collect())
}

/// The event times of rows.
pub(in crate::operator) fn times(batch: &RecordBatch, column: usize) -> Result<Vec<i64>> {
    let times = cast(batch.column(column), &TIMESTAMP).map_err(reject)?;
    if times.null_count() > 0 {
        return Err(reject("the time column is null: a row needs a time here"));
    }
    Ok(times
        .as_primitive::<TimestampMillisecondType>()
        .values()
        .to_vec())
}

/// `number | side | length | values of the key`.
pub(in crate::operator) fn stem(number: usize, port: usize, key: &[u8]) -> Vec<u8> {
    let mut stem = vec![prefix(number), port as u8];
    stem.extend_from_slice(&(key.len() as u32).to_be_bytes());
    stem.extend_from_slice(key);
    stem
}

/// Where a row is stored: behind the stem of its key and its time what no other row has.
pub(in crate::operator) fn place(
    stem: Vec<u8>,
    time_ms: i64,
    rows: &Rows,
    at: usize,
    flow: &Flow<'_, '_>,
) -> Vec<u8> {
    let mut place = stem;
    place.extend_from_slice(&ordered(time_ms));
    let cause = rows.marks.causes.get(at).copied().unwrap_or(NO_RECORD);
    let from = flow.cause_of(cause);
    place.extend_from_slice(&from.partition.0.to_be_bytes());
    place.extend_from_slice(&from.offset.0.to_be_bytes());
    // One record or timer may lead to several equal rows.
    let (mut copy, start) = (0_u32, place.len());
    loop {
        place.truncate(start);
        place.extend_from_slice(&(at as u32).to_be_bytes());
        place.extend_from_slice(&copy.to_be_bytes());
        if flow.ctx.get(&place).is_none() {
            return place;
        }
        copy += 1;
    }
}

/// The rows that are not late; the others go to the late ones.
pub(in crate::operator) fn on_time(
    rows: Rows,
    time: usize,
    lateness_ms: i64,
    flow: &mut Flow<'_, '_>,
) -> Result<Rows> {
    let times = times(&rows.batch, time)?;
    let is_late =
        |row: usize| times[row].saturating_add(lateness_ms) < rows.marks.watermarks_ms[row];
    let late: Vec<usize> = (0..rows.len()).filter(|r| is_late(*r)).collect();
    if late.is_empty() {
        return Ok(rows);
    }
    for row in &late {
        flow.late(&rows, *row, (times[*row], times[*row]));
    }
    let kept = (0..rows.len()).filter(|r| late.binary_search(r).is_err());
    let kept = UInt32Array::from_iter_values(kept.map(|r| r as u32));
    rows.pick(&kept).map_err(reject)
}
