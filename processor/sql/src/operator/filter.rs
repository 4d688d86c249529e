//! WHERE and HAVING.

use crate::flow::{Down, Flow, Result, reject};
use crate::rows::{Change, Rows};
use datafusion::arrow::array::{Array, AsArray, BooleanArray, UInt32Array};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Passes on the rows for which a condition is true.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) condition: Arc<dyn PhysicalExpr>,
}

impl Filter {
    pub(super) fn push(
        &self,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let keep = self.condition.evaluate(&rows.batch);
        let keep = keep
            .and_then(|v| v.into_array(rows.len()))
            .map_err(reject)?;
        let keep = keep.as_boolean();
        if keep.true_count() == rows.len() {
            return down.push(rows, flow);
        }
        let kept = kept_rows(keep);
        if kept.is_empty() && rows.change == Change::Insert {
            return Ok(());
        }
        let rows = rows.pick(&kept).map_err(reject)?;
        down.push(rows, flow)
    }
}

/// The places where a condition is true; null is not.
fn kept_rows(keep: &BooleanArray) -> UInt32Array {
    let bits = match keep.nulls() {
        Some(nulls) => keep.values() & nulls.inner(),
        None => keep.values().clone(),
    };
    UInt32Array::from_iter_values(bits.set_indices().map(|row| row as u32))
}
