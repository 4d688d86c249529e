//! Asking: what is asked is planned, and answered within a bound of memory.

use crate::counters::Counters;
use crate::question::{self, Question};
use crate::source::Source;
use crate::{history, inferred, live};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::sql::sqlparser::tokenizer::Location;
use flowstone_sql::Error;
use flowstone_wire::native::{QueryColumn, QueryKind};
use flowstone_wire::{ErrorCode, Failure};
use futures_util::stream::Stream;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

/// Bounds of all queries together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory that grouping, sorting and joining may take, in bytes.
    pub memory_bytes: usize,
    /// Parts of a query that are computed at the same time, at least 1.
    pub threads: usize,
}

/// How a text is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A query that follows what comes begins with what is there.
    pub from_start: bool,
}

/// Rows of an answer.
#[derive(Clone, Debug)]
pub enum Rows {
    /// As columns.
    Batch(RecordBatch),
    /// As JSON objects, one a line.
    Lines {
        /// The lines.
        bytes: Vec<u8>,
        /// How many there are.
        count: usize,
    },
}

/// Rows as they are computed; whoever polls it computes them.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<Rows, Failure>> + Send>>;

/// The answer to a query that was understood.
pub struct Answer {
    /// What it gives.
    pub kind: QueryKind,
    /// The columns of its rows.
    pub schema: SchemaRef,
    /// Its rows.
    pub rows: RowStream,
    /// What it took so far.
    pub counters: Arc<Counters>,
}

/// Answers queries.
pub struct Engine {
    pub(crate) limits: Limits,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) pool: Arc<dyn MemoryPool>,
}

impl Engine {
    /// An engine with these bounds. Nothing is written to a disk: what does not fit fails.
    ///
    /// # Errors
    /// What DataFusion says of its own surroundings.
    pub fn new(limits: Limits) -> Result<Self, Failure> {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(limits.memory_bytes));
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(pool.clone())
            .with_disk_manager_builder(disk)
            .build_arc();
        Ok(Self {
            runtime: runtime.map_err(|e| Failure::new(ErrorCode::Internal, e.to_string()))?,
            limits,
            pool,
        })
    }

    /// Plans what a text asks, and begins.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] with line and column for what is not understood,
    /// [`ErrorCode::UnknownTopic`], and what the source says.
    pub async fn ask(
        &self,
        source: Arc<dyn Source>,
        text: &str,
        options: Options,
    ) -> Result<Answer, Failure> {
        let (names, question) = question::read(text, source)?;
        match question {
            Question::History(query) => history::ask(self, &names, &query).await,
            Question::Live(query) => live::ask(self, &names, &query, options).await,
            Question::Infer(infer) => inferred::ask(&names, &infer).await,
        }
    }

    /// What a failure of DataFusion means to who asked a query that begins at `place`.
    pub(crate) fn failure(&self, error: &DataFusionError, place: Location) -> Failure {
        self.limits.failure(error, place)
    }
}

impl Limits {
    /// As [`Engine::failure`].
    pub(crate) fn failure(&self, error: &DataFusionError, place: Location) -> Failure {
        match error.find_root() {
            DataFusionError::External(e) => match e.downcast_ref::<Failure>() {
                Some(failure) => failure.clone(),
                None => Failure::new(ErrorCode::Internal, e.to_string()),
            },
            DataFusionError::ResourcesExhausted(what) => {
                let what = what.lines().next().unwrap_or_default();
                let text = format!(
                    "the query needs more memory than the {} MiB that all queries together have \
                     (setting query.memory_bytes): restrict what it reads, or group and order less: \
                     {what}",
                    self.memory_bytes >> 20
                );
                Failure::new(ErrorCode::TooLarge, text)
            }
            _ => Error::planning(error, place).into(),
        }
    }
}

impl Answer {
    /// The columns of its rows.
    pub fn columns(&self) -> Vec<QueryColumn> {
        let fields = self.schema.fields().iter();
        let column = |f: &Arc<datafusion::arrow::datatypes::Field>| QueryColumn {
            name: f.name().clone(),
            data_type: f.data_type().to_string(),
        };
        fields.map(column).collect()
    }
}

/// Rows are objects: no two columns have one name.
pub(crate) fn check_names(schema: &Schema, place: Location) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    match schema.fields().iter().find(|f| !seen.insert(f.name())) {
        None => Ok(()),
        Some(twice) => {
            let what = format!(
                "two columns of the result are called '{}': rename one with AS",
                twice.name()
            );
            Err(Error::at(place, what).into())
        }
    }
}
