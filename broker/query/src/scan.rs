//! Parts of partitions as batches of columns.

use crate::counters::Counters;
use crate::fetching::{Fetching, Part, Unpacked};
use crate::restriction::Range;
use crate::source::Source;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use flowstone_processor::BulkRecord;
use flowstone_sql::Stream;
use flowstone_sql::read::Reader;
use flowstone_wire::{ErrorCode, Failure, RecordView, record};
use futures_util::stream::try_unfold;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Most rows of one batch.
pub(crate) const BATCH_ROWS: usize = 1024;

/// Parts that are read one after the other.
pub(crate) struct Lane {
    reader: Reader,
    times: Range,
    parts: Vec<Part>,
    source: Arc<dyn Source>,
    counters: Arc<Counters>,
}

impl Lane {
    pub(crate) fn new(
        stream: &Stream,
        columns: &[usize],
        times: Range,
        parts: Vec<Part>,
        (source, counters): (Arc<dyn Source>, Arc<Counters>),
    ) -> Self {
        Self {
            reader: Reader::new(stream, columns),
            times,
            parts,
            source,
            counters,
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lane").field(&self.parts).finish()
    }
}

impl PartitionStream for Lane {
    fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let parts = self.parts.iter().copied();
        let reading = Reading {
            fetching: Fetching::new(self.source.clone(), self.counters.clone(), parts),
            reader: self.reader.clone(),
            times: self.times,
            counters: self.counters.clone(),
            ready: VecDeque::new(),
        };
        let batches = try_unfold(reading, |mut reading| async move {
            let batch = reading.next().await?;
            Ok::<_, DataFusionError>(batch.map(|b| (b, reading)))
        });
        let schema = self.reader.schema().clone();
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

struct Reading {
    fetching: Fetching,
    reader: Reader,
    times: Range,
    counters: Arc<Counters>,
    ready: VecDeque<RecordBatch>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            match self.fetching.next().await.map_err(external)? {
                Some((part, unpacked)) => self.decode(part, &unpacked)?,
                None => return Ok(None),
            }
        }
    }

    fn decode(&mut self, part: Part, unpacked: &Unpacked) -> Result<()> {
        let mut records = Vec::new();
        for (header, body) in unpacked {
            for view in record::walk(header, body) {
                let view: RecordView<'_> = view.map_err(|e| {
                    let what = format!("a batch of partition {} does not verify: {e}", part.id);
                    external(Failure::new(ErrorCode::Damaged, what))
                })?;
                if view.offset < part.from || view.offset >= part.to {
                    continue;
                }
                self.counters.add_records(1);
                if self.times.contains(view.timestamp) {
                    records.push(BulkRecord {
                        source: 0,
                        partition: part.id,
                        view,
                    });
                }
            }
        }
        for records in records.chunks(BATCH_ROWS) {
            let read = self.reader.read(records)?;
            for (at, why) in read.unreadable {
                let offset = records[at].view.offset;
                let partition = part.shown;
                self.counters
                    .add_unreadable(|| format!("offset {offset} of partition {partition}: {why}"));
            }
            if read.batch.num_rows() > 0 {
                self.ready.push_back(read.batch);
            }
        }
        Ok(())
    }
}

fn external(failure: Failure) -> DataFusionError {
    DataFusionError::External(Box::new(failure))
}
