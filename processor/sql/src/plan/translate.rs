//! From an optimized logical plan to operators that rows are pushed through.

mod asof;
mod column;
mod dedup;
mod grouping;
mod joining;
mod lookup;
mod ranking;

use super::asof::AsOfNode;
use super::dedup::DedupNode;
use super::scalar;
use super::unnest::UnnestNode;
use super::window::WindowNode;
use crate::flow::Node;
use crate::operator::{Filter, Operator, Project, Unnest, Window};
use crate::stream::Stream;
use column::Columns;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use std::sync::Arc;

/// Most operators of a query; also keeps their numbers within a byte.
const OPERATORS_MAX: usize = 64;

/// Where rows of a stream come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Index of the stream.
    pub(crate) stream: usize,
    /// Which columns of the stream.
    pub(crate) columns: Vec<usize>,
    pub(crate) schema: SchemaRef,
    /// The operator that takes the rows.
    pub(crate) node: usize,
}

/// A query as operators; each stands behind those that push to it.
pub(crate) struct Translated {
    pub(crate) nodes: Vec<Node>,
    pub(crate) scans: Vec<Scan>,
    pub(crate) schema: SchemaRef,
    /// Results change: records are keyed, and a later one replaces an earlier one.
    pub(crate) updating: bool,
    /// Rows that belong together may lie in different partitions: all must be on one shard.
    pub(crate) gathers: bool,
    /// Rows of several streams belong together by their keys: partitions of the same number must be
    /// on the same shard.
    pub(crate) aligned: bool,
    /// There is a window whose closing can be waited for.
    pub(crate) windowed: bool,
}

/// What the query says about when results are given out, and for how long they are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmitRules {
    pub(crate) changes: bool,
    /// At most one change of each result in so many milliseconds.
    pub(crate) every_ms: Option<i64>,
    pub(crate) lateness_ms: i64,
    /// For how long groups without a window are kept behind their last row.
    pub(crate) ttl_ms: Option<i64>,
}

/// Translates a plan over these streams.
pub(crate) fn translate(
    plan: &LogicalPlan,
    streams: &[Stream],
    emit: EmitRules,
) -> Result<Translated> {
    let mut build = Build {
        streams,
        emit,
        nodes: Vec::new(),
        scans: Vec::new(),
        gathers: false,
        aligned: false,
        windowed: false,
        wanted: None,
        inside: false,
    };
    let built = build.plan(plan)?;
    built.columns.no_session("SELECT")?;
    Ok(Translated {
        nodes: build.nodes,
        scans: build.scans,
        schema: Arc::new(plan.schema().as_arrow().clone()),
        updating: built.updating,
        gathers: build.gathers,
        aligned: build.aligned,
        windowed: build.windowed,
    })
}

/// What a part of the plan has become.
struct Built {
    /// The operator that gives its rows.
    node: usize,
    columns: Columns,
    updating: bool,
}

struct Build<'s> {
    streams: &'s [Stream],
    emit: EmitRules,
    nodes: Vec<Node>,
    scans: Vec<Scan>,
    gathers: bool,
    aligned: bool,
    windowed: bool,
    /// How many rows the filter wants that stands right above a ranking.
    wanted: Option<u64>,
    /// What is planned now goes to a grouping or ranking, which takes back what changes.
    inside: bool,
}

