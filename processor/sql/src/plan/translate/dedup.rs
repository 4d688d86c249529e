//! `DEDUP`: the first row of each key.

use super::{Build, Built};
use crate::cell::is_storable;
use crate::operator::{Operator, dedup::Dedup};
use crate::plan::dedup::DedupNode;
use crate::plan::scalar;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ExprSchemable;

impl Build<'_> {
    pub(super) fn dedup(&mut self, node: &DedupNode) -> Result<Built> {
        let input = self.plan(&node.input)?;
        if input.updating {
            return plan_err!("DEDUP of results that change is not supported");
        }
        input.columns.no_session("DEDUP")?;
        let schema = node.input.schema();
        let time = schema.index_of_column(&node.time)?;
        input.columns.check_time(time, &node.time.name)?;
        let (mut keys, mut has_key) = (Vec::new(), false);
        for key in &node.keys {
            let data_type = key.get_type(schema)?;
            if !is_storable(&data_type) {
                return plan_err!("DEDUP by '{key}' of type {data_type} is not supported");
            }
            let shown = input.columns.shown(key, schema);
            has_key |= shown.is_some_and(|(_, meaning)| meaning.key);
            keys.push(scalar::physical(key, schema)?);
        }
        self.gathers |= !has_key;
        let dedup = Dedup {
            keys,
            time,
            interval_ms: node.interval_ms,
        };
        let node = self.add(Operator::Dedup(dedup), &[input.node])?;
        Ok(Built { node, ..input })
    }
}
