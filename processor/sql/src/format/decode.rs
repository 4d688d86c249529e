//! Records of one stream to columns.

use super::cells::{Cells, List};
use super::{avro, csv, json};
use crate::statement::ColumnSource;
use crate::stream::{Column, Format, Stream};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use flowstone_processor::{BulkRecord, Reading};
use flowstone_wire::RecordView;
use std::sync::Arc;

/// Reads the records of a stream into the columns that somebody wants.
#[derive(Clone)]
pub(crate) struct Decoder {
    stream: Arc<Stream>,
    /// Indexes of the columns that are read, in order.
    columns: Vec<usize>,
    schema: SchemaRef,
    reader: Reader,
}

/// Records as columns.
pub(crate) struct Decoded {
    pub(crate) batch: RecordBatch,
    /// For each row its record.
    pub(crate) causes: Vec<u32>,
    /// For each row its event time, milliseconds since 1970.
    pub(crate) times_ms: Vec<i64>,
}

impl Decoder {
    /// A decoder for these columns of the stream, and for its event time.
    pub(crate) fn new(stream: &Stream, columns: &[usize]) -> Self {
        let mut columns = columns.to_vec();
        columns.extend(stream.watermark.map(|w| w.column));
        columns.sort_unstable();
        columns.dedup();
        let read: Vec<_> = columns.iter().map(|c| stream.columns[*c].clone()).collect();
        let all = stream.schema();
        let fields: Vec<_> = columns.iter().map(|c| all.fields()[*c].clone()).collect();
        Self {
            stream: Arc::new(stream.clone()),
            reader: Reader::new(&stream.format, &read),
            columns,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Where a column of the stream is among those that are read.
    pub(crate) fn place(&self, column: usize) -> Option<usize> {
        self.columns.binary_search(&column).ok()
    }

    /// Reads the records of this stream, which is source number `source`. For each of them its
    /// reading is set: how far event time may come, or why it cannot be read.
    pub(crate) fn decode(
        &self,
        source: u16,
        records: &[BulkRecord<'_>],
        readings: &mut [Result<Reading, String>],
    ) -> Result<Decoded, ArrowError> {
        let columns = self.columns.iter().map(|c| &self.stream.columns[*c]);
        let mut table = Table::new(columns.cloned().collect(), records.len());
        let event_time = self
            .stream
            .watermark
            .and_then(|w| Some((self.place(w.column)?, w.delay_ms)));
        let (mut causes, mut times_ms) = (
            Vec::with_capacity(records.len()),
            Vec::with_capacity(records.len()),
        );
        for (row, record) in records
            .iter()
            .enumerate()
            .filter(|(_, r)| r.source == source)
        {
            let read = self
                .read(record, &mut table)
                .and_then(|()| match event_time {
                    None => Ok((record.view.timestamp, None)),
                    Some((column, delay_ms)) => {
                        let time_ms = table
                            .time(column)
                            .ok_or_else(|| no_time(&table.columns[column]))?;
                        Ok((time_ms, Some(time_ms.saturating_sub(delay_ms))))
                    }
                });
            match read {
                Ok((time_ms, reading)) => {
                    table.keep();
                    causes.push(row as u32);
                    times_ms.push(time_ms);
                    readings[row] = Ok(reading.into());
                }
                Err(reason) => {
                    table.undo();
                    readings[row] = Err(reason);
                }
            }
        }
        Ok(Decoded {
            batch: table.finish(self.schema.clone(), &causes)?,
            causes,
            times_ms,
        })
    }

    fn read(&self, record: &BulkRecord<'_>, table: &mut Table) -> Result<(), String> {
        if self.stream.is_table() && record.view.key.is_none() {
            return Err("a record of a table needs a key: it says which row it is".into());
        }
        if let Some(value) = record.view.value {
            match &self.reader {
                Reader::Json(json) => json.read(value, table)?,
                Reader::Avro(avro) => avro.read(value, table)?,
                Reader::Csv(delimiter) => {
                    csv::read(value, *delimiter, &self.stream, &self.columns, table)?;
                }
                Reader::Raw => raw(value, table)?,
            }
        }
        beside(record, table)
    }
}

/// Reads values of one format.
#[derive(Clone)]
enum Reader {
    Json(json::Reader),
    Avro(avro::Reader),
    Csv(u8),
    Raw,
}

impl Reader {
    fn new(format: &Format, columns: &[Column]) -> Self {
        match format {
            Format::Json => Self::Json(json::Reader::new(columns)),
            Format::Avro(avro) => Self::Avro(avro::Reader::new(avro, columns)),
            Format::Csv { delimiter } => Self::Csv(*delimiter),
            Format::Raw => Self::Raw,
        }
    }
}

fn no_time(column: &Column) -> String {
    format!(
        "column '{}' has the event time and is null: give every record a time",
        column.name
    )
}

fn raw(value: &[u8], table: &mut Table) -> Result<(), String> {
    for at in 0..table.columns.len() {
        if table.columns[at].source == ColumnSource::Value {
            table.set_bytes(at, value)?;
        }
    }
    Ok(())
}

/// The columns that show what stands beside the value.
fn beside(record: &BulkRecord<'_>, table: &mut Table) -> Result<(), String> {
    let view: &RecordView<'_> = &record.view;
    for place in 0..table.beside.len() {
        let at = table.beside[place];
        match &table.columns[at].source {
            ColumnSource::Value => {}
            ColumnSource::Key => {
                if let Some(key) = view.key {
                    table.set_bytes(at, key)?;
                }
            }
            ColumnSource::Timestamp => table.set_int(at, view.timestamp)?,
            ColumnSource::Partition => table.set_int(at, i64::from(record.partition.0))?,
            ColumnSource::PartitionIndex(indexes) => {
                let found = indexes.binary_search_by_key(&record.partition, |(id, _)| *id);
                if let Ok(found) = found {
                    let index = i64::from(indexes[found].1);
                    table.set_int(at, index)?;
                }
            }
            ColumnSource::Offset => table.set_int(at, view.offset.0 as i64)?,
            ColumnSource::Header(name) => {
                let header = view.headers().find(|h| h.name == name.as_bytes());
                if let Some(value) = header.and_then(|h| h.value) {
                    table.set_bytes(at, value)?;
                }
            }
            ColumnSource::Headers => table.set_text(at, &headers(view))?,
            ColumnSource::Deleted => table.set_bool(at, view.value.is_none())?,
        }
    }
    Ok(())
}

/// All headers as a JSON object; of those with one name the last counts.
fn headers(view: &RecordView<'_>) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let members = view
        .headers()
        .map(|h| (text(h.name), h.value.map(text).into()));
    serde_json::Value::Object(members.collect()).to_string()
}

/// Columns under construction. A row is written value by value, then kept or undone.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    cells: Vec<Cells>,
    /// Columns that do not show the value.
    beside: Vec<usize>,
    /// Rows that are kept.
    rows: usize,
    /// Lengths that the cells must be cut back to, because a row was undone: rows to leave out.
    undone: Vec<u32>,
    /// Rows written, with those that were undone.
    written: usize,
}

impl Table {
    fn new(columns: Vec<Column>, rows: usize) -> Self {
        let beside = (0..columns.len())
            .filter(|c| columns[*c].source != ColumnSource::Value)
            .collect();
        Self {
            cells: columns
                .iter()
                .map(|c| Cells::new(&c.data_type, rows))
                .collect(),
            columns,
            beside,
            rows: 0,
            undone: Vec::new(),
            written: 0,
        }
    }

    /// Whether the column has a value in this row already.
    pub(super) fn is_set(&self, at: usize) -> bool {
        self.cells[at].len() > self.written
    }

    /// The event time in this row.
    fn time(&self, at: usize) -> Option<i64> {
        match &self.cells[at] {
            Cells::Time(b) if self.is_set(at) => {
                let valid = b
                    .validity_slice()
                    .is_none_or(|bits| bits[self.written / 8] >> (self.written % 8) & 1 == 1);
                valid.then(|| b.values_slice()[self.written])
            }
            _ => None,
        }
    }

    /// The row counts; columns without a value are null.
    fn keep(&mut self) {
        self.rows += 1;
        self.end_row();
    }

    /// The row never was.
    fn undo(&mut self) {
        self.undone.push(self.written as u32);
        self.end_row();
    }

    fn end_row(&mut self) {
        self.written += 1;
        for cells in &mut self.cells {
            if cells.len() < self.written {
                cells.push_null();
            }
        }
    }

    fn finish(mut self, schema: SchemaRef, causes: &[u32]) -> Result<RecordBatch, ArrowError> {
        let columns = self.cells.iter_mut().map(Cells::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.written));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        if self.undone.is_empty() {
            return Ok(batch);
        }
        debug_assert_eq!(causes.len(), self.rows);
        let keep = (0..self.written as u32).filter(|r| self.undone.binary_search(r).is_err());
        let keep = UInt32Array::from_iter_values(keep);
        let columns = batch.columns().iter().map(|c| take(c, &keep, None));
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        // Who only counts rows asks for no column.
        let options = RecordBatchOptions::new().with_row_count(Some(keep.len()));
        RecordBatch::try_new_with_options(batch.schema(), columns, &options)
    }

    /// The column, for values that only it knows whether they fit.
    pub(super) fn cell(&mut self, at: usize) -> &mut Cells {
        &mut self.cells[at]
    }

    pub(super) fn set_null(&mut self, at: usize) {
        self.cells[at].push_null();
    }

    pub(super) fn set_bool(&mut self, at: usize, value: bool) -> Result<(), String> {
        let fits = self.cells[at].set_bool(value);
        self.checked(fits, at, value)
    }

    pub(super) fn set_int(&mut self, at: usize, value: i64) -> Result<(), String> {
        let fits = self.cells[at].set_int(value);
        self.checked(fits, at, value)
    }

    pub(super) fn set_float(&mut self, at: usize, value: f64) -> Result<(), String> {
        let fits = self.cells[at].set_float(value);
        self.checked(fits, at, value)
    }

    /// A text of the value: as it is, as a time or as a day.
    pub(super) fn set_text(&mut self, at: usize, text: &str) -> Result<(), String> {
        match self.cells[at].set_text(text) {
            true => Ok(()),
            false => Err(self.wrong(at, format!("'{text}'"))),
        }
    }

    /// The column, if its values are lists.
    pub(super) fn list(&mut self, at: usize) -> Option<&mut List> {
        match &mut self.cells[at] {
            Cells::List(list) => Some(list),
            _ => None,
        }
    }

    #[inline]
    fn checked(&self, fits: bool, at: usize, value: impl std::fmt::Display) -> Result<(), String> {
        match fits {
            true => Ok(()),
            false => Err(self.wrong(at, value)),
        }
    }

    /// Bytes of the record.
    pub(super) fn set_bytes(&mut self, at: usize, bytes: &[u8]) -> Result<(), String> {
        if self.columns[at].data_type.is_integer() {
            let text = String::from_utf8_lossy(bytes);
            // Written in one way only, or equal numbers could lie in different partitions.
            return match text.parse::<i64>() {
                Ok(number) if number.to_string() == text => self.set_int(at, number),
                _ => Err(self.wrong(at, format!("'{text}'"))),
            };
        }
        match &mut self.cells[at] {
            Cells::Bytes(b) => b.append_value(bytes),
            Cells::Text(b) => match std::str::from_utf8(bytes) {
                Ok(text) => b.append_value(text),
                Err(_) => {
                    return Err(format!(
                        "column '{}' is not UTF-8: make it VARBINARY",
                        self.columns[at].name
                    ));
                }
            },
            _ => return Err(self.wrong(at, "bytes")),
        }
        Ok(())
    }

    pub(super) fn wrong(&self, at: usize, value: impl std::fmt::Display) -> String {
        let shown: String = value.to_string().chars().take(60).collect();
        let column = &self.columns[at];
        format!(
            "column '{}' is {}, which {shown} is not",
            column.name,
            type_name(&column.data_type)
        )
    }
}

fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::List(field) => return format!("a list of {}", type_name(field.data_type())),
        DataType::Boolean => "BOOLEAN",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Binary => "VARBINARY",
        DataType::Date32 => "DATE (YYYY-MM-DD)",
        DataType::Timestamp(..) => "TIMESTAMP (RFC 3339 or milliseconds since 1970)",
        _ => "VARCHAR",
    };
    name.into()
}
