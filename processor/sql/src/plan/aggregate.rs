//! Aggregate functions of DataFusion, made ready to be computed.

use super::scalar;
use crate::cell::is_storable;
use crate::operator::{Aggregates, Call};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;

/// The functions over rows of `schema`.
pub(super) fn aggregates(exprs: &[Expr], schema: &DFSchema) -> Result<Aggregates> {
    let calls = exprs
        .iter()
        .map(|e| call(e, schema))
        .collect::<Result<Vec<_>>>()?;
    Ok(Aggregates(calls.into()))
}

fn call(expr: &Expr, schema: &DFSchema) -> Result<Call> {
    scalar::check(expr)?;
    let props = ExecutionProps::new();
    let planning = Default::default();
    let lowered =
        LoweredAggregateBuilder::new(expr, schema, schema.as_arrow(), &props, &planning).build()?;
    let function = lowered.aggregate;
    let fields = function.state_fields()?;
    let state: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
    if let Some(other) = state.iter().find(|t| !is_storable(t)) {
        return plan_err!(
            "{} keeps values of type {other}, which cannot be stored",
            function.name()
        );
    }
    let mut arguments = function.expressions();
    arguments.extend(lowered.order_bys.iter().map(|o| o.expr.clone()));
    Ok(Call {
        arguments,
        filter: lowered.filter,
        state,
        function,
    })
}
