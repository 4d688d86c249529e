//! `FROM stream CROSS JOIN UNNEST(list) AS t(element)`.

use super::{at, plain};
use crate::plan::rewrite::Unnested;
use crate::plan::unnest::UnnestNode;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, TableAlias};

pub(super) fn plan(
    unnested: Unnested<'_>,
    context: &mut dyn RelationPlannerContext,
) -> Result<UnnestNode> {
    let Unnested {
        input,
        name,
        args,
        alias,
        outer,
    } = unnested;
    let args: Vec<&SqlExpr> = args.iter().filter_map(plain).collect();
    let [list] = args[..] else {
        return at(plan_err!("write UNNEST(list) AS name(element)"), name);
    };
    let input = context.plan(input)?;
    let names = match alias {
        None => ("unnest".to_string(), "unnest".to_string()),
        Some(TableAlias {
            name: own, columns, ..
        }) => {
            let relation = context.normalize_ident(own.clone());
            let column = match &columns[..] {
                [] => relation.clone(),
                [one] => context.normalize_ident(one.name.clone()),
                _ => return at(plan_err!("UNNEST gives one column"), name),
            };
            (relation, column)
        }
    };
    let planned = context.sql_to_expr(list.clone(), input.schema())?;
    at(UnnestNode::new(input, planned, outer, names), list)
}
