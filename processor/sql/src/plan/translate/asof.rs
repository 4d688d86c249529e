//! `ASOF JOIN`: the latest row of the right side that is not after one of the left side.

use super::column::Meaning;
use super::joining::Inputs;
use super::{Build, Built, Columns, arrow};
use crate::cell::is_storable;
use crate::operator::Operator;
use crate::operator::asof::{AsOf, Side};
use crate::operator::rank::nullable;
use crate::plan::scalar;
use datafusion::common::{NullEquality, Result, plan_err};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, Operator as Op};
use std::sync::Arc;

/// What `MATCH_CONDITION` says.
struct Match {
    /// The time columns of left and right.
    times: [usize; 2],
    shift_ms: i64,
}

impl Build<'_> {
    pub(super) fn asof(&mut self, plan: &Join) -> Result<Built> {
        if plan.on.is_empty() || plan.null_equality != NullEquality::NullEqualsNothing {
            return plan_err!("an ASOF JOIN needs something that is equal: ON a.x = b.x");
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
        let found = matching(&inputs, plan)?;
        let join = AsOf {
            sides: [side(plan, 0, &found)?, side(plan, 1, &found)?],
            shift_ms: found.shift_ms,
            lateness_ms: self.emit.lateness_ms,
            schema: nullable(&arrow(&plan.schema)),
        };
        let by_key = plan.on.iter().any(|(l, r)| {
            let is_key =
                |columns: &Columns, e, schema| columns.shown(e, schema).is_some_and(|(_, m)| m.key);
            is_key(&left.columns, l, inputs.schemas[0])
                && is_key(&right.columns, r, inputs.schemas[1])
        });
        match by_key {
            true => self.aligned = true,
            false => self.gathers = true,
        }
        let columns = columns(&left.columns, &found, plan.schema.fields().len());
        let node = self.add(Operator::AsOf(Arc::new(join)), &[left.node, right.node])?;
        self.nodes[right.node].port = 1;
        Ok(Built {
            node,
            columns,
            updating: false,
        })
    }
}

/// What the columns stand for. Rows come when their time has passed, so that they are not late for a
/// window behind the join; with a match ahead of their time they may be.
fn columns(left: &Columns, found: &Match, count: usize) -> Columns {
    let meaning = |(at, m): (usize, &Meaning)| Meaning {
        time: at == found.times[0] && found.shift_ms <= 0,
        key: m.key,
        key_of_one: m.key_of_one,
        ..Meaning::default()
    };
    let mut meanings: Vec<Meaning> = left.meanings.iter().enumerate().map(meaning).collect();
    meanings.resize(count, Meaning::default());
    Columns {
        meanings,
        window: None,
    }
}

fn side(plan: &Join, at: usize, found: &Match) -> Result<Side> {
    let input = if at == 0 { &plan.left } else { &plan.right };
    let keys = plan.on.iter().map(|(l, r)| if at == 0 { l } else { r });
    let keys = keys.map(|e| scalar::key(e, input.schema()));
    let schema = nullable(input.schema().as_arrow());
    if let Some(field) = schema.fields().iter().find(|f| !is_storable(f.data_type())) {
        return plan_err!("a join cannot keep column '{}'", field.name());
    }
    Ok(Side {
        keys: keys.collect::<Result<_>>()?,
        time: found.times[at],
        schema,
    })
}

fn matching(inputs: &Inputs<'_>, plan: &Join) -> Result<Match> {
    let comparison = match &plan.filter {
        Some(Expr::BinaryExpr(BinaryExpr { left, op, right })) => {
            inputs.term(left).zip(inputs.term(right)).map(|t| (t, *op))
        }
        _ => None,
    };
    // With the left input first.
    let found = match comparison {
        Some(((a, b), op)) if (a.side, b.side) == (0, 1) => Some((a, Some(op), b)),
        Some(((a, b), op)) if (a.side, b.side) == (1, 0) => Some((b, op.swap(), a)),
        _ => None,
    };
    match found {
        Some((left, Some(op @ (Op::GtEq | Op::Gt)), right)) => Ok(Match {
            times: [left.column, right.column],
            shift_ms: left
                .plus_ms
                .saturating_sub(right.plus_ms)
                .saturating_sub(i64::from(op == Op::Gt)),
        }),
        _ => plan_err!(
            "an ASOF JOIN takes MATCH_CONDITION (a.ts >= b.ts) or (a.ts > b.ts) over the columns that the \
             streams have a WATERMARK for, and equalities in ON: filter in a query of its own"
        ),
    }
}
