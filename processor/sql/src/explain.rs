//! What a plan does, in words.

use crate::operator::regroup::Regroup;
use crate::operator::top::Top;
use crate::operator::{GroupColumn, Operator};
use crate::plan::Translated;
use crate::spread::Edge;
use crate::stream::Stream;
use datafusion::arrow::compute::SortOptions;
use datafusion::physical_expr::PhysicalExpr;
use std::fmt::Write;
use std::sync::Arc;

/// The operators, one a line, the last one first; with an exchange at each edge, and how results are written.
pub(crate) fn explain(
    translated: &Translated,
    streams: &[Stream],
    edges: &[Edge],
    written: &str,
) -> String {
    let mut text = String::new();
    let kind = if translated.updating {
        "changes of keyed results"
    } else {
        "results"
    };
    let _ = writeln!(text, "sink: {kind}{written}");
    if let Some(last) = translated.nodes.len().checked_sub(1) {
        line(&mut text, (translated, streams, edges), last, 1);
    }
    text
}

type What<'w> = (&'w Translated, &'w [Stream], &'w [Edge]);

fn line(text: &mut String, what: What<'_>, number: usize, mut depth: usize) {
    let (translated, streams, edges) = what;
    if let Some(edge) = edges.iter().find(|e| e.from == number) {
        let indent = "  ".repeat(depth);
        let keys: Vec<String> = edge.exchange.keys.iter().map(ToString::to_string).collect();
        let _ = match keys.is_empty() {
            true => writeln!(text, "{indent}exchange: all rows meet on one shard"),
            false => writeln!(text, "{indent}exchange: by {}", keys.join(", ")),
        };
        depth += 1;
    }
    let node = &translated.nodes[number];
    let indent = "  ".repeat(depth);
    let said = match translated.scans.iter().find(|s| s.node == number) {
        Some(scan) => {
            let stream = &streams[scan.stream];
            let names = scan.columns.iter().map(|c| &stream.columns[*c].name[..]);
            let names = names.collect::<Vec<_>>().join(", ");
            let kind = if stream.is_table() { "table" } else { "stream" };
            format!("{kind} {} (topic {}): {names}", stream.name, stream.topic)
        }
        None => operator(&node.operator),
    };
    let _ = writeln!(text, "{indent}{said}");
    for (before, node) in translated.nodes.iter().enumerate() {
        if node.next == Some(number) {
            line(text, what, before, depth + 1);
        }
    }
}

pub(crate) fn operator(operator: &Operator) -> String {
    match operator {
        Operator::Pass => "union all".into(),
        Operator::Filter(filter) => format!("filter: {}", filter.condition),
        Operator::Project(project) => {
            let exprs: Vec<String> = project.exprs.iter().map(ToString::to_string).collect();
            format!("project: {}", exprs.join(", "))
        }
        Operator::Window(window) => format!("windows: {}", window.kind),
        Operator::Aggregate(a) => {
            let when = match (a.changes, a.window) {
                (true, _) => "every change".into(),
                (false, Some(w)) if w.lateness_ms > 0 => {
                    format!("{} ms after the window has closed", w.lateness_ms)
                }
                (false, Some(_)) => "when the window closes".into(),
                (false, None) => "when a group is new".to_string(),
            };
            let kept = match a.ttl {
                None => String::new(),
                Some(ttl) => format!(
                    "; forgotten {} ms of {} behind its last row",
                    ttl.ms,
                    time(ttl.event_time)
                ),
            };
            format!(
                "group: {}; gives out {when}{kept}",
                columns(&a.columns, &a.schema)
            )
        }
        Operator::Session(s) => {
            format!(
                "group by sessions: {}; gap {} ms",
                columns(&s.columns, &s.schema),
                s.gap_ms
            )
        }
        Operator::Rank(r) => {
            let order = order(&r.order);
            format!(
                "rank: the first {} of each group by {order}; when the window closes",
                r.first
            )
        }
        Operator::Top(t) => top(t),
        Operator::Regroup(g) => regroup(g),
        Operator::Every(e) => {
            let time = time(e.event_time);
            format!("changes every {} ms of {time}", e.interval_ms)
        }
        Operator::Counted(c) => format!(
            "group by {} rows every {} rows: {}",
            c.rows,
            c.slide,
            columns(&c.columns, &c.schema)
        ),
        other => joining(other),
    }
}

