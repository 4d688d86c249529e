//! Expressions of DataFusion, made ready to be computed.

use super::provider::is_pure;
use crate::cell::is_storable;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result, plan_err};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use std::sync::Arc;

/// The expression over rows of `schema`.
pub(super) fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    check(expr)?;
    create_physical_expr(expr, schema, &ExecutionProps::new(), &Default::default())
}

/// The same, for values that rows are found by or put together by.
pub(super) fn key(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let key = physical(expr, schema)?;
    let data_type = key.data_type(schema.as_arrow())?;
    if !is_storable(&data_type) {
        return plan_err!("rows cannot be put together by '{expr}', which is {data_type}");
    }
    Ok(key)
}

/// Refuses what would not say the same when records are read again.
pub(super) fn check(expr: &Expr) -> Result<()> {
    expr.apply(|e| {
        match e {
            Expr::ScalarFunction(call) if !is_pure(call.func.signature().volatility) => {
                let name = call.func.name();
                return plan_err!(
                    "{name}() depends on when or where it is computed: take a column of the record"
                );
            }
            Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::OuterReferenceColumn(..) => {
                return plan_err!("a query inside of an expression is not supported");
            }
            Expr::ScalarVariable(..) | Expr::Placeholder(_) => {
                return plan_err!("'{e}' has no value here");
            }
            _ => {}
        }
        Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
