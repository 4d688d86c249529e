//! What comes out of an exchange: rows that go on where they were taken off.

use crate::cell::Reader;
use crate::flow::reject;
use crate::operator::exchange::{self, ReadRow};
use crate::rows::{Change, Marks, Rows};
use datafusion::arrow::array::{BinaryArray, BinaryBuilder, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use flowstone_processor::{Bulk, BulkRecord, ProcessError, Reading};
use std::sync::Arc;

/// Where rows of one edge go on.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The operator that takes them, and at which of its inputs.
    pub(crate) node: usize,
    pub(crate) port: usize,
    pub(crate) schema: SchemaRef,
}

/// Rows of the records that were read last.
#[derive(Clone)]
struct Piece {
    edge: usize,
    report_late: bool,
    times_ms: Vec<i64>,
    causes: Vec<u32>,
    batch: RecordBatch,
}

/// Reads the records of an exchange.
#[derive(Clone)]
pub(crate) struct Exchanged {
    entries: Arc<[Entry]>,
    pieces: Vec<Piece>,
    /// The key of the original record, for each record.
    keys: BinaryArray,
}

/// A piece that is being read.
struct Gathering {
    edge: usize,
    report_late: bool,
    readers: Vec<Reader>,
    times_ms: Vec<i64>,
    causes: Vec<u32>,
}

impl Exchanged {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self {
            entries: entries.into(),
            pieces: Vec::new(),
            keys: BinaryBuilder::new().finish(),
        }
    }

    /// The operators that rows go on at.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().map(|e| e.node)
    }

    /// Reads records; gives how far time has come at each, and whether its writer is idle then.
    ///
    /// # Errors
    /// Values that are not of the plan: the records cannot be dealt with together.
    pub(crate) fn read(
        &mut self,
        records: &[BulkRecord<'_>],
    ) -> Result<Vec<Result<Reading, String>>, ProcessError> {
        self.pieces.clear();
        let mut open: Vec<Gathering> = Vec::new();
        let (mut readings, mut keys) = (Vec::with_capacity(records.len()), BinaryBuilder::new());
        for (number, record) in records.iter().enumerate() {
            let value = record.view.value;
            let Some(read) = value.and_then(|v| exchange::read(v, record.view.timestamp)) else {
                keys.append_null();
                readings.push(Err("it is no record of an exchange".into()));
                continue;
            };
            readings.push(Ok(Reading {
                time_ms: read.watermark_ms,
                idle: read.idle,
            }));
            keys.append_option(read.row.as_ref().and_then(|row| row.key));
            let Some(row) = read.row else {
                continue;
            };
            let reading = self.open(&mut open, &row)?;
            reading.times_ms.push(row.time_ms);
            reading.causes.push(number as u32);
            let mut rest = row.values;
            for reader in &mut reading.readers {
                reader.read(&mut rest).ok_or_else(damaged)?;
            }
        }
        self.keys = keys.finish();
        for reading in open {
            self.pieces.push(self.finish(reading)?);
        }
        Ok(readings)
    }

    fn open<'o>(
        &self,
        open: &'o mut Vec<Gathering>,
        row: &ReadRow<'_>,
    ) -> Result<&'o mut Gathering, ProcessError> {
        let same = |r: &Gathering| r.edge == row.edge && r.report_late == row.report_late;
        let at = match open.iter().position(same) {
            Some(at) => at,
            None => {
                let entry = self.entries.get(row.edge).ok_or_else(damaged)?;
                let fields = entry.schema.fields().iter();
                open.push(Gathering {
                    edge: row.edge,
                    report_late: row.report_late,
                    readers: fields.map(|f| Reader::new(f.data_type())).collect(),
                    times_ms: Vec::new(),
                    causes: Vec::new(),
                });
                open.len() - 1
            }
        };
        Ok(&mut open[at])
    }

    fn finish(&self, reading: Gathering) -> Result<Piece, ProcessError> {
        let columns = reading.readers.into_iter().map(Reader::finish);
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(reject)?;
        let options = RecordBatchOptions::new().with_row_count(Some(reading.causes.len()));
        let schema = self.entries[reading.edge].schema.clone();
        let batch = RecordBatch::try_new_with_options(schema, columns, &options);
        Ok(Piece {
            edge: reading.edge,
            report_late: reading.report_late,
            times_ms: reading.times_ms,
            causes: reading.causes,
            batch: batch.map_err(reject)?,
        })
    }

    /// The rows that were read last and where each piece goes on, in the order of the edges; and the keys of
    /// the original records.
    pub(crate) fn take(&mut self, bulk: &Bulk<'_>) -> (Vec<(Entry, Rows)>, BinaryArray) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_by_key(|p| (p.edge, !p.report_late));
        let rows = |piece: Piece| {
            let watermark = |row: &u32| bulk.watermarks[*row as usize];
            let marks = Marks {
                watermarks_ms: piece.causes.iter().map(watermark).collect(),
                times_ms: piece.times_ms,
                causes: piece.causes,
                groups: Vec::new(),
                keys: None,
            };
            let rows = Rows {
                batch: piece.batch,
                marks: Arc::new(marks),
                change: Change::Insert,
                report_late: piece.report_late,
            };
            (self.entries[piece.edge].clone(), rows)
        };
        let rows = pieces.into_iter().map(rows).collect();
        (rows, self.keys.clone())
    }
}

fn damaged() -> ProcessError {
    reject("a record of the exchange is cut off or of another plan")
}
