//! Joins that DataFusion does not plan, written so that it does.
//!
//! ```text
//! a ASOF JOIN b MATCH_CONDITION (m) ON c   ->   a LEFT JOIN (b) ON c AND m
//! ```
//!
//! A relation in parentheses without a join cannot be written by anybody else, so the relation
//! planner ([`super::relation`]) knows it again and puts a node of ours there.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Query, SetExpr, TableFactor,
    TableWithJoins,
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
}

fn factor(factor: &mut TableFactor) {
    match factor {
        TableFactor::Derived { subquery, .. } => joins(subquery),
        TableFactor::NestedJoin {
            table_with_joins: nested,
            ..
        } => table_with_joins(nested),
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
    join.relation = TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins {
            relation,
            joins: Vec::new(),
        }),
        alias: None,
    };
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
