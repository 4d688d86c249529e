//! What a pipeline would make of the last records of its topics: a task that nobody keeps.

use crate::counters::Counters;
use crate::engine::Engine;
use crate::fetching::{Fetching, Part, drop_taken};
use crate::outputs;
use crate::source::{self, Source};
use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use flowstone_processor::{Delta, Input, StepLimits, Task};
use flowstone_sql::Planned;
use flowstone_wire::native::PipelineTrial;
use flowstone_wire::{BatchHeader, ErrorCode, Failure};
use std::collections::VecDeque;
use std::sync::Arc;

/// Of the memory of all queries a trial may take this part for its state.
const STATE_PART: usize = 4;
/// Rows that are shown.
const SAMPLE_ROWS: usize = 10;
/// Steps in which nothing moves before a trial gives up.
const IDLE_STEPS: usize = 1_000;

impl Engine {
    /// Runs a pipeline over the last records of each of its topics, and over all of its tables. Nothing is
    /// kept.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`], [`ErrorCode::TooLarge`] where its state needs more memory than a query
    /// may have, and what the source says.
    pub async fn try_pipeline(
        &self,
        source: Arc<dyn Source>,
        planned: &Planned,
        records: u64,
    ) -> Result<PipelineTrial, Failure> {
        let state_bytes = self.limits.memory_bytes / STATE_PART;
        let reservation = MemoryConsumer::new("a trial").register(&self.pool);
        let reserved = reservation.try_grow(state_bytes);
        reserved.map_err(|e| Failure::new(ErrorCode::Busy, format!("{e}")))?;
        let mut trial = Trial {
            task: Task::new(&planned.pipeline, &[]),
            now_ms: source.now_ms(),
            source,
            feeds: Vec::new(),
            counters: Arc::new(Counters::default()),
            sample: Vec::new(),
            state_bytes,
            _reservation: reservation,
        };
        trial.add_partitions(planned, records).await?;
        trial.run().await?;
        trial.finish(planned.pipeline.options().idle_ms)?;
        Ok(trial.tell(planned.pipeline.name()))
    }
}

/// A part of a partition that the task reads.
struct Feed {
    part: Part,
    fetching: Fetching,
    pending: VecDeque<(BatchHeader, Bytes)>,
    is_over: bool,
    /// It is read before anything of the others.
    is_first: bool,
}

struct Trial {
    task: Task,
    source: Arc<dyn Source>,
    /// The time as the task sees it: it does not wait for anything.
    now_ms: i64,
    feeds: Vec<Feed>,
    counters: Arc<Counters>,
    sample: Vec<String>,
    state_bytes: usize,
    _reservation: MemoryReservation,
}

impl Trial {
    async fn add_partitions(&mut self, planned: &Planned, records: u64) -> Result<(), Failure> {
        for (number, stream) in (0u16..).zip(&planned.streams) {
            let topic = self.source.topic(&stream.topic).ok_or_else(|| {
                let what = format!("there is no topic '{}' yet", stream.topic);
                Failure::new(ErrorCode::UnknownTopic, what)
            })?;
            let is_first = planned.pipeline.source_options(number).first;
            let records = if is_first { u64::MAX } else { records };
            let parts = source::last(&*self.source, &topic, records).await?;
            // One without records would hold event time back.
            for part in parts.into_iter().filter(|p| p.from < p.to) {
                self.task.add_partition(part.id, part.from);
                self.task.set_source(part.id, number);
                let (source, counters) = (self.source.clone(), self.counters.clone());
                self.feeds.push(Feed {
                    part,
                    fetching: Fetching::new(source, counters, [part]),
                    pending: VecDeque::new(),
                    is_over: false,
                    is_first,
                });
            }
        }
        Ok(())
    }

    /// Takes all records.
    async fn run(&mut self) -> Result<(), Failure> {
        let mut idle = 0;
        while self.fetch().await? {
            let is_loading = self.feeds.iter().any(|f| f.is_first && !f.is_over);
            idle = match self.step(is_loading)? {
                true => 0,
                false => idle + 1,
            };
            if idle > IDLE_STEPS {
                let what = "the pipeline does not take its records";
                return Err(Failure::new(ErrorCode::Internal, what));
            }
            // Whoever else asks has a turn.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Fetches what every feed lacks; says whether there is something left to take.
    async fn fetch(&mut self) -> Result<bool, Failure> {
        for feed in &mut self.feeds {
            if feed.pending.is_empty() && !feed.is_over {
                match feed.fetching.next().await? {
                    Some((_, unpacked)) => feed.pending.extend(unpacked),
                    None => feed.is_over = true,
                }
            }
        }
        Ok(self.feeds.iter().any(|f| !f.is_over))
    }

    /// Gives the task what was fetched; says whether it has taken any of it.
    fn step(&mut self, is_loading: bool) -> Result<bool, Failure> {
        let shown = self.feeds.iter().filter(|f| f.is_first || !is_loading);
        let inputs = shown.flat_map(|feed| {
            feed.pending.iter().map(|(header, body)| Input {
                partition: feed.part.id,
                header: *header,
                body,
            })
        });
        let inputs: Vec<Input<'_>> = inputs.collect();
        let before = self.task.stats().processed;
        let delta = self
            .task
            .step(self.now_ms, &inputs, StepLimits::default())?;
        let mut has_moved = delta.is_some() || self.task.stats().processed > before;
        self.take(delta)?;
        for feed in &mut self.feeds {
            let position = self.task.position(feed.part.id).unwrap_or_default();
            has_moved |= drop_taken(&mut feed.pending, position);
        }
        if !has_moved {
            // Another attempt is due later: that is now.
            self.now_ms = self.now_ms.max(self.task.deadline().unwrap_or(0));
        }
        Ok(has_moved)
    }

    /// Partitions that have ended do not hold event time back for ever, and results that are given out from
    /// time to time are.
    fn finish(&mut self, idle_ms: i64) -> Result<(), Failure> {
        self.now_ms = self.now_ms.saturating_add(idle_ms).saturating_add(1);
        for _ in 0..IDLE_STEPS {
            match self.task.step(self.now_ms, &[], StepLimits::default())? {
                None => break,
                delta => self.take(delta)?,
            }
        }
        Ok(())
    }

    /// Counts what was given out, and keeps none of the state's changes.
    fn take(&mut self, delta: Option<Delta>) -> Result<(), Failure> {
        drop(self.task.take_dirty());
        for output in delta.iter().flat_map(|d| d.outputs.iter()) {
            if outputs::count(&output, &self.counters) && self.sample.len() < SAMPLE_ROWS {
                self.sample.push(outputs::text(&output));
            }
        }
        if self.task.state_bytes() <= self.state_bytes {
            return Ok(());
        }
        let what = format!(
            "its state takes more than the {} MiB that a trial may have (a quarter of query.memory_bytes): try \
             fewer records",
            self.state_bytes >> 20
        );
        Err(Failure::new(ErrorCode::TooLarge, what))
    }

    fn tell(self, name: &str) -> PipelineTrial {
        let (counted, stats) = (self.counters.statistics(), self.task.stats());
        PipelineTrial {
            name: name.into(),
            refused: None,
            records: stats.processed,
            rows: counted.rows,
            late: stats.late,
            failed: stats.failed,
            first_failure: counted.first_unreadable,
            state_bytes: self.task.state_bytes() as u64,
            sample: self.sample,
        }
    }
}
