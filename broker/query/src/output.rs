//! Rows as bytes: JSON, Arrow or events.

use crate::engine::Rows;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use flowstone_sql::JsonRows;
use flowstone_wire::native::QueryStatistics;
use flowstone_wire::{ErrorCode, Failure};

/// A piece of an answer is cut off behind so many bytes.
const PIECE_BYTES: usize = 128 << 10;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Lines,
    /// One JSON array of objects.
    Array,
    /// A stream of Arrow IPC
    /// (<https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format>).
    Arrow,
    /// Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): one for
    /// each row, and `end` or `error`.
    Events,
}

/// Writes the rows of one answer.
pub struct Encoder {
    format: Format,
    rows: u64,
    arrow: Option<StreamWriter<Vec<u8>>>,
}

impl Encoder {
    /// An encoder for rows with these columns.
    ///
    /// # Errors
    /// Columns that Arrow cannot write.
    pub fn new(format: Format, schema: &Schema) -> Result<Self, Failure> {
        let arrow = match format {
            Format::Arrow => Some(StreamWriter::try_new(Vec::new(), schema).map_err(unwritten)?),
            _ => None,
        };
        Ok(Self {
            format,
            rows: 0,
            arrow,
        })
    }

    /// Writes rows; in pieces, so that none is large without need.
    ///
    /// # Errors
    /// Rows that Arrow cannot write.
    pub fn rows(&mut self, rows: &Rows) -> Result<Vec<Bytes>, Failure> {
        let mut pieces = Pieces::default();
        match rows {
            Rows::Batch(batch) if self.format == Format::Arrow => self.arrow(batch, &mut pieces)?,
            Rows::Batch(batch) => {
                let json = JsonRows::new(batch);
                for row in 0..batch.num_rows() {
                    self.row(&mut pieces, |out| json.write(row, out));
                }
            }
            Rows::Lines { bytes, .. } => {
                for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                    self.row(&mut pieces, |out| out.extend_from_slice(line));
                }
            }
        }
        Ok(pieces.finish())
    }

    fn row(&mut self, pieces: &mut Pieces, write: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut pieces.open;
        match self.format {
            Format::Array if self.rows == 0 => out.push(b'['),
            Format::Array => out.extend_from_slice(b",\n"),
            Format::Events => out.extend_from_slice(b"data: "),
            _ => {}
        }
        write(out);
        match self.format {
            Format::Lines => out.push(b'\n'),
            Format::Events => out.extend_from_slice(b"\n\n"),
            _ => {}
        }
        self.rows += 1;
        pieces.cut();
    }

    fn arrow(&mut self, batch: &RecordBatch, pieces: &mut Pieces) -> Result<(), Failure> {
        if let Some(writer) = &mut self.arrow {
            writer.write(batch).map_err(unwritten)?;
            pieces.open.append(writer.get_mut());
        }
        Ok(())
    }

    /// What stands behind the last row.
    ///
    /// # Errors
    /// What Arrow says.
    pub fn end(&mut self, statistics: &QueryStatistics) -> Result<Bytes, Failure> {
        Ok(match self.format {
            Format::Lines => Bytes::new(),
            Format::Array if self.rows == 0 => Bytes::from_static(b"[]\n"),
            Format::Array => Bytes::from_static(b"]\n"),
            Format::Events => event("end", &serde_json::json!(statistics)),
            Format::Arrow => match &mut self.arrow {
                Some(writer) => {
                    writer.finish().map_err(unwritten)?;
                    std::mem::take(writer.get_mut()).into()
                }
                None => Bytes::new(),
            },
        })
    }

    /// What tells of a failure behind the rows that are given out; where the format has no place for
    /// it, the answer is just cut off.
    pub fn failed(format: Format, problem: &serde_json::Value) -> Bytes {
        match format {
            Format::Events => event("error", problem),
            Format::Lines => format!("{}\n", serde_json::json!({ "@error": problem })).into(),
            Format::Array | Format::Arrow => Bytes::new(),
        }
    }
}

fn event(name: &str, data: &serde_json::Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn unwritten(error: ArrowError) -> Failure {
    Failure::new(ErrorCode::Internal, error.to_string())
}

/// Bytes that are cut into pieces.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces {
    fn cut(&mut self) {
        if self.open.len() >= PIECE_BYTES {
            self.done.push(std::mem::take(&mut self.open).into());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.into());
        }
        self.done
    }
}
