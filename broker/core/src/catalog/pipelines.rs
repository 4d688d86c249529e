//! Pipelines that were deployed, and the streams they read.

use super::{Catalog, Event, Row};
use flowstone_wire::{ErrorCode, Failure, name};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most pipelines.
const PIPELINES_MAX: usize = 10_000;
/// Most bytes of a statement that is kept.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// A pipeline that was deployed: what was said, and whether it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The statements of the streams that were there when it was deployed, by name. It keeps to
    /// them, whatever becomes of a stream.
    pub streams: BTreeMap<String, String>,
    /// Its own statement.
    pub statement: String,
    /// How it ran when it was deployed. Its state is of this plan: it does not run with another.
    pub plan: String,
    /// It does not run until somebody lets it.
    pub paused: bool,
}

impl Catalog {
    pub(super) fn register_pipeline(
        &mut self,
        pipeline: String,
    ) -> Result<(Event, Vec<Row>), Failure> {
        name::check("pipeline", &pipeline)?;
        if let Some(id) = self.pipelines.get(&pipeline) {
            return Ok((Event::PipelineRegistered(*id), Vec::new()));
        }
        if self.pipelines.len() >= PIPELINES_MAX {
            let what = format!("there are {PIPELINES_MAX} pipelines already");
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        let id = self.counters.next_pipeline;
        self.counters.next_pipeline += 1;
        self.pipelines.insert(pipeline.clone(), id);
        let rows = vec![self.counters_row(), Row::pipeline(&pipeline, id)];
        Ok((Event::PipelineRegistered(id), rows))
    }

    /// Notes streams and a pipeline over them, which takes its number.
    pub(super) fn deploy(
        &mut self,
        pipeline: String,
        deployed: Deployed,
    ) -> Result<(Event, Vec<Row>), Failure> {
        let texts = deployed
            .streams
            .values()
            .chain([&deployed.statement, &deployed.plan]);
        let size_bytes: usize = texts.map(String::len).sum();
        if size_bytes > TEXT_BYTES_MAX {
            let what = format!("the statements have {size_bytes} bytes, over {TEXT_BYTES_MAX}");
            return Err(Failure::new(ErrorCode::TooLarge, what));
        }
        if self.pipelines.contains_key(&pipeline) {
            let what = format!("there is a pipeline '{pipeline}' already: delete it first");
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let (event, mut rows) = self.register_pipeline(pipeline.clone())?;
        rows.push(Row::deployed(&pipeline, Some(&deployed)));
        self.deployed.insert(pipeline, deployed);
        Ok((event, rows))
    }

    pub(super) fn pause(
        &mut self,
        pipeline: &str,
        paused: bool,
    ) -> Result<(Event, Vec<Row>), Failure> {
        let Some(deployed) = self.deployed.get_mut(pipeline) else {
            return Err(unknown(pipeline));
        };
        deployed.paused = paused;
        let rows = vec![Row::deployed(pipeline, Some(deployed))];
        let id = self.pipelines.get(pipeline).copied().unwrap_or_default();
        Ok((Event::PipelineRegistered(id), rows))
    }

    /// Its number is never given again, so nothing of what it stored can come back.
    pub(super) fn forget_pipeline(&mut self, pipeline: &str) -> Result<(Event, Vec<Row>), Failure> {
        if self.deployed.remove(pipeline).is_none() {
            return Err(unknown(pipeline));
        }
        let id = self.pipelines.remove(pipeline).unwrap_or_default();
        let rows = vec![Row::deployed(pipeline, None), Row::no_pipeline(pipeline)];
        Ok((Event::PipelineForgotten(id), rows))
    }

    pub(super) fn set_stream(
        &mut self,
        stream: String,
        statement: String,
    ) -> Result<(Event, Vec<Row>), Failure> {
        name::check("stream", &stream)?;
        if statement.len() > TEXT_BYTES_MAX || self.streams.len() >= PIPELINES_MAX {
            let what = format!(
                "a stream has up to {TEXT_BYTES_MAX} bytes, and there are up to {PIPELINES_MAX}"
            );
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        let rows = vec![Row::stream(&stream, &statement)];
        self.streams.insert(stream, statement);
        Ok((Event::StreamSet, rows))
    }

    /// The numbers of all pipelines, and the one that the next one gets.
    pub fn pipeline_numbers(&self) -> (BTreeSet<u32>, u32) {
        let known = self.pipelines.values().copied().collect();
        (known, self.counters.next_pipeline)
    }

    /// The number of a pipeline, deployed or configured.
    pub fn pipeline(&self, name: &str) -> Option<u32> {
        self.pipelines.get(name).copied()
    }

    /// The pipelines that were deployed, by name.
    pub fn deployed(&self) -> impl Iterator<Item = (&str, &Deployed)> {
        self.deployed.iter().map(|(name, d)| (&name[..], d))
    }

    /// The pipeline of this name, if it was deployed.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`].
    pub fn deployed_as(&self, pipeline: &str) -> Result<&Deployed, Failure> {
        self.deployed.get(pipeline).ok_or_else(|| unknown(pipeline))
    }

    /// The statements of the streams, by name.
    pub fn streams(&self) -> &BTreeMap<String, String> {
        &self.streams
    }
}

fn unknown(pipeline: &str) -> Failure {
    let shown: String = pipeline
        .chars()
        .take(200)
        .flat_map(char::escape_default)
        .collect();
    let what = format!("no pipeline '{shown}' was deployed; see `flowstone pipeline list`");
    Failure::new(ErrorCode::InvalidRequest, what)
}
