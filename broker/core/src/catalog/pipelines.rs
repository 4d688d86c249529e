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
    /// The statements of the streams that it reads, by name. It keeps to them, whatever becomes of a stream.
    pub streams: BTreeMap<String, String>,
    /// Its own statement.
    pub statement: String,
    /// How it ran when it was deployed. Its state is of this plan: it does not run with another.
    pub plan: String,
    /// It does not run until somebody lets it.
    pub paused: bool,
}

impl Catalog {
    /// The number of a pipeline of the settings, or of a program.
    pub(super) fn register_pipeline(
        &mut self,
        pipeline: String,
    ) -> Result<(Event, Vec<Row>), Failure> {
        name::check("pipeline", &pipeline)?;
        if self.deployed.contains_key(&pipeline) {
            let what = format!(
                "a pipeline '{pipeline}' of SQL was deployed: delete it, or give this one another name"
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        if let Some(id) = self.pipelines.get(&pipeline) {
            return Ok((Event::PipelineRegistered(*id), Vec::new()));
        }
        self.check_count(1)?;
        let (id, rows) = self.take_number(pipeline);
        Ok((Event::PipelineRegistered(id), rows))
    }

    fn check_count(&self, more: usize) -> Result<(), Failure> {
        if self.pipelines.len() + more > PIPELINES_MAX {
            let what = format!("there may be {PIPELINES_MAX} pipelines, and not {more} more");
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        Ok(())
    }

    fn take_number(&mut self, pipeline: String) -> (u32, Vec<Row>) {
        let id = self.counters.next_pipeline;
        self.counters.next_pipeline += 1;
        let rows = vec![self.counters_row(), Row::pipeline(&pipeline, id)];
        self.pipelines.insert(pipeline, id);
        (id, rows)
    }

    /// Notes streams and pipelines over them, which take numbers: all or none.
    pub(super) fn deploy(
        &mut self,
        streams: BTreeMap<String, String>,
        pipelines: Vec<(String, Deployed)>,
    ) -> Result<(Event, Vec<Row>), Failure> {
        self.check_streams(&streams)?;
        self.check_count(pipelines.len())?;
        let mut names = BTreeSet::new();
        for (pipeline, deployed) in &pipelines {
            name::check("pipeline", pipeline)?;
            check_size(deployed)?;
            if self.pipelines.contains_key(pipeline) || !names.insert(pipeline) {
                let what = format!("there is a pipeline '{pipeline}' already: delete it first");
                return Err(Failure::new(ErrorCode::InvalidRequest, what));
            }
        }
        let mut rows = Vec::new();
        for (stream, statement) in streams {
            rows.push(Row::stream(&stream, &statement));
            self.streams.insert(stream, statement);
        }
        for (pipeline, deployed) in pipelines {
            rows.extend(self.take_number(pipeline.clone()).1);
            rows.push(Row::deployed(&pipeline, Some(&deployed)));
            self.deployed.insert(pipeline, deployed);
        }
        Ok((Event::Deployed, rows))
    }

    /// Notes other statements of pipelines that are there: all or none. They rest if they did.
    pub(super) fn upgrade(
        &mut self,
        streams: BTreeMap<String, String>,
        pipelines: Vec<(String, String, Deployed)>,
    ) -> Result<(Event, Vec<Row>), Failure> {
        self.check_streams(&streams)?;
        for (pipeline, plan, deployed) in &pipelines {
            check_size(deployed)?;
            if self.deployed_as(pipeline)?.plan != *plan {
                let what = format!("pipeline '{pipeline}' has changed meanwhile: look again");
                return Err(Failure::new(ErrorCode::InvalidRequest, what));
            }
        }
        let mut rows = Vec::new();
        for (stream, statement) in streams {
            rows.push(Row::stream(&stream, &statement));
            self.streams.insert(stream, statement);
        }
        for (pipeline, _, deployed) in pipelines {
            let paused = self.deployed_as(&pipeline)?.paused;
            let deployed = Deployed { paused, ..deployed };
            rows.push(Row::deployed(&pipeline, Some(&deployed)));
            self.deployed.insert(pipeline, deployed);
        }
        Ok((Event::Deployed, rows))
    }

    fn check_streams(&self, streams: &BTreeMap<String, String>) -> Result<(), Failure> {
        for (stream, statement) in streams {
            name::check("stream", stream)?;
            if statement.len() > TEXT_BYTES_MAX {
                let what = format!("the stream '{stream}' has over {TEXT_BYTES_MAX} bytes");
                return Err(Failure::new(ErrorCode::TooLarge, what));
            }
        }
        if self.streams.len() + streams.len() > PIPELINES_MAX {
            let what = format!("there may be {PIPELINES_MAX} streams");
            return Err(Failure::new(ErrorCode::LimitReached, what));
        }
        Ok(())
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
        let mut rows = vec![Row::deployed(pipeline, None), Row::no_pipeline(pipeline)];
        if self.starts.remove(pipeline).is_some() {
            rows.push(Row::starts(pipeline, None));
        }
        Ok((Event::PipelineForgotten(id), rows))
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

fn check_size(deployed: &Deployed) -> Result<(), Failure> {
    let streams = deployed.streams.values();
    let texts = streams.chain([&deployed.statement, &deployed.plan]);
    let bytes: usize = texts.map(String::len).sum();
    if bytes > TEXT_BYTES_MAX {
        let what = format!("a pipeline and its streams have {bytes} bytes, over {TEXT_BYTES_MAX}");
        return Err(Failure::new(ErrorCode::TooLarge, what));
    }
    Ok(())
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
