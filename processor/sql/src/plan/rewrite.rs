//! Joins that DataFusion does not plan, written so that it does.
//!
//! ```text
//! a ASOF JOIN b MATCH_CONDITION (m) ON c   ->   a LEFT JOIN (b) ON c AND m
//! a CROSS JOIN UNNEST(l) JOIN b ON c       ->   (a CROSS JOIN UNNEST(l)) JOIN b ON c
//! ```
//!
//! A relation in parentheses without a join cannot be written by anybody else, so the relation
//! planner ([`super::relation`]) knows it again and puts a node of ours there, as it does for what is
//! in parentheses and ends in `UNNEST`.

use crate::statement::is_unnest;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, Join, JoinConstraint, JoinOperator, ObjectName, Query,
    SetExpr, TableAlias, TableFactor, TableWithJoins,
};

/// Rewrites all joins of a query.
pub(super) fn joins(query: &mut Query) {
    for cte in query.with.iter_mut().flat_map(|w| &mut w.cte_tables) {
        joins(&mut cte.query);
    }
    set_expr(&mut query.body);
}

fn set_expr(expr: &mut SetExpr) {
    match expr {
        SetExpr::Select(select) => select.from.iter_mut().for_each(table_with_joins),
        SetExpr::Query(query) => joins(query),
        SetExpr::SetOperation { left, right, .. } => {
            set_expr(left);
            set_expr(right);
        }
        _ => {}
    }
}

fn table_with_joins(table: &mut TableWithJoins) {
    factor(&mut table.relation);
    for join in &mut table.joins {
        factor(&mut join.relation);
        as_of(join);
    }
    for join in std::mem::take(&mut table.joins) {
        let is_last = function(&join.relation).is_some();
        table.joins.push(join);
        if is_last {
            let nested = TableWithJoins {
                relation: table.relation.clone(),
                joins: std::mem::take(&mut table.joins),
            };
            table.relation = nest(nested);
        }
    }
}

fn nest(table: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin {
        table_with_joins: Box::new(table),
        alias: None,
    }
}

fn factor(factor: &mut TableFactor) {
    match factor {
        TableFactor::Derived { subquery, .. } => joins(subquery),
        TableFactor::NestedJoin {
            table_with_joins: nested,
            alias,
        } => {
            table_with_joins(nested);
            if nested.joins.is_empty() && alias.is_none() {
                // All of its joins have become one relation.
                *factor = nested.relation.clone();
            }
        }
        _ => {}
    }
}

/// `ASOF JOIN` becomes a left join with a marked right side.
fn as_of(join: &mut Join) {
    let JoinOperator::AsOf {
        match_condition,
        constraint: JoinConstraint::On(on),
    } = &join.join_operator
    else {
        return;
    };
    let nested = |expr: &Expr| Box::new(Expr::Nested(Box::new(expr.clone())));
    let both = Expr::BinaryOp {
        left: nested(on),
        op: BinaryOperator::And,
        right: nested(match_condition),
    };
    join.join_operator = JoinOperator::LeftOuter(JoinConstraint::On(both));
    let relation = join.relation.clone();
    join.relation = nest(TableWithJoins {
        relation,
        joins: Vec::new(),
    });
}

/// The relation that was marked.
pub(super) fn marked(factor: &TableFactor) -> Option<&TableFactor> {
    match factor {
        TableFactor::NestedJoin {
            table_with_joins: nested,
            alias: None,
        } if nested.joins.is_empty() => Some(&nested.relation),
        _ => None,
    }
}

/// A join with `UNNEST`.
pub(super) struct Unnested<'f> {
    /// What stands before it.
    pub(super) input: TableFactor,
    pub(super) name: &'f ObjectName,
    pub(super) args: &'f [FunctionArg],
    pub(super) alias: Option<&'f TableAlias>,
    /// Rows without an element are kept.
    pub(super) outer: bool,
}

/// What is in parentheses and ends in `UNNEST`.
pub(super) fn unnested(factor: &TableFactor) -> Option<Unnested<'_>> {
    let TableFactor::NestedJoin {
        table_with_joins: nested,
        ..
    } = factor
    else {
        return None;
    };
    let (last, before) = nested.joins.split_last()?;
    let (name, args, alias) = function(&last.relation)?;
    let relation = nested.relation.clone();
    let input = match before {
        [] => relation,
        before => nest(TableWithJoins {
            relation,
            joins: before.to_vec(),
        }),
    };
    Some(Unnested {
        input,
        name,
        args,
        alias,
        outer: matches!(
            last.join_operator,
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_)
        ),
    })
}

/// The name, the arguments and the alias of `UNNEST(...)`.
fn function(factor: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], Option<&TableAlias>)> {
    match factor {
        TableFactor::Table {
            name,
            args: Some(args),
            alias,
            ..
        } if is_unnest(name) => Some((name, &args.args, alias.as_ref())),
        _ => None,
    }
}
