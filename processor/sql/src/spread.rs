//! Spreading a query over shards.
//!
//! ```text
//! front, on each shard:  records --filter, project, windows, lookups by the key of the record--> exchange
//! back, on each shard:   exchange --groups, joins, ranks and what follows--> results
//! ```
//! Rows are exchanged once, before the first operators that put rows together. They meet by the values that
//! those put together by, if what stands behind them can do with that; else all rows meet on one shard.

use crate::cell::is_storable;
use crate::exchanged::Entry;
use crate::operator::exchange::{EDGES_MAX, Exchange};
use crate::operator::{GroupColumn, Operator};
use crate::plan::Translated;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use std::collections::BTreeSet;
use std::sync::Arc;

type Exprs = Vec<Arc<dyn PhysicalExpr>>;

/// Where a query is cut.
#[derive(Clone)]
pub(crate) struct Edge {
    /// The operator whose rows are exchanged.
    pub(crate) from: usize,
    pub(crate) exchange: Exchange,
    pub(crate) entry: Entry,
}

/// The edges at which a query is cut; `None` where it cannot be.
pub(crate) fn edges(translated: &Translated) -> Option<Vec<Edge>> {
    let graph = Graph(translated);
    let behind = graph.behind();
    // A table is read before the streams, and rows out of an exchange come in any order: what is looked up stays
    // where the records are.
    let is_lookup = |n: &usize| matches!(translated.nodes[*n].operator, Operator::Lookup(_));
    if behind.iter().any(is_lookup) {
        return None;
    }
    let cut = |from: &usize| {
        let next = translated.nodes[*from].next;
        !behind.contains(from) && next.is_none_or(|to| behind.contains(&to))
    };
    let cuts: Vec<usize> = (0..translated.nodes.len()).filter(cut).collect();
    if cuts.is_empty() || cuts.len() > EDGES_MAX {
        return None;
    }
    let apart = graph.can_be_apart(&cuts);
    let mut edges = Vec::new();
    for (number, from) in cuts.into_iter().enumerate() {
        // A part without anything that is put together is cut before the sink.
        let to = translated.nodes[from].next?;
        let port = translated.nodes[from].port;
        let schema = graph.schema(from)?;
        if !schema.fields().iter().all(|f| is_storable(f.data_type())) {
            return None;
        }
        let keys = match apart {
            true => graph.keys(to, port)?,
            false => Vec::new(),
        };
        let edge = number as u8;
        edges.push(Edge {
            from,
            exchange: Exchange { edge, keys },
            entry: Entry {
                node: to,
                port,
                schema,
            },
        });
    }
    Some(edges)
}

struct Graph<'t>(&'t Translated);

