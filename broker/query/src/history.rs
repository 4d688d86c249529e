//! Queries over what is there, executed by DataFusion.

use crate::counters::Counters;
use crate::engine::{Answer, Engine, Rows, check_names};
use crate::physical;
use crate::question::Names;
use crate::scan::BATCH_ROWS;
use crate::table::Table;
use datafusion::common::Result as PlanResult;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, TableSource, ident, lit, not,
};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use flowstone_sql::Stream;
use flowstone_sql::statement::QueryStatement;
use flowstone_sql::stream::{DELETED, OFFSET};
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
    let physical = physical::bounded(physical).map_err(failure)?;
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

/// The records of a stream, and what is seen of them.
type Named = (Arc<Table>, Arc<dyn TableSource>);

/// The plan, and the tables that it names.
fn plan(
    names: &Names,
    query: &QueryStatement,
    counters: &Arc<Counters>,
) -> Result<(LogicalPlan, Vec<Arc<Table>>), Failure> {
    let named: RefCell<BTreeMap<String, Named>> = RefCell::default();
    let missing: RefCell<Option<Failure>> = RefCell::default();
    let lookup = |name: &str| -> Option<Arc<dyn TableSource>> {
        if let Some((_, shown)) = named.borrow().get(name) {
            return Some(shown.clone());
        }
        match table(names, name, counters) {
            Ok(found) => {
                let found = found?;
                named.borrow_mut().insert(name.into(), found.clone());
                Some(found.1)
            }
            Err(failure) => {
                missing.borrow_mut().get_or_insert(failure);
                None
            }
        }
    };
    let planned = flowstone_sql::over_history(query, &lookup);
    match (planned, missing.take()) {
        (_, Some(failure)) => Err(failure),
        (Err(error), None) => Err(error.into()),
        (Ok(plan), None) => Ok((plan, named.take().into_values().map(|(t, _)| t).collect())),
    }
}

/// What has this name.
fn table(names: &Names, name: &str, counters: &Arc<Counters>) -> Result<Option<Named>, Failure> {
    let Some((stream, is_declared)) = names.stream(name) else {
        return Ok(None);
    };
    let topic = names.topic(&stream)?;
    let read = match stream.is_table() {
        true => stream.with_marks(),
        false => stream.clone(),
    };
    let source = names.source.clone();
    let records = Table::new((read, is_declared), topic, source, counters.clone());
    let records = Arc::new(records);
    let shown = match stream.primary_key {
        None => provider_as_source(records.clone()),
        Some(key) => latest(&stream, key, records.clone())
            .map_err(|e| Failure::new(ErrorCode::Internal, e.to_string()))?,
    };
    Ok(Some((records, shown)))
}

/// A table as it is seen: of each key the row of its latest record, if that has a value.
fn latest(stream: &Stream, key: usize, records: Arc<Table>) -> PlanResult<Arc<dyn TableSource>> {
    const NUMBER: &str = "@number";
    let column = |at: usize| ident(&stream.columns[at].name);
    let number = row_number()
        .partition_by(vec![column(key)])
        .order_by(vec![ident(OFFSET).sort(false, false)])
        .build()?;
    let is_latest = ident(NUMBER).eq(lit(1_u64)).and(not(ident(DELETED)));
    let plan = LogicalPlanBuilder::scan("records", provider_as_source(records), None)?
        .window([number.alias(NUMBER)])?
        .filter(is_latest)?
        .project((0..stream.columns.len()).map(column))?
        .build()?;
    Ok(provider_as_source(Arc::new(ViewTable::new(plan, None))))
}

fn state(engine: &Engine) -> SessionState {
    let config = SessionConfig::new()
        .with_target_partitions(engine.limits.threads.max(1))
        .with_batch_size(BATCH_ROWS);
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(engine.runtime.clone())
        // DISTINCT ON becomes one of them.
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .build();
    // What `now()` is for the whole query.
    state.mark_start_execution();
    state
}
