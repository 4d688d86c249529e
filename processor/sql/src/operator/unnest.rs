//! UNNEST: a row for each element of a list.

use crate::flow::{Down, Flow, Result, reject};
use crate::rows::Rows;
use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Most elements of one row; each of them takes the other columns of the row along.
const ELEMENTS_MAX: usize = 10_000;
/// Most rows that are passed on at once.
const ROWS_MAX: usize = 4096;
/// Most bytes that are passed on at once, if they are of more than one row.
const PASSED_BYTES_MAX: usize = 16 << 20;

/// Unfolds lists.
#[derive(Clone)]
pub(crate) struct Unnest {
    pub(crate) list: Arc<dyn PhysicalExpr>,
    /// A row whose list is null or empty is kept, with a null in place of an element.
    pub(crate) outer: bool,
    /// The columns of the input, then the element.
    pub(crate) schema: SchemaRef,
}

impl Unnest {
    pub(super) fn push(
        &self,
        rows: &Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let lists = self.list.evaluate(&rows.batch);
        let lists = lists
            .and_then(|v| v.into_array(rows.len()))
            .map_err(reject)?;
        let lists = lists.as_list_opt::<i32>();
        let lists = lists.ok_or_else(|| reject("what is unnested is no list"))?;
        let offsets = lists.value_offsets();
        let (mut picked, mut elements) = (Vec::new(), Vec::new());
        let most = PASSED_BYTES_MAX / rows.widest().max(1);
        let most = most.clamp(1, ROWS_MAX);
        for row in 0..rows.len() {
            let range = match lists.is_valid(row) {
                true => offsets[row]..offsets[row + 1],
                false => 0..0,
            };
            if range.len() > ELEMENTS_MAX {
                return Err(reject(format!(
                    "a list has {} elements, over the limit of {ELEMENTS_MAX}",
                    range.len()
                )));
            }
            if range.is_empty() && self.outer {
                picked.push(row as u32);
                elements.push(None);
            }
            for element in range {
                if picked.len() >= most {
                    self.pass(rows, &mut picked, &mut elements, lists.values(), flow, down)?;
                }
                picked.push(row as u32);
                elements.push(Some(element as u32));
            }
        }
        self.pass(rows, &mut picked, &mut elements, lists.values(), flow, down)
    }

    /// Passes on the picked rows, each with its element.
    fn pass(
        &self,
        rows: &Rows,
        picked: &mut Vec<u32>,
        elements: &mut Vec<Option<u32>>,
        values: &datafusion::arrow::array::ArrayRef,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        if picked.is_empty() {
            return Ok(());
        }
        let places = UInt32Array::from(std::mem::take(picked));
        let elements = UInt32Array::from(std::mem::take(elements));
        let elements = take(values, &elements, None).map_err(reject)?;
        let rows = rows.pick(&places).map_err(reject)?;
        let mut columns = rows.batch.columns().to_vec();
        columns.push(elements);
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?;
        down.push(rows.with_batch(batch), flow)
    }
}
