//! GROUP BY and DISTINCT.

use super::column::{Columns, Meaning};
use super::{Build, Built, Scan, arrow};
use crate::cell::is_storable;
use crate::operator::aggregate::ttl::Ttl;
use crate::operator::counted::Counted;
use crate::operator::every::Every;
use crate::operator::rank::nullable;
use crate::operator::regroup::{Functions, Regroup, Rule};
use crate::operator::{Aggregate, GroupColumn, Operator, Session, WindowColumns};
use crate::plan::{WindowKind, aggregate, scalar};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use std::sync::Arc;

/// Most functions of a grouping of results that change: their numbers are bytes.
const FUNCTIONS_MAX: usize = 200;

/// The columns of GROUP BY, and where the bounds of windows are among those of the input.
struct Grouping {
    columns: Vec<GroupColumn>,
    start: Option<usize>,
    end: Option<usize>,
    /// The key of the record is one of them.
    has_key: bool,
}

impl Build<'_> {
    pub(super) fn aggregate(
        &mut self,
        plan: &datafusion::logical_expr::Aggregate,
    ) -> Result<Built> {
        let input = self.plan_inside(&plan.input)?;
        if input.updating {
            return self.regroup(plan, input);
        }
        let schema = plan.input.schema();
        for expr in plan.aggr_expr.iter() {
            input.columns.no_session_in(expr, schema)?;
        }
        let grouping = grouping(&plan.group_expr, &input.columns, plan.input.schema())?;
        self.gathers |= !grouping.has_key;
        let aggregates = aggregate::aggregates(&plan.aggr_expr, schema)?;
        let window = self.window_columns(&grouping, &input.columns)?;
        let distinct = plan.aggr_expr.is_empty();
        if window.is_none() && !distinct && !self.emit.changes {
            return plan_err!(
                "a GROUP BY without a window never ends: write EMIT CHANGES, or group by window_start \
                 and window_end of a window function"
            );
        }
        let output = arrow(&plan.schema);
        let mut groups = output.fields().iter().take(plan.group_expr.len());
        if let Some(field) = groups.find(|f| !is_storable(f.data_type())) {
            return plan_err!("GROUP BY of type {} is not supported", field.data_type());
        }
        // No watermark speaks of the rows of a count window.
        let counted = matches!(input.columns.window, Some(WindowKind::Count { .. }));
        let is_timed = window.is_some() && !counted;
        let columns = output_columns(&grouping, plan.schema.fields().len(), is_timed);
        let changes = self.emit.changes && !distinct;
        let is_end = |c: &GroupColumn| matches!(c, GroupColumn::End);
        let end = window.and_then(|_| grouping.columns.iter().position(is_end));
        let grouped = Aggregate {
            columns: grouping.columns,
            window,
            aggregates,
            schema: output,
            changes,
            ttl: self.ttl().filter(|_| window.is_none()),
        };
        let operator = self.grouped(grouped, input.columns.window)?;
        let mut node = self.add(operator, &[input.node])?;
        if changes {
            let end = end.map(|end| (end, self.emit.lateness_ms));
            node = self.held_back(node, first_columns(plan), end, plan.schema.as_arrow())?;
        }
        Ok(Built {
            node,
            columns,
            updating: changes,
        })
    }

    /// A grouping of results that change.
    fn regroup(
        &mut self,
        plan: &datafusion::logical_expr::Aggregate,
        input: Built,
    ) -> Result<Built> {
        let schema = plan.input.schema();
        let grouping = grouping(&plan.group_expr, &input.columns, schema)?;
        if input.columns.window.is_some() || grouping.start.is_some() || grouping.end.is_some() {
            return plan_err!("a window over results that change is not supported");
        }
        if self.emit.ttl_ms.is_some() {
            return plan_err!(
                "state_ttl_ms would take rows away from under a grouping of results that change: leave it out"
            );
        }
        self.gathers = true;
        let values = grouping.columns.into_iter().filter_map(|c| match c {
            GroupColumn::Value(expr) => Some(expr),
            GroupColumn::Start | GroupColumn::End => None,
        });
        let calls = aggregate::aggregates(&plan.aggr_expr, schema)?;
        let rules = calls.0.iter().map(Rule::of).collect::<Result<Vec<_>>>()?;
        if rules.len() > FUNCTIONS_MAX {
            return plan_err!("more than {FUNCTIONS_MAX} functions over results that change");
        }
        let output = arrow(&plan.schema);
        let mut groups = output.fields().iter().take(plan.group_expr.len());
        if let Some(field) = groups.find(|f| !is_storable(f.data_type())) {
            return plan_err!("GROUP BY of type {} is not supported", field.data_type());
        }
        let regroup = Regroup {
            columns: values.collect(),
            functions: Functions {
                calls,
                rules: rules.into(),
            },
            schema: nullable(&output),
            gone: None,
        };
        let node = self.add(Operator::Regroup(Box::new(regroup)), &[input.node])?;
        let node = self.held_back(node, first_columns(plan), None, &output)?;
        Ok(Built {
            node,
            columns: Columns {
                meanings: vec![Meaning::default(); output.fields().len()],
                window: None,
            },
            updating: true,
        })
    }

    /// Changes of results, at most one of each in an interval, if that is wanted and nothing behind them takes them
    /// back. `window` is the column with its end, and for how long it stays open.
    fn held_back(
        &mut self,
        node: usize,
        group: Vec<Arc<dyn PhysicalExpr>>,
        window: Option<(usize, i64)>,
        schema: &Schema,
    ) -> Result<usize> {
        let Some(interval_ms) = self.emit.every_ms.filter(|_| !self.inside) else {
            return Ok(node);
        };
        let every = Every {
            interval_ms,
            event_time: self.is_timed(),
            group,
            window,
            schema: nullable(schema),
        };
        self.add(Operator::Every(every), &[node])
    }

    /// Whether the query has event time.
    fn is_timed(&self) -> bool {
        let watermark = |s: &Scan| self.streams[s.stream].watermark;
        self.scans.iter().any(|s| watermark(s).is_some())
    }

    fn ttl(&self) -> Option<Ttl> {
        let event_time = self.is_timed();
        self.emit.ttl_ms.map(|ms| Ttl { ms, event_time })
    }

    /// The operator of a grouping; windows whose bounds follow from their rows have their own.
    fn grouped(&self, grouped: Aggregate, kind: Option<WindowKind>) -> Result<Operator> {
        let (Some(window), Some(kind)) = (grouped.window, kind) else {
            return Ok(Operator::Aggregate(Box::new(grouped)));
        };
        match kind {
            WindowKind::Session { .. } if self.emit.changes => {
                let emit = self.emit.every_ms.map_or("EMIT CHANGES", |_| "EMIT EVERY");
                plan_err!("{emit} over SESSION is not supported: EMIT ON WINDOW CLOSE")
            }
            WindowKind::Session { gap_ms } => Ok(Operator::Session(Box::new(Session {
                columns: grouped.columns,
                start: window.start,
                gap_ms,
                lateness_ms: window.lateness_ms,
                aggregates: grouped.aggregates,
                schema: grouped.schema,
            }))),
            WindowKind::Count { rows, slide } => {
                self.check_counted()?;
                Ok(Operator::Counted(Box::new(Counted {
                    columns: grouped.columns,
                    start: window.start,
                    rows,
                    slide,
                    aggregates: grouped.aggregates,
                    schema: grouped.schema,
                })))
            }
            _ => Ok(Operator::Aggregate(Box::new(grouped))),
        }
    }

    /// Count windows are given out when they are full, and wait for nothing.
    fn check_counted(&self) -> Result<()> {
        if self.emit.changes || self.emit.lateness_ms > 0 {
            return plan_err!(
                "a COUNT_WINDOW comes out once, when it is full: without EMIT CHANGES, EMIT EVERY and ALLOW \
                 LATENESS"
            );
        }
        Ok(())
    }

    /// The bounds of the windows that are grouped by; both, or there is no window.
    fn window_columns(
        &self,
        grouping: &Grouping,
        input: &Columns,
    ) -> Result<Option<WindowColumns>> {
        match (grouping.start, grouping.end) {
            (Some(start), Some(end)) => Ok(Some(WindowColumns {
                start,
                end,
                lateness_ms: self.emit.lateness_ms,
            })),
            (None, None) if input.window.is_none() => Ok(None),
            (None, None) if self.emit.changes => {
                input.no_session("a grouping without them")?;
                Ok(None)
            }
            _ => plan_err!("group by both window_start and window_end"),
        }
    }
}