fn top(top: &Top) -> String {
    let groups: Vec<String> = top.groups.iter().map(ToString::to_string).collect();
    let of = match groups.is_empty() {
        true => "all".into(),
        false => format!("each {}", groups.join(", ")),
    };
    let kept = match top.updating {
        true => "; keeps all rows",
        false => "",
    };
    let order = order(&top.order);
    format!(
        "top: the first {} of {of} by {order}; gives out every change{kept}",
        top.first
    )
}

fn regroup(regroup: &Regroup) -> String {
    let names = regroup.schema.fields().iter().map(|f| &f.name()[..]);
    let names: Vec<&str> = names.collect();
    let (by, functions) = names.split_at(regroup.columns.len());
    format!(
        "group again: by {} compute {}; gives out every change",
        by.join(", "),
        functions.join(", ")
    )
}

fn order(by: &[(Arc<dyn PhysicalExpr>, SortOptions)]) -> String {
    let order = by.iter().map(|(e, o)| {
        let down = if o.descending { " desc" } else { "" };
        let nulls = match (o.descending, o.nulls_first) {
            (true, false) => " nulls last",
            (false, true) => " nulls first",
            _ => "",
        };
        format!("{e}{down}{nulls}")
    });
    order.collect::<Vec<_>>().join(", ")
}

/// Operators that bring rows together, drop or unfold them.
fn joining(operator: &Operator) -> String {
    match operator {
        Operator::Join(j) => {
            let [left, right] = &j.sides;
            let keys = left
                .keys
                .iter()
                .zip(&right.keys)
                .map(|(l, r)| format!("{l} = {r}"));
            let keys = keys.collect::<Vec<_>>().join(", ");
            let kind = match (left.outer, right.outer) {
                (false, false) => "inner",
                (true, false) => "left",
                (false, true) => "right",
                (true, true) => "full",
            };
            let (from, to) = (-left.before_ms, left.after_ms);
            format!("{kind} join: {keys}; the right one is {from} to {to} ms later")
        }
        Operator::Lookup(l) => {
            let kind = if l.outer { "left" } else { "inner" };
            format!("{kind} lookup: the latest row with the key {}", l.key)
        }
        Operator::Dedup(d) => {
            let keys: Vec<String> = d.keys.iter().map(ToString::to_string).collect();
            let keys = keys.join(", ");
            format!(
                "the first row of each {keys}; known for {} ms",
                d.interval_ms
            )
        }
        Operator::AsOf(j) => {
            let keys = j.sides[0].keys.iter().zip(&j.sides[1].keys);
            let keys = keys.map(|(l, r)| format!("{l} = {r}"));
            let keys = keys.collect::<Vec<_>>().join(", ");
            let bound = match j.shift_ms {
                0 => "not later".into(),
                ms if ms > 0 => format!("at most {ms} ms later"),
                ms => format!("at least {} ms earlier", -ms),
            };
            format!("asof join: {keys}; the latest right one that is {bound}")
        }
        Operator::Unnest(u) => {
            let kept = if u.outer {
                "; rows without one are kept"
            } else {
                ""
            };
            format!("a row for each element of {}{kept}", u.list)
        }
        Operator::Exchange(_) => "exchange".into(),
        _ => "sink".into(),
    }
}

fn time(is_event_time: bool) -> &'static str {
    match is_event_time {
        true => "event time",
        false => "the clock",
    }
}

fn columns(columns: &[GroupColumn], schema: &datafusion::arrow::datatypes::Schema) -> String {
    let names = schema.fields().iter().map(|f| &f.name()[..]);
    let names: Vec<&str> = names.collect();
    let (groups, results) = names.split_at(columns.len());
    format!("by {} compute {}", groups.join(", "), results.join(", "))
}
