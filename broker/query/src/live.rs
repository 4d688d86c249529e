//! Queries that follow what comes: a task of the processor that nobody keeps, fed as records come.

use crate::counters::Counters;
use crate::engine::{Answer, Engine, Options, Rows, check_names};
use crate::fetching::{drop_taken, take_batch};
use crate::outputs;
use crate::question::Names;
use crate::source::{self, Source};
use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::sql::sqlparser::ast::{Expr, visit_expressions, visit_relations};
use flowstone_processor::{Delta, Input, Outputs, StepLimits, Task};
use flowstone_sql::statement::QueryStatement;
use flowstone_sql::{Planned, Streams};
use flowstone_wire::native::{Fetch, Place, QueryKind};
use flowstone_wire::{BatchHeader, Failure, Offset, PartitionId};
use futures_util::stream::{FuturesUnordered, try_unfold};
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Of the memory of all queries one that follows may take this part for its state.
const STATE_PART: usize = 8;
/// Bytes that are fetched at a time: of all partitions, and of one at least and at most.
const FETCH_BYTES: usize = 8 << 20;
const FETCH_BYTES_OF_ONE: [usize; 2] = [16 << 10, 256 << 10];
/// How long a fetch waits for something new, in milliseconds.
const FETCH_WAIT_MS: u32 = 2_000;
/// Bytes of unpacked records for one step: of all partitions, and of one at least and at most, or one
/// batch.
const STEP_BYTES: usize = 16 << 20;
const STEP_BYTES_OF_ONE: [usize; 2] = [64 << 10, 1 << 20];

/// Plans a query over what comes, and begins.
pub(crate) async fn ask(
    engine: &Engine,
    names: &Names,
    query: &QueryStatement,
    options: Options,
) -> Result<Answer, Failure> {
    let state_bytes = engine.limits.memory_bytes / STATE_PART;
    let planned = streams(names, query).plan_live(query, state_bytes)?;
    check_names(&planned.columns, query.place)?;
    let reservation = MemoryConsumer::new("a live query").register(&engine.pool);
    let reserved = reservation.try_grow(state_bytes);
    reserved.map_err(|e| engine.failure(&e, query.place))?;
    let counters = Arc::new(Counters::default());
    let mut live = Live {
        task: Task::new(&planned.pipeline, &[]),
        feeds: Vec::new(),
        fetches: FuturesUnordered::new(),
        source: names.source.clone(),
        counters: counters.clone(),
        late: 0,
        reservation,
    };
    live.add_partitions(names, &planned, options).await?;
    let count = live.feeds.len();
    let held =
        share(FETCH_BYTES, count, FETCH_BYTES_OF_ONE) + share(STEP_BYTES, count, STEP_BYTES_OF_ONE);
    let reserved = live.reservation.try_grow(count * held);
    reserved.map_err(|e| engine.failure(&e, query.place))?;
    let rows = try_unfold(live, |mut live| async move {
        let rows = live.next().await?;
        Ok::<_, Failure>(Some((rows, live)))
    });
    Ok(Answer {
        kind: QueryKind::Changes,
        schema: planned.columns.clone(),
        rows: Box::pin(rows),
        counters,
    })
}

/// The streams that a query may name: every name in it is looked up, whatever it turns out to be.
fn streams(names: &Names, query: &QueryStatement) -> Streams {
    let mut found = BTreeSet::new();
    let _: ControlFlow<()> = visit_relations(&*query.query, |relation| {
        if let [part] = &relation.0[..]
            && let Some(name) = part.as_ident()
        {
            found.insert(flowstone_sql::statement::name_of(name));
        }
        ControlFlow::Continue(())
    });
    let _: ControlFlow<()> = visit_expressions(&*query.query, |expr| {
        if let Expr::Identifier(name) = expr {
            found.insert(flowstone_sql::statement::name_of(name));
        }
        ControlFlow::Continue(())
    });
    names.streams(found)
}

/// What one of so many partitions may have.
fn share(all: usize, partitions: usize, [least, most]: [usize; 2]) -> usize {
    (all / partitions.max(1)).clamp(least, most)
}

/// A partition that the task reads.
struct Feed {
    partition: PartitionId,
    /// Batches that were fetched and not yet dealt with.
    pending: VecDeque<(BatchHeader, Bytes)>,
    /// Batches that were fetched and not yet unpacked.
    pieces: VecDeque<Bytes>,
    is_asked: bool,
    /// Up to here it is read before anything of the others: what a table held when the query was asked.
    first: Offset,
}

/// What came for a feed.
type Fetched = std::pin::Pin<Box<dyn Future<Output = (usize, Result<Vec<Bytes>, Failure>)> + Send>>;

struct Live {
    task: Task,
    feeds: Vec<Feed>,
    fetches: FuturesUnordered<Fetched>,
    source: Arc<dyn Source>,
    counters: Arc<Counters>,
    /// Late records that were told.
    late: u64,
    reservation: MemoryReservation,
}