impl Build<'_> {
    /// Adds an operator behind others.
    fn add(&mut self, operator: Operator, behind: &[usize]) -> Result<usize> {
        if self.nodes.len() == OPERATORS_MAX {
            return plan_err!("the query takes more than {OPERATORS_MAX} operators: split it");
        }
        let number = self.nodes.len();
        for node in behind {
            self.nodes[*node].next = Some(number);
        }
        self.nodes.push(Node::new(operator, None));
        Ok(number)
    }

    fn plan(&mut self, plan: &LogicalPlan) -> Result<Built> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.project(projection),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Extension(extension) => self.extension(extension.node.as_any()),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Window(window) => self.rank(window),
            LogicalPlan::Unnest(_) => plan_err!(
                "unnest() in SELECT is not supported: FROM ... CROSS JOIN UNNEST(list) AS name(element)"
            ),
            other => {
                let text = other.display().to_string();
                plan_err!(
                    "'{}' is not supported",
                    text.split(':').next().unwrap_or(&text)
                )
            }
        }
    }

    /// What goes to a grouping or ranking.
    fn plan_inside(&mut self, plan: &LogicalPlan) -> Result<Built> {
        let outside = std::mem::replace(&mut self.inside, true);
        let built = self.plan(plan);
        self.inside = outside;
        built
    }

    /// A node of ours.
    fn extension(&mut self, node: &dyn std::any::Any) -> Result<Built> {
        if let Some(window) = node.downcast_ref::<WindowNode>() {
            self.window(window)
        } else if let Some(dedup) = node.downcast_ref::<DedupNode>() {
            self.dedup(dedup)
        } else if let Some(asof) = node.downcast_ref::<AsOfNode>() {
            self.plan(&asof.input)
        } else if let Some(unnest) = node.downcast_ref::<UnnestNode>() {
            self.unnest(unnest)
        } else {
            plan_err!("a node of another planner is not supported")
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Built> {
        let name = scan.table_name.table();
        if self.streams.iter().any(|s| s.name == name && s.is_table()) {
            return plan_err!(
                "'{name}' is a table: join it to a stream, FROM stream JOIN {name} ON stream.x = \
                 {name}.key"
            );
        }
        self.scan_any(scan)
    }

    /// The records of a stream or of a table.
    fn scan_any(&mut self, scan: &TableScan) -> Result<Built> {
        let name = scan.table_name.table();
        let Some(number) = self.streams.iter().position(|s| s.name == name) else {
            return plan_err!("there is no stream '{name}'");
        };
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return plan_err!("a stream takes no filter or limit by itself");
        }
        let stream = &self.streams[number];
        let all = || (0..stream.columns.len()).collect();
        let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
        let node = self.add(Operator::Pass, &[])?;
        self.scans.push(Scan {
            stream: number,
            schema: Arc::new(scan.projected_schema.as_arrow().clone()),
            columns: columns.clone(),
            node,
        });
        Ok(Built {
            node,
            columns: Columns::of_stream(&self.streams[number], &columns),
            updating: false,
        })
    }

    fn filter(&mut self, filter: &datafusion::logical_expr::Filter) -> Result<Built> {
        if let Some((_, first)) = ranking::wanted(filter) {
            self.wanted = Some(first);
        }
        let input = self.plan(&filter.input)?;
        input
            .columns
            .no_session_in(&filter.predicate, filter.input.schema())?;
        let condition = scalar::physical(&filter.predicate, filter.input.schema())?;
        let node = self.add(Operator::Filter(Filter { condition }), &[input.node])?;
        Ok(Built { node, ..input })
    }

    fn project(&mut self, projection: &datafusion::logical_expr::Projection) -> Result<Built> {
        let input = self.plan(&projection.input)?;
        let schema = projection.input.schema();
        for expr in &projection.expr {
            if !matches!(unaliased(expr), Expr::Column(_)) {
                input.columns.no_session_in(expr, schema)?;
            }
        }
        let exprs = projection.expr.iter().map(|e| scalar::physical(e, schema));
        let project = Project {
            exprs: exprs.collect::<Result<_>>()?,
            schema: arrow(&projection.schema),
        };
        let columns = input.columns.project(&projection.expr, schema);
        let node = self.add(Operator::Project(project), &[input.node])?;
        Ok(Built {
            node,
            columns,
            updating: input.updating,
        })
    }

    fn union(&mut self, union: &datafusion::logical_expr::Union) -> Result<Built> {
        let mut inputs = Vec::new();
        for input in &union.inputs {
            inputs.push(self.plan(input)?);
        }
        if inputs.iter().any(|i| i.updating) {
            return plan_err!("UNION ALL of results that change is not supported");
        }
        for input in &inputs {
            input.columns.no_session("UNION ALL")?;
        }
        // Names differ from input to input: the rows get those of the union.
        let schema = arrow(&union.schema);
        let mut nodes = Vec::new();
        for (input, plan) in inputs.iter().zip(&union.inputs) {
            let exprs = plan.schema().columns().into_iter().map(Expr::Column);
            let exprs = exprs
                .map(|e| scalar::physical(&e, plan.schema()))
                .collect::<Result<_>>()?;
            let project = Project {
                exprs,
                schema: schema.clone(),
            };
            nodes.push(self.add(Operator::Project(project), &[input.node])?);
        }
        let node = self.add(Operator::Pass, &nodes)?;
        let columns = inputs.iter().map(|i| &i.columns);
        Ok(Built {
            node,
            columns: Columns::common(columns),
            updating: false,
        })
    }

    fn unnest(&mut self, unnest: &UnnestNode) -> Result<Built> {
        let mut input = self.plan(&unnest.input)?;
        if input.updating {
            return plan_err!("UNNEST of results that change is not supported");
        }
        let schema = unnest.input.schema();
        input.columns.no_session_in(&unnest.list, schema)?;
        input.columns.meanings.push(Default::default());
        let operator = Unnest {
            list: scalar::physical(&unnest.list, schema)?,
            outer: unnest.outer,
            schema: arrow(datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(unnest)),
        };
        let node = self.add(Operator::Unnest(operator), &[input.node])?;
        Ok(Built { node, ..input })
    }

    fn window(&mut self, window: &WindowNode) -> Result<Built> {
        let input = self.plan(&window.input)?;
        if input.updating {
            return plan_err!("a window over results that change is not supported");
        }
        input.columns.no_session("a window function")?;
        let mut time = None;
        if let Some(column) = &window.time {
            let at = window.input.schema().index_of_column(column)?;
            input.columns.check_time(at, &column.name)?;
            time = Some(at);
        }
        self.windowed = true;
        let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(window);
        let operator = Window {
            kind: window.kind,
            time,
            schema: arrow(schema),
        };
        let node = self.add(Operator::Window(operator), &[input.node])?;
        Ok(Built {
            node,
            columns: input.columns.windowed(window.kind),
            updating: false,
        })
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn arrow(schema: &DFSchema) -> SchemaRef {
    let schema: &Schema = schema.as_arrow();
    Arc::new(schema.clone())
}
