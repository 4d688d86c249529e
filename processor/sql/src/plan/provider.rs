//! What a query can name: streams and functions.

use super::bounded::LEFT_OUT;
use super::relation::WindowFunctions;
use crate::stream::Stream;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference, plan_datafusion_err};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Finds what a query names in FROM.
pub type Lookup<'a> = dyn Fn(&str) -> Option<Arc<dyn TableSource>> + 'a;

/// Streams and functions by name.
pub(super) struct Provider<'a> {
    tables: Box<Lookup<'a>>,
    over_history: bool,
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    windows: BTreeMap<String, Arc<WindowUDF>>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    options: ConfigOptions,
}

impl<'a> Provider<'a> {
    /// For a query over streams, as they come.
    pub(super) fn new(streams: &'a [Stream]) -> Self {
        let tables = move |name: &str| -> Option<Arc<dyn TableSource>> {
            let stream = streams.iter().find(|s| s.name == name)?;
            Some(Arc::new(LogicalTableSource::new(stream.schema())))
        };
        Self::with(Box::new(tables), false)
    }

    /// For a query over what is there.
    pub(super) fn over_history(tables: &'a Lookup<'a>) -> Self {
        Self::with(Box::new(tables), true)
    }

    fn with(tables: Box<Lookup<'a>>, over_history: bool) -> Self {
        let mut scalars = by_name(SessionStateDefaults::default_scalar_functions(), |f| {
            (f.name().into(), f.aliases())
        });
        scalars.retain(|name, _| !LEFT_OUT.contains(&&name[..]));
        Self {
            tables,
            over_history,
            scalars,
            aggregates: by_name(SessionStateDefaults::default_aggregate_functions(), |f| {
                (f.name().into(), f.aliases())
            }),
            windows: by_name(SessionStateDefaults::default_window_functions(), |f| {
                (f.name().into(), f.aliases())
            }),
            expr_planners: SessionStateDefaults::default_expr_planners(),
            relation_planners: vec![Arc::new(WindowFunctions { over_history })],
            options: ConfigOptions::default(),
        }
    }
}

fn by_name<F>(
    functions: Vec<Arc<F>>,
    names: impl Fn(&F) -> (String, &[String]),
) -> BTreeMap<String, Arc<F>> {
    let mut map = BTreeMap::new();
    for function in functions {
        let (name, aliases) = names(&function);
        for alias in aliases {
            map.insert(alias.clone(), function.clone());
        }
        map.insert(name, function);
    }
    map
}

/// Whether a function says the same whenever and wherever it is asked.
pub(super) fn is_pure(volatility: Volatility) -> bool {
    volatility == Volatility::Immutable
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let known = match &name {
            TableReference::Bare { table } => (self.tables)(table),
            _ => None,
        };
        known.ok_or_else(|| -> DataFusionError {
            if self.over_history {
                return plan_datafusion_err!("there is no stream or topic '{name}'");
            }
            plan_datafusion_err!("there is no stream '{name}': write CREATE STREAM {name} first")
        })
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.windows.keys().cloned().collect()
    }
}