/// The columns of GROUP BY in the result.
fn first_columns(plan: &datafusion::logical_expr::Aggregate) -> Vec<Arc<dyn PhysicalExpr>> {
    let fields = plan.schema.fields().iter().take(plan.group_expr.len());
    let column =
        |(at, name): (usize, &str)| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
    fields
        .map(|f| &f.name()[..])
        .enumerate()
        .map(column)
        .collect()
}

fn grouping(
    exprs: &[Expr],
    input: &Columns,
    schema: &datafusion::common::DFSchema,
) -> Result<Grouping> {
    let mut grouping = Grouping {
        columns: Vec::new(),
        start: None,
        end: None,
        has_key: false,
    };
    let again = is_window_again(exprs, input, schema);
    for expr in exprs {
        if matches!(expr, Expr::GroupingSet(_)) {
            return plan_err!("GROUPING SETS, CUBE and ROLLUP are not supported");
        }
        let column = match input.shown(expr, schema) {
            Some((at, meaning)) if meaning.start || again && meaning.began => {
                grouping.start = Some(at);
                GroupColumn::Start
            }
            Some((at, meaning)) if meaning.end || again && meaning.ended => {
                grouping.end = Some(at);
                GroupColumn::End
            }
            shown => {
                input.no_session_in(expr, schema)?;
                grouping.has_key |= shown.is_some_and(|(_, meaning)| meaning.key);
                GroupColumn::Value(scalar::physical(expr, schema)?)
            }
        };
        grouping.columns.push(column);
    }
    Ok(grouping)
}

/// Whether both bounds of windows that were grouped are grouped by once more, and there are no other
/// windows: all rows of such a window come when it closes, so it can be closed at once again.
fn is_window_again(exprs: &[Expr], input: &Columns, schema: &datafusion::common::DFSchema) -> bool {
    let shown = exprs.iter().filter_map(|e| input.shown(e, schema));
    let meanings: Vec<Meaning> = shown.map(|(_, meaning)| meaning).collect();
    input.window.is_none() && meanings.iter().any(|m| m.began) && meanings.iter().any(|m| m.ended)
}

/// What the columns of the result stand for.
fn output_columns(grouping: &Grouping, count: usize, windowed: bool) -> Columns {
    let meaning = |c: &GroupColumn| Meaning {
        time: windowed && matches!(c, GroupColumn::End),
        began: windowed && matches!(c, GroupColumn::Start),
        ended: windowed && matches!(c, GroupColumn::End),
        ..Meaning::default()
    };
    let mut meanings: Vec<Meaning> = grouping.columns.iter().map(meaning).collect();
    meanings.resize(count, Meaning::default());
    Columns {
        meanings,
        window: None,
    }
}
