//! The records of a stream as columns, for who computes with them outside of a task.

use crate::format::Decoder;
use crate::stream::Stream;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use flowstone_processor::{BulkRecord, Reading};
use std::sync::Arc;

/// Reads the records of one stream into the columns that somebody wants.
#[derive(Clone)]
pub struct Reader {
    decoder: Decoder,
    /// Where each wanted column is among those that are decoded.
    places: Vec<usize>,
    schema: SchemaRef,
}

/// Records as columns.
#[derive(Debug)]
pub struct Read {
    /// The rows, in the order of the records.
    pub batch: RecordBatch,
    /// Records that cannot be read: their index, and why.
    pub unreadable: Vec<(usize, String)>,
}

impl Reader {
    /// A reader of these columns of the stream, in this order. Rows need no event time.
    pub fn new(stream: &Stream, columns: &[usize]) -> Self {
        let stream = Stream {
            watermark: None,
            ..stream.clone()
        };
        let decoder = Decoder::new(&stream, columns);
        let fields = stream.schema();
        let fields = columns.iter().map(|c| fields.field(*c).clone());
        Self {
            places: columns.iter().filter_map(|c| decoder.place(*c)).collect(),
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            decoder,
        }
    }

    /// The columns of what it gives.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads records; their `source` is 0.
    ///
    /// # Errors
    /// Columns that do not fit together.
    pub fn read(&self, records: &[BulkRecord<'_>]) -> Result<Read, ArrowError> {
        let mut readings = vec![Ok(Reading::default()); records.len()];
        let decoded = self.decoder.decode(0, records, &mut readings)?;
        let unreadable = readings.into_iter().enumerate();
        let unreadable = unreadable.filter_map(|(at, r)| Some((at, r.err()?)));
        Ok(Read {
            batch: decoded.batch.project(&self.places)?,
            unreadable: unreadable.collect(),
        })
    }
}
