//! `row_number() OVER (PARTITION BY window_start, window_end, ... ORDER BY ...)`, wanted up to a
//! number.

use super::column::Meaning;
use super::{Build, Built, unaliased};
use crate::cell::is_storable;
use crate::operator::rank::{Rank, nullable};
use crate::operator::{Operator, WindowColumns};
use crate::plan::scalar;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator as Op, Window};
use std::sync::Arc;

/// Most rows of each group that can be wanted.
const FIRST_MAX: u64 = 1_000;

/// A filter that wants the first rows: the ranking beneath it, and how many.
pub(super) fn wanted(filter: &datafusion::logical_expr::Filter) -> Option<(&Window, u64)> {
    let (column, first) = bound(&filter.predicate)?;
    let window = beneath(&filter.input, column)?;
    Some((window, first))
}

/// `column <= n`, `column < n` or `column = 1`.
fn bound(expr: &Expr) -> Option<(&Column, u64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return None;
    };
    let Expr::Column(column) = left.as_ref() else {
        return None;
    };
    let Expr::Literal(value, _) = right.as_ref() else {
        return None;
    };
    let number = match value {
        ScalarValue::UInt64(Some(n)) => *n,
        ScalarValue::Int64(Some(n)) => u64::try_from(*n).ok()?,
        _ => return None,
    };
    match op {
        Op::LtEq => Some((column, number)),
        Op::Lt => Some((column, number.checked_sub(1)?)),
        Op::Eq if number == 1 => Some((column, 1)),
        _ => None,
    }
}

/// The ranking that a column comes from, with nothing but names between.
fn beneath<'p>(plan: &'p LogicalPlan, column: &Column) -> Option<&'p Window> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let at = plan.schema().index_of_column(column).ok()?;
            beneath(&alias.input, &alias.input.schema().columns()[at])
        }
        LogicalPlan::Projection(projection) => {
            let at = plan.schema().index_of_column(column).ok()?;
            match unaliased(&projection.expr[at]) {
                Expr::Column(column) => beneath(&projection.input, column),
                _ => None,
            }
        }
        LogicalPlan::Window(window) => {
            let at = plan.schema().index_of_column(column).ok()?;
            (at == window.input.schema().fields().len()).then_some(window)
        }
        _ => None,
    }
}

impl Build<'_> {
    /// A ranking of which the first rows are wanted; without a number it is refused.
    pub(super) fn rank(&mut self, plan: &Window) -> Result<Built> {
        let Some(first) = self.wanted.take() else {
            return plan_err!(
                "OVER is supported as row_number() with a filter on it: rank <= 10, in a query around it"
            );
        };
        if first == 0 || first > FIRST_MAX {
            return plan_err!("the first {first} rows are wanted: give 1 to {FIRST_MAX}");
        }
        let call = match &plan.window_expr[..] {
            [one] => match unaliased(one) {
                Expr::WindowFunction(call) if call.fun.name() == "row_number" => call,
                _ => return plan_err!("OVER is supported with row_number() only"),
            },
            _ => return plan_err!("a query has one OVER"),
        };
        let input = self.plan(&plan.input)?;
        if input.updating {
            return plan_err!("ranking results that change is not supported");
        }
        input.columns.no_session("a ranking")?;
        let schema = plan.input.schema();
        let rank = self.ranking(call, schema, &input.columns, first)?;
        let mut meanings = input.columns.meanings.clone();
        meanings.push(Meaning::default());
        for meaning in &mut meanings {
            *meaning = Meaning {
                time: meaning.ended || meaning.end,
                began: meaning.began || meaning.start,
                ended: meaning.ended || meaning.end,
                ..Meaning::default()
            };
        }
        self.gathers = true;
        let node = self.add(Operator::Rank(Box::new(rank)), &[input.node])?;
        Ok(Built {
            node,
            columns: super::Columns {
                meanings,
                window: None,
            },
            updating: false,
        })
    }

    fn ranking(
        &self,
        call: &WindowFunction,
        schema: &DFSchema,
        columns: &super::Columns,
        first: u64,
    ) -> Result<Rank> {
        let (mut start, mut end, mut groups) = (None, None, Vec::new());
        for expr in &call.params.partition_by {
            match columns.shown(expr, schema) {
                Some((at, m)) if m.start || m.began => start = Some(at),
                Some((at, m)) if m.end || m.ended => end = Some(at),
                _ => groups.push(scalar::physical(expr, schema)?),
            }
        }
        let (Some(start), Some(end)) = (start, end) else {
            return plan_err!(
                "PARTITION BY both window_start and window_end: a ranking ends with its window"
            );
        };
        let mut order = Vec::new();
        for sort in &call.params.order_by {
            let options = SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            };
            order.push((scalar::physical(&sort.expr, schema)?, options));
        }
        let input = nullable(schema.as_arrow());
        if let Some(field) = input.fields().iter().find(|f| !is_storable(f.data_type())) {
            return plan_err!("a ranking cannot keep column '{}'", field.name());
        }
        let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new(
            "rank",
            datafusion::arrow::datatypes::DataType::UInt64,
            true,
        ));
        Ok(Rank {
            groups,
            window: WindowColumns {
                start,
                end,
                lateness_ms: self.emit.lateness_ms,
            },
            order,
            first: first as usize,
            schema: Arc::new(Schema::new(fields)),
            input,
        })
    }
}
