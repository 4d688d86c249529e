//! `INFER SCHEMA FOR topic`: a look at its last records.

use crate::counters::Counters;
use crate::engine::{Answer, Rows};
use crate::fetching::Fetching;
use crate::question::Names;
use crate::source;
use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use flowstone_sql::infer::Samples;
use flowstone_sql::statement::InferStatement;
use flowstone_sql::{Error, Stream};
use flowstone_wire::native::QueryKind;
use flowstone_wire::{ErrorCode, Failure, record};
use futures_util::stream::once;
use std::sync::Arc;

/// Looks at the last records of a topic, as many of each partition.
pub(crate) async fn ask(names: &Names, infer: &InferStatement) -> Result<Answer, Failure> {
    let counters = Arc::new(Counters::default());
    let topic = names
        .topic(&Stream::of_topic(&infer.topic, &[]))
        .map_err(|_| {
            let what = format!("there is no topic '{}'", infer.topic);
            let what = Error::at(infer.place, what).to_string();
            Failure::new(ErrorCode::UnknownTopic, what)
        })?;
    let parts = source::last(&*names.source, &topic, infer.records).await?;
    let mut fetching = Fetching::new(names.source.clone(), counters.clone(), parts);
    let mut samples = Samples::default();
    while let Some((part, unpacked)) = fetching.next().await? {
        for (header, body) in &unpacked {
            for view in record::walk(header, body) {
                let view = view.map_err(|e| {
                    let what = format!("a batch of partition {} does not verify: {e}", part.id);
                    Failure::new(ErrorCode::Damaged, what)
                })?;
                if view.offset >= part.from && view.offset < part.to {
                    counters.add_records(1);
                    samples.add(part.id.0, view.value);
                }
            }
        }
    }
    counters.add_rows(1);
    let schema = Schema::new(vec![Field::new("statement", DataType::Utf8, false)]);
    let schema = Arc::new(schema);
    let statement = StringArray::from(vec![samples.statement(&topic.name)]);
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(statement)])
        .map_err(|e| Failure::new(ErrorCode::Internal, e.to_string()))?;
    Ok(Answer {
        kind: QueryKind::Statement,
        schema,
        rows: Box::pin(once(async move { Ok::<_, Failure>(Rows::Batch(batch)) })),
        counters,
    })
}
