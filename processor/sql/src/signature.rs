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
    let kept = between_changes(translated);
    for (number, node) in translated.nodes.iter().enumerate() {
        let types = match &node.operator {
            Operator::Window(_) => String::new(),
            Operator::Aggregate(a) => types(&a.schema),
            Operator::Session(s) => types(&s.schema),
            Operator::Rank(r) => types(&r.input),
            Operator::Top(t) => named_types(&t.input),
            Operator::Regroup(g) => types(&g.schema),
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
            _ if kept[number] => String::new(),
            Operator::Pass
            | Operator::Filter(_)
            | Operator::Project(_)
            | Operator::Unnest(_)
            | Operator::Sink(_)
            | Operator::Exchange(_) => continue,
        };
        let said = operator(&node.operator);
        lines.push(match types.is_empty() {
            true => said,
            false => format!("{said}; {types}"),
        });
    }
    for edge in edges {
        lines.push(format!("exchange: {}", types(&edge.entry.schema)));
    }
    lines
}

/// Operators between results that change and what takes them back: a row that was given on as it was then must be
/// found again by what is computed now.
fn between_changes(translated: &Translated) -> Vec<bool> {
    let mut kept = vec![false; translated.nodes.len()];
    // Each stands behind those that push to it.
    for (number, node) in translated.nodes.iter().enumerate().rev() {
        kept[number] = node.operator.is_alone()
            && node.next.is_some_and(|next| {
                let takes_back = match &translated.nodes[next].operator {
                    Operator::Top(top) => top.updating,
                    Operator::Regroup(_) => true,
                    _ => false,
                };
                takes_back || kept[next]
            });
    }
    kept
}

fn named_types(schema: &Schema) -> String {
    let fields = schema.fields().iter();
    let named = fields.map(|f| format!("{} {}", f.name(), f.data_type()));
    named.collect::<Vec<_>>().join(", ")
}

fn types(schema: &Schema) -> String {
    let types = schema.fields().iter().map(|f| f.data_type().to_string());
    types.collect::<Vec<_>>().join(", ")
}
