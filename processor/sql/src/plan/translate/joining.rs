//! JOIN: two inputs by equal values, with times within bounds of each other.

use super::column::{Columns, Meaning};
use super::{Build, Built, arrow};
use crate::cell::is_storable;
use crate::operator::Operator;
use crate::operator::join::{Join, Side};
use crate::operator::rank::nullable;
use crate::plan::asof::AsOfNode;
use crate::plan::{literal, scalar};
use datafusion::common::{DFSchema, JoinType, NullEquality, Result, plan_err};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator as Op};
use std::sync::Arc;

/// What is known of `time of right - time of left`, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    least: Option<i64>,
    most: Option<i64>,
    /// The time columns of left and right that are compared.
    times: [Option<usize>; 2],
}

/// A time column of one side, and what is added to it.
pub(super) struct Term {
    pub(super) side: usize,
    pub(super) column: usize,
    pub(super) plus_ms: i64,
}

/// Both inputs of a join with what their columns stand for.
pub(super) struct Inputs<'p> {
    pub(super) schemas: [&'p DFSchema; 2],
    pub(super) columns: [&'p Columns; 2],
}

impl Build<'_> {
    pub(super) fn join(&mut self, plan: &datafusion::logical_expr::Join) -> Result<Built> {
        if AsOfNode::is_in(&plan.right) {
            return self.asof(plan);
        }
        if let Some(table) = self.table(&plan.right) {
            return self.lookup(plan, table);
        }
        if let Some(table) = self.table(&plan.left) {
            let name = table.table_name.table();
            return plan_err!("'{name}' is a table: write it on the right side of JOIN");
        }
        let outer = match plan.join_type {
            JoinType::Inner => [false, false],
            JoinType::Left => [true, false],
            JoinType::Right => [false, true],
            JoinType::Full => [true, true],
            other => return plan_err!("{other} joins are not supported"),
        };
        if plan.on.is_empty() || plan.null_equality != NullEquality::NullEqualsNothing {
            return plan_err!(
                "a join needs something that is equal: JOIN ... ON a.x = b.x AND ..."
            );
        }
        let (left, right) = (self.plan(&plan.left)?, self.plan(&plan.right)?);
        if left.updating || right.updating {
            return plan_err!("a join of results that change is not supported");
        }
        left.columns.no_session("a join")?;
        right.columns.no_session("a join")?;
        let inputs = Inputs {
            schemas: [plan.left.schema(), plan.right.schema()],
            columns: [&left.columns, &right.columns],
        };
        let bounds = inputs.bounds(plan);
        let (Some(least), Some(most), [Some(left_time), Some(right_time)]) =
            (bounds.least, bounds.most, bounds.times)
        else {
            return plan_err!(
                "a join needs bounds of time: AND a.ts BETWEEN b.ts - INTERVAL '...' AND b.ts + INTERVAL \
                 '...', over the columns that the streams have a WATERMARK for"
            );
        };
        let both = plan.left.schema().join(plan.right.schema())?;
        let condition = plan
            .filter
            .as_ref()
            .map(|f| scalar::physical(f, &both))
            .transpose()?;
        let join = Join {
            sides: [
                inputs.side(plan, 0, left_time, outer[0], (-least, most))?,
                inputs.side(plan, 1, right_time, outer[1], (most, -least))?,
            ],
            condition,
            lateness_ms: self.emit.lateness_ms,
            schema: nullable(&arrow(&plan.schema)),
        };
        self.gathers = true;
        let node = self.add(Operator::Join(Arc::new(join)), &[left.node, right.node])?;
        self.nodes[right.node].port = 1;
        let meanings = vec![Meaning::default(); plan.schema.fields().len()];
        Ok(Built {
            node,
            columns: Columns {
                meanings,
                window: None,
            },
            updating: false,
        })
    }
}

impl Inputs<'_> {
    /// One side; the other's times are from `before_ms` behind to `after_ms` ahead of its own.
    fn side(
        &self,
        plan: &datafusion::logical_expr::Join,
        at: usize,
        time: usize,
        outer: bool,
        (before_ms, after_ms): (i64, i64),
    ) -> Result<Side> {
        let keys = plan.on.iter().map(|(l, r)| if at == 0 { l } else { r });
        let keys = keys.map(|e| scalar::key(e, self.schemas[at]));
        let schema = nullable(self.schemas[at].as_arrow());
        if let Some(field) = schema.fields().iter().find(|f| !is_storable(f.data_type())) {
            return plan_err!("a join cannot keep column '{}'", field.name());
        }
        Ok(Side {
            keys: keys.collect::<Result<_>>()?,
            time,
            schema,
            outer,
            before_ms,
            after_ms,
        })
    }

    fn bounds(&self, plan: &datafusion::logical_expr::Join) -> Bounds {
        let mut bounds = Bounds::default();
        for (left, right) in &plan.on {
            self.note(left, Op::Eq, right, &mut bounds);
        }
        for part in plan.filter.iter().flat_map(split_conjunction) {
            if let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part {
                self.note(left, *op, right, &mut bounds);
            }
        }
        bounds
    }

    /// Takes what a comparison says of times.
    fn note(&self, left: &Expr, op: Op, right: &Expr, bounds: &mut Bounds) {
        let (Some(a), Some(b)) = (self.term(left), self.term(right)) else {
            return;
        };
        // time(a) + a.plus op time(b) + b.plus, with the left input first.
        let (a, op, b) = match (a.side, b.side) {
            (0, 1) => (a, Some(op), b),
            (1, 0) => (b, op.swap(), a),
            _ => return,
        };
        let same = |known: Option<usize>, column: usize| known.is_none_or(|k| k == column);
        if !same(bounds.times[0], a.column) || !same(bounds.times[1], b.column) {
            return;
        }
        let difference_ms = a.plus_ms - b.plus_ms;
        let (least, most) = match op {
            Some(Op::Lt | Op::LtEq) => (Some(difference_ms), None),
            Some(Op::Gt | Op::GtEq) => (None, Some(difference_ms)),
            Some(Op::Eq) => (Some(difference_ms), Some(difference_ms)),
            _ => return,
        };
        bounds.times = [Some(a.column), Some(b.column)];
        bounds.least = bounds.least.max(least);
        bounds.most = match (bounds.most, most) {
            (Some(known), Some(most)) => Some(known.min(most)),
            (known, most) => known.or(most),
        };
    }

    /// A time column, or one with an interval added to it or taken from it.
    pub(super) fn term(&self, expr: &Expr) -> Option<Term> {
        match expr {
            Expr::Column(column) => (0..2).find_map(|side| {
                let at = self.schemas[side].index_of_column(column).ok()?;
                let is_time = self.columns[side].meanings.get(at)?.time;
                is_time.then_some(Term {
                    side,
                    column: at,
                    plus_ms: 0,
                })
            }),
            Expr::Cast(cast) => self.term(&cast.expr),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let term = self.term(left)?;
                let ms = literal::of_expr(right).ok()??;
                let plus_ms = match op {
                    Op::Plus => term.plus_ms.checked_add(ms)?,
                    Op::Minus => term.plus_ms.checked_sub(ms)?,
                    _ => return None,
                };
                Some(Term { plus_ms, ..term })
            }
            _ => None,
        }
    }
}
