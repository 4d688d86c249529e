//! JOIN with a table: the latest row of a key.

use super::column::Meaning;
use super::{Build, Built, Columns, arrow, unaliased};
use crate::cell::is_storable;
use crate::operator::Operator;
use crate::operator::lookup::Lookup;
use crate::operator::rank::nullable;
use crate::plan::scalar;
use datafusion::common::{JoinType, NullEquality, Result, plan_err};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, TableScan};
use std::sync::Arc;

impl Build<'_> {
    /// The table that a plan reads as it is.
    pub(super) fn table<'p>(&self, plan: &'p LogicalPlan) -> Option<&'p TableScan> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.table(&alias.input),
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table();
                let found = self.streams.iter().find(|s| s.name == name)?;
                found.is_table().then_some(scan)
            }
            _ => None,
        }
    }

    pub(super) fn lookup(&mut self, plan: &Join, table: &TableScan) -> Result<Built> {
        let name = table.table_name.table();
        let outer = match plan.join_type {
            JoinType::Inner => false,
            JoinType::Left => true,
            other => {
                return plan_err!(
                    "a {other} join with table '{name}' is not supported: the stream stands on the left \
                     side of JOIN or LEFT JOIN"
                );
            }
        };
        let stream = self.plan(&plan.left)?;
        if stream.updating {
            return plan_err!("a join of results that change is not supported");
        }
        stream.columns.no_session("a join")?;
        let right = self.scan_any(table)?;
        let (at, table_key) = self.key_of(plan, &right, name)?;
        let left_schema = plan.left.schema();
        let shown = stream.columns.shown(&plan.on[at].0, left_schema);
        let by_record_key = shown.is_some_and(|(_, meaning)| meaning.key_of_one);
        match by_record_key {
            true => self.aligned = true,
            false => self.gathers = true,
        }
        let schema = nullable(plan.right.schema().as_arrow());
        if let Some(field) = schema.fields().iter().find(|f| !is_storable(f.data_type())) {
            return plan_err!("a table cannot keep column '{}'", field.name());
        }
        let others = plan.on.iter().enumerate().filter(|(n, _)| *n != at);
        let others = others.map(|(_, (left, right))| left.clone().eq(right.clone()));
        let condition = conjunction(others.chain(plan.filter.clone()));
        let both = left_schema.join(plan.right.schema())?;
        let lookup = Lookup {
            key: scalar::key(&plan.on[at].0, left_schema)?,
            by_record_key,
            table_key,
            table: schema,
            condition: condition.map(|c| scalar::physical(&c, &both)).transpose()?,
            outer,
            schema: nullable(&arrow(&plan.schema)),
        };
        let node = self.add(
            Operator::Lookup(Arc::new(lookup)),
            &[stream.node, right.node],
        )?;
        self.nodes[right.node].port = 1;
        let mut columns: Columns = stream.columns;
        columns
            .meanings
            .resize(plan.schema.fields().len(), Meaning::default());
        Ok(Built {
            node,
            columns,
            updating: false,
        })
    }

    /// Which of the equalities is that of the table's key, and its column among those that are read.
    fn key_of(&self, plan: &Join, right: &Built, name: &str) -> Result<(usize, usize)> {
        let is_plain = plan.null_equality == NullEquality::NullEqualsNothing;
        let schema = plan.right.schema();
        let mut casted = false;
        for (at, (_, key)) in plan.on.iter().enumerate().filter(|_| is_plain) {
            let inner = match unaliased(key) {
                Expr::Cast(cast) => {
                    casted = true;
                    &cast.expr
                }
                other => other,
            };
            if let Some((column, meaning)) = right.columns.shown(inner, schema)
                && meaning.primary
                && matches!(unaliased(key), Expr::Column(_))
            {
                return Ok((at, column));
            }
        }
        let hint = if casted {
            "; where the types differ, CAST the column of the stream to the type of the key"
        } else {
            ""
        };
        plan_err!(
            "a join with table '{name}' takes its primary key: ON stream.x = {name}.key{hint}"
        )
    }
}