impl Live {
    async fn add_partitions(
        &mut self,
        names: &Names,
        planned: &Planned,
        options: Options,
    ) -> Result<(), Failure> {
        for (number, stream) in (0u16..).zip(&planned.streams) {
            let is_first = planned.pipeline.source_options(number).first;
            let place = match options.from_start || is_first {
                true => Place::Start,
                false => Place::End,
            };
            for partition in names.topic(stream)?.partitions {
                let start: Offset = self.source.find(partition.id, place).await?;
                let first = match is_first {
                    true => self.source.find(partition.id, Place::End).await?,
                    false => Offset(0),
                };
                self.task.add_partition(partition.id, start);
                self.task.set_source(partition.id, number);
                self.feeds.push(Feed {
                    partition: partition.id,
                    pending: VecDeque::new(),
                    pieces: VecDeque::new(),
                    is_asked: false,
                    first,
                });
            }
        }
        Ok(())
    }

    /// The next rows, however long it takes.
    async fn next(&mut self) -> Result<Rows, Failure> {
        loop {
            self.fetch();
            if let Some(delta) = self.step()? {
                let rows = self.rows(&delta);
                if let Rows::Lines { count: 1.., .. } = rows {
                    return Ok(rows);
                }
                continue;
            }
            self.wait().await?;
        }
    }

    /// Asks for what every feed lacks.
    fn fetch(&mut self) {
        let count = self.feeds.len();
        for (at, feed) in self.feeds.iter_mut().enumerate() {
            if feed.is_asked || !feed.pending.is_empty() || !feed.pieces.is_empty() {
                continue;
            }
            feed.is_asked = true;
            let fetch = Fetch {
                partition: feed.partition,
                offset: self.task.position(feed.partition).unwrap_or_default(),
                max_bytes: share(FETCH_BYTES, count, FETCH_BYTES_OF_ONE) as u32,
                wait_ms: FETCH_WAIT_MS,
            };
            let source = self.source.clone();
            let fetched = async move { (at, source::fetch(&*source, fetch).await) };
            self.fetches.push(fetched.boxed());
        }
    }

    fn step(&mut self) -> Result<Option<Delta>, Failure> {
        let most = share(STEP_BYTES, self.feeds.len(), STEP_BYTES_OF_ONE);
        for feed in &mut self.feeds {
            let mut bytes: usize = feed.pending.iter().map(|(_, body)| body.len()).sum();
            while bytes < most
                && let Some(taken) = take_batch(&mut feed.pieces, feed.partition)?
            {
                bytes += taken.1.len();
                feed.pending.push_back(taken);
            }
        }
        let is_behind = |f: &Feed| self.task.position(f.partition).unwrap_or_default() < f.first;
        let loading = self.feeds.iter().any(is_behind);
        let shown = self.feeds.iter().filter(|f| !loading || is_behind(f));
        let inputs = shown.flat_map(|feed| {
            feed.pending.iter().map(move |(header, body)| Input {
                partition: feed.partition,
                header: *header,
                body,
            })
        });
        let inputs: Vec<Input<'_>> = inputs.collect();
        let now_ms = self.source.now_ms();
        let before = self.task.stats().processed;
        let delta = self.task.step(now_ms, &inputs, StepLimits::default())?;
        let done = self.task.stats().processed - before;
        self.counters.add_records(done as usize);
        // Nothing is kept of it.
        drop(self.task.take_dirty());
        for feed in &mut self.feeds {
            let position = self.task.position(feed.partition).unwrap_or_default();
            drop_taken(&mut feed.pending, position);
        }
        Ok(delta)
    }

    /// What a step gave out.
    fn rows(&mut self, delta: &Delta) -> Rows {
        let late = self.task.stats().late;
        self.counters.add_late((late - self.late) as usize);
        self.late = late;
        let (bytes, count) = lines(&delta.outputs, &self.counters);
        Rows::Lines { bytes, count }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), Failure> {
        let now_ms = self.source.now_ms();
        let pause_ms = self
            .task
            .deadline()
            .map(|at_ms| at_ms.saturating_sub(now_ms).max(1));
        let pause =
            Duration::from_millis(pause_ms.map_or(u64::from(FETCH_WAIT_MS), |ms| ms as u64));
        if self.fetches.is_empty() {
            // All is there, and the task waits for its time.
            tokio::time::sleep(pause).await;
            return Ok(());
        }
        let fetched = tokio::time::timeout(pause, self.fetches.next()).await;
        let Ok(Some((at, pieces))) = fetched else {
            // A deadline, or a topic without partitions.
            return Ok(());
        };
        let feed = &mut self.feeds[at];
        feed.is_asked = false;
        feed.pieces = pieces?.into();
        if feed.pieces.is_empty() {
            // Nothing is there up to the end: what stood there is compacted.
            feed.first = Offset(0);
        }
        let bytes = feed.pieces.iter().map(Bytes::len).sum();
        self.counters.add_bytes(bytes);
        Ok(())
    }
}

/// The results among what was given out, one a line; what failed is counted.
fn lines(given: &Outputs, counters: &Counters) -> (Vec<u8>, usize) {
    let (mut bytes, mut rows) = (Vec::new(), 0);
    for output in given.iter() {
        if !outputs::count(&output, counters) {
            continue;
        }
        match output.value {
            Some(value) => bytes.extend_from_slice(value),
            None => bytes.extend_from_slice(outputs::text(&output).as_bytes()),
        }
        bytes.push(b'\n');
        rows += 1;
    }
    (bytes, rows)
}
