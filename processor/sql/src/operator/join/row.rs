//! Rows of a join as they are stored.

use super::Side;
use crate::cell::{Reader, Writer};
use crate::flow::{Result, reject};
use crate::operator::from_ordered;
use crate::stream::TIMESTAMP;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use datafusion::arrow::error::ArrowError;

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
pub(super) fn read(
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
pub(super) fn keys(side: &Side, batch: &RecordBatch) -> Result<Vec<Option<Vec<u8>>>> {
    let count = batch.num_rows();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for key in &side.keys {
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
pub(super) fn times(batch: &RecordBatch, column: usize) -> Result<Vec<i64>> {
    let times = cast(batch.column(column), &TIMESTAMP).map_err(reject)?;
    if times.null_count() > 0 {
        return Err(reject(
            "the time column is null: a row of a join needs a time",
        ));
    }
    Ok(times
        .as_primitive::<TimestampMillisecondType>()
        .values()
        .to_vec())
}
