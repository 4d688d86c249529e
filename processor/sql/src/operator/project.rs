//! SELECT: other columns for the same rows.

use crate::flow::{Down, Flow, Result, reject};
use crate::rows::Rows;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Computes columns.
#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) exprs: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) schema: SchemaRef,
}

impl Project {
    pub(super) fn push(
        &self,
        rows: &Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let batch = self.compute(&rows.batch).map_err(reject)?;
        down.push(rows.with_batch(batch), flow)
    }

    fn compute(&self, batch: &RecordBatch) -> std::result::Result<RecordBatch, DataFusionError> {
        let count = batch.num_rows();
        let columns = self
            .exprs
            .iter()
            .map(|e| e.evaluate(batch)?.into_array(count))
            .collect::<std::result::Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }
}
