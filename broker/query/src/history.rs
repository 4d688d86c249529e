//! Queries over what is there, executed by DataFusion.

use crate::counters::Counters;
use crate::engine::{Answer, Engine, Rows, check_names};
use crate::question::Names;
use crate::scan::BATCH_ROWS;
use crate::table::Table;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use flowstone_sql::statement::QueryStatement;
use flowstone_wire::native::QueryKind;
use flowstone_wire::{ErrorCode, Failure};
use futures_util::StreamExt;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plans a query over what is there now, and begins.
pub(crate) async fn ask(
    engine: &Engine,
    names: &Names,
    query: &QueryStatement,
) -> Result<Answer, Failure> {
    let counters = Arc::new(Counters::default());
    let (plan, tables) = plan(names, query, &counters)?;
    for table in &tables {
        table.find_bounds().await?;
    }
    let state = state(engine);
    let failure = |e: datafusion::common::DataFusionError| engine.failure(&e, query.place);
    let physical = state.create_physical_plan(&plan).await.map_err(failure)?;
    check_names(&physical.schema(), query.place)?;
    let schema = physical.schema();
    let batches = execute_stream(physical, state.task_ctx()).map_err(failure)?;
    let (place, limits) = (query.place, engine.limits);
    let counting = counters.clone();
    let rows = batches.map(move |batch| match batch {
        Ok(batch) => {
            counting.add_rows(batch.num_rows());
            Ok(Rows::Batch(batch))
        }
        Err(e) => Err(limits.failure(&e, place)),
    });
    Ok(Answer {
        kind: QueryKind::Rows,
        schema,
        rows: Box::pin(rows),
        counters,
    })
}

/// The plan, and the tables that it names.
fn plan(
    names: &Names,
    query: &QueryStatement,
    counters: &Arc<Counters>,
) -> Result<(LogicalPlan, Vec<Arc<Table>>), Failure> {
    let named: RefCell<BTreeMap<String, Arc<Table>>> = RefCell::default();
    let missing: RefCell<Option<Failure>> = RefCell::default();
    let lookup = |name: &str| -> Option<Arc<dyn TableSource>> {
        if let Some(table) = named.borrow().get(name) {
            return Some(provider_as_source(table.clone()));
        }
        let found = names.stream(name)?;
        if found.0.is_table() {
            let failure = table_refused(&found.0.topic, name);
            missing.borrow_mut().get_or_insert(failure);
            return None;
        }
        let topic = match names.topic(&found.0) {
            Ok(topic) => topic,
            Err(failure) => {
                missing.borrow_mut().get_or_insert(failure);
                return None;
            }
        };
        let source = names.source.clone();
        let table = Arc::new(Table::new(found, topic, source, counters.clone()));
        named.borrow_mut().insert(name.into(), table.clone());
        Some(provider_as_source(table))
    };
    let planned = flowstone_sql::over_history(query, &lookup);
    match (planned, missing.take()) {
        (_, Some(failure)) => Err(failure),
        (Err(error), None) => Err(error.into()),
        (Ok(plan), None) => Ok((plan, named.take().into_values().collect())),
    }
}

fn table_refused(topic: &str, name: &str) -> Failure {
    let what = format!(
        "'{name}' is a table, of which the latest record of each key counts: join it in a query with EMIT, or \
         read all of its records, FROM \"{topic}\""
    );
    Failure::new(ErrorCode::InvalidRequest, what)
}

fn state(engine: &Engine) -> SessionState {
    let config = SessionConfig::new()
        .with_target_partitions(engine.limits.threads.max(1))
        .with_batch_size(BATCH_ROWS);
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(engine.runtime.clone())
        .build();
    // What `now()` is for the whole query.
    state.mark_start_execution();
    state
}