impl Graph<'_> {
    /// Operators that put rows together, and all that stand behind them.
    fn behind(&self) -> BTreeSet<usize> {
        let mut behind = BTreeSet::new();
        for (number, node) in self.0.nodes.iter().enumerate() {
            if !stays(&node.operator) {
                behind.insert(number);
            }
            if let (true, Some(next)) = (behind.contains(&number), node.next) {
                behind.insert(next);
            }
        }
        behind
    }

    /// Whether rows that an operator behind the cuts puts together always meet when they go by what the first
    /// ones put together by.
    fn can_be_apart(&self, cuts: &[usize]) -> bool {
        cuts.iter().all(|from| {
            let Some(first) = self.0.nodes[*from].next else {
                return false;
            };
            let port = self.0.nodes[*from].port;
            self.keys(first, port).is_some_and(|k| !k.is_empty()) && self.keeps(first)
        })
    }

    /// Whether all that stands behind `first` puts together no rows that are apart there.
    fn keeps(&self, first: usize) -> bool {
        let Some(mut places) = self.key_places(first) else {
            // It is not known which of its columns say where a row is.
            return !self.gathers_behind(first);
        };
        let mut at = first;
        while let Some(next) = self.0.nodes[at].next {
            match &self.0.nodes[next].operator {
                Operator::Project(project) => {
                    let place = |p: &usize| project.exprs.iter().position(|e| is_column(e, *p));
                    match places.iter().map(place).collect() {
                        Some(moved) => places = moved,
                        None => return !self.gathers_behind(next),
                    }
                }
                operator if operator.is_alone() => {}
                // It holds results back by the groups that they are of.
                Operator::Every(_) => {}
                _ => {
                    let keys = self.keys(next, self.0.nodes[at].port);
                    let keys = keys.unwrap_or_default();
                    let has = |p: &usize| keys.iter().any(|e| is_column(e, *p));
                    let moved = self.key_places(next);
                    if !places.iter().all(has) || moved.is_none() {
                        return false;
                    }
                    // Its own places are a larger set, of which those that matter are a part.
                    return !self.gathers_behind(next);
                }
            }
            at = next;
        }
        true
    }

    fn gathers_behind(&self, at: usize) -> bool {
        let mut next = self.0.nodes[at].next;
        while let Some(number) = next {
            if !self.0.nodes[number].operator.is_alone() {
                return true;
            }
            next = self.0.nodes[number].next;
        }
        false
    }

    /// What an operator puts rows together by, over the columns of one of its inputs, without the bounds of
    /// windows; `None` where that cannot be said.
    fn keys(&self, number: usize, port: usize) -> Option<Exprs> {
        let values = |columns: &[GroupColumn]| {
            let values = columns.iter().filter_map(|c| match c {
                GroupColumn::Value(expr) => Some(expr.clone()),
                GroupColumn::Start | GroupColumn::End => None,
            });
            values.collect()
        };
        match &self.0.nodes[number].operator {
            Operator::Aggregate(a) => Some(values(&a.columns)),
            Operator::Session(s) => Some(values(&s.columns)),
            Operator::Rank(r) => Some(r.groups.clone()),
            Operator::Top(t) => Some(t.groups.clone()),
            Operator::Regroup(g) => Some(g.columns.clone()),
            Operator::Counted(c) => Some(values(&c.columns)),
            Operator::Join(j) => Some(j.sides.get(port)?.keys.clone()),
            Operator::AsOf(j) => Some(j.sides.get(port)?.keys.clone()),
            Operator::Dedup(d) => Some(d.keys.clone()),
            _ => None,
        }
    }

    /// Which columns of its rows are those.
    fn key_places(&self, number: usize) -> Option<Vec<usize>> {
        let columns = match &self.0.nodes[number].operator {
            Operator::Aggregate(a) => &a.columns,
            Operator::Session(s) => &s.columns,
            Operator::Counted(c) => &c.columns,
            Operator::Rank(r) => return places(&r.groups),
            Operator::Top(t) => return places(&t.groups),
            Operator::Regroup(g) => return Some((0..g.columns.len()).collect()),
            Operator::Dedup(d) => return places(&d.keys),
            _ => return None,
        };
        let is_value = |c: &GroupColumn| matches!(c, GroupColumn::Value(_));
        let places = columns.iter().enumerate().filter(|(_, c)| is_value(c));
        Some(places.map(|(place, _)| place).collect())
    }

    /// The columns of an operator's rows, of those that may be in front.
    fn schema(&self, number: usize) -> Option<SchemaRef> {
        match &self.0.nodes[number].operator {
            Operator::Project(project) => return Some(project.schema.clone()),
            Operator::Unnest(unnest) => return Some(unnest.schema.clone()),
            Operator::Window(window) => return Some(window.schema.clone()),
            Operator::Lookup(lookup) => return Some(lookup.schema.clone()),
            _ => {}
        }
        if let Some(scan) = self.0.scans.iter().find(|s| s.node == number) {
            return Some(scan.schema.clone());
        }
        let before = |n: &crate::flow::Node| n.next == Some(number);
        self.schema(self.0.nodes.iter().position(before)?)
    }
}

/// Whether an operator can be where the records are.
fn stays(operator: &Operator) -> bool {
    match operator {
        Operator::Lookup(lookup) => lookup.by_record_key,
        other => other.is_alone(),
    }
}

fn places(exprs: &[Arc<dyn PhysicalExpr>]) -> Option<Vec<usize>> {
    exprs.iter().map(|e| Some(column(e)?.index())).collect()
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    expr.downcast_ref::<Column>()
}

fn is_column(expr: &Arc<dyn PhysicalExpr>, place: usize) -> bool {
    column(expr).is_some_and(|c| c.index() == place)
}
