//! What the stored state of a query depends on.

use crate::explain::operator;
use crate::operator::Operator;
use crate::plan::Translated;
use crate::spread::Edge;
use datafusion::arrow::datatypes::Schema;

/// A line for each operator that has state, for what assigns windows, and for each edge of an exchange. A query
/// with the same lines can go on with the state of another one.
pub(crate) fn signature(translated: &Translated, edges: &[Edge]) -> Vec<String> {
    let mut lines = vec![format!("updating: {}", translated.updating)];
    for node in &translated.nodes {
        let types = match &node.operator {
            Operator::Window(_) => String::new(),
            Operator::Aggregate(a) => types(&a.schema),
            Operator::Session(s) => types(&s.schema),
            Operator::Rank(r) => types(&r.input),
            Operator::Top(t) => types(&t.input),
            Operator::Join(j) => {
                let [left, right] = &j.sides;
                format!("{} | {}", types(&left.schema), types(&right.schema))
            }
            Operator::AsOf(j) => {
                let [left, right] = &j.sides;
                format!("{} | {}", types(&left.schema), types(&right.schema))
            }
            Operator::Lookup(l) => types(&l.table),
            Operator::Every(e) => types(&e.schema),
            Operator::Counted(c) => types(&c.schema),
            Operator::Dedup(_) => String::new(),
            Operator::Pass
            | Operator::Filter(_)
            | Operator::Project(_)
            | Operator::Unnest(_)
            | Operator::Sink(_)
            | Operator::Exchange(_) => continue,
        };
        lines.push(format!("{}; {types}", operator(&node.operator)));
    }
    for edge in edges {
        lines.push(format!("exchange: {}", types(&edge.entry.schema)));
    }
    lines
}

fn types(schema: &Schema) -> String {
    let types = schema.fields().iter().map(|f| f.data_type().to_string());
    types.collect::<Vec<_>>().join(", ")
}
