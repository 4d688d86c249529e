//! Pipelines of SQL: deploy, describe, pause, resume, delete.
//!
//! The catalog keeps the statements. A pipeline is planned from them whenever it starts, so a new
//! version of the program runs what was said, not what an old one made of it.

use super::Service;
use flowstone_core::catalog::{Command, Deployed};
use flowstone_sql::statement::{self, Parsed, Statement};
use flowstone_sql::{Error, Planned, Streams};
use flowstone_wire::native::{PipelineAction, PipelineDescription, TopicSettings};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pipeline that is to be kept.
struct Fresh {
    planned: Planned,
    statement: String,
    /// The statements of the streams that it reads.
    streams: BTreeMap<String, String>,
}

/// What a text says: streams by name, and pipelines over those and over the ones that were there.
struct File {
    streams: BTreeMap<String, String>,
    pipelines: Vec<Fresh>,
}

impl Service {
    /// Deploys the pipelines of a text, all or none, and keeps its streams; or only says what would
    /// be deployed.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] with line and column for what is not understood, and what the
    /// catalog says.
    pub(crate) async fn deploy_sql(
        self: Arc<Self>,
        text: String,
        dry_run: bool,
    ) -> Result<Vec<PipelineDescription>, Failure> {
        let this = self.clone();
        let file = self.aside(move || this.read(&text)).await?;
        let mut made = BTreeMap::new();
        for fresh in &file.pipelines {
            let shards = self.clone().check(&fresh.planned, &made, dry_run).await?;
            for sink in fresh.planned.pipeline.sinks() {
                made.insert(sink.clone(), shards.clone());
            }
        }
        let mut described = Vec::new();
        let state = if dry_run { "planned" } else { "running" };
        for fresh in &file.pipelines {
            described.push(describe(&fresh.planned, &fresh.statement, state));
        }
        if dry_run {
            return Ok(described);
        }
        let mut pipelines = Vec::new();
        for fresh in file.pipelines {
            // The topics first: whichever node starts the tasks finds them.
            self.clone().topics_of(&fresh.planned.pipeline).await?;
            let deployed = Deployed {
                streams: fresh.streams,
                statement: fresh.statement,
                plan: fresh.planned.explained.clone(),
                paused: false,
            };
            pipelines.push((fresh.planned.pipeline.name().to_string(), deployed));
        }
        let streams = file.streams;
        let command = Command::Deploy { streams, pipelines };
        self.clone().command(command).await?;
        self.follow_deployed().await;
        Ok(described)
    }

    /// Plans on a thread that may take its time; should planning panic, nothing else does.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let done = self.runtime().spawn_blocking(work);
        done.await.unwrap_or_else(|e| {
            let what = format!("the statement cannot be planned: {e}");
            Err(Failure::new(ErrorCode::Internal, what))
        })
    }

    fn read(&self, text: &str) -> Result<File, Failure> {
        let catalog = self.catalog();
        let parsed = statement::parse(text)?;
        let mut file = File {
            streams: BTreeMap::new(),
            pipelines: Vec::new(),
        };
        let mut streams = known(catalog.streams(), &own_streams(&parsed))?;
        for Parsed {
            statement, text, ..
        } in parsed
        {
            match statement {
                Statement::CreateStream(stream) => {
                    streams.add(&stream)?;
                    file.streams.insert(stream.name, text);
                }
                Statement::CreatePipeline(pipeline) => {
                    let known = catalog.pipeline(&pipeline.name).is_some();
                    let twice = |f: &Fresh| f.planned.pipeline.name() == pipeline.name;
                    if known || file.pipelines.iter().any(twice) {
                        let what = format!("there is a pipeline '{}' already", pipeline.name);
                        return Err(Error::at(pipeline.place, what).into());
                    }
                    let planned = streams.plan(&pipeline)?;
                    let names = planned.streams.iter().map(|s| s.name.clone());
                    let texts = names.filter_map(|name| {
                        let text = file.streams.get(&name).or(catalog.streams().get(&name));
                        Some((name, text?.clone()))
                    });
                    file.pipelines.push(Fresh {
                        streams: texts.collect(),
                        planned,
                        statement: text,
                    });
                }
                Statement::Query(query) => {
                    let what = "a query by itself is not deployed: write CREATE PIPELINE name AS, or ask \
                                it with flowstone sql";
                    return Err(Error::at(query.place, what).into());
                }
                Statement::InferSchema(infer) => {
                    let what = "INFER SCHEMA is not deployed: ask it with flowstone sql";
                    return Err(Error::at(infer.place, what).into());
                }
            }
        }
        Ok(file)
    }

    /// What is asked of the topics: rows that belong together must meet in one task.
    /// Gives the shards that its topics lie on; `made` are those of topics that pipelines before it
    /// will make.
    async fn check(
        self: Arc<Self>,
        planned: &Planned,
        made: &BTreeMap<String, Vec<ShardId>>,
        dry_run: bool,
    ) -> Result<Vec<ShardId>, Failure> {
        let mut shards: Vec<ShardId> = Vec::new();
        for source in planned.pipeline.sources() {
            let known = self.catalog().topic(source).cloned();
            let topic = match known {
                Err(_) if made.contains_key(source) => {
                    shards.extend(&made[source]);
                    continue;
                }
                Ok(topic) => topic,
                Err(_) if dry_run => continue,
                Err(_) => {
                    let settings = TopicSettings::default();
                    self.clone()
                        .create_topic(source.clone(), 1, settings)
                        .await?
                }
            };
            shards.extend(topic.partitions.iter().map(|p| p.shard));
        }
        shards.sort_unstable();
        shards.dedup();
        if planned.gathers && shards.len() > 1 {
            let what = format!(
                "pipeline '{}' groups by something else than the record key, and the partitions of its \
                 topics lie on {} shards: group by a column FROM KEY, or read topics on one shard",
                planned.pipeline.name(),
                shards.len()
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        Ok(shards)
    }

    /// What was deployed: the pipeline of this name, or all.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] if there is none of this name.
    pub(crate) async fn describe_sql(
        self: Arc<Self>,
        name: Option<String>,
    ) -> Result<Vec<PipelineDescription>, Failure> {
        let this = self.clone();
        self.aside(move || this.describe_planned(name.as_deref()))
            .await
    }

    fn describe_planned(&self, name: Option<&str>) -> Result<Vec<PipelineDescription>, Failure> {
        let catalog = self.catalog();
        let one = |name: &str, deployed: &Deployed| match plan(deployed) {
            Ok(planned) => {
                let state = if deployed.paused { "paused" } else { "running" };
                describe(&planned, &deployed.statement, state)
            }
            Err(failure) => PipelineDescription {
                name: name.into(),
                state: format!("refused: {}", failure.message),
                statement: deployed.statement.clone(),
                plan: String::new(),
                sources: Vec::new(),
                sinks: Vec::new(),
            },
        };
        match name {
            Some(name) => Ok(vec![one(name, catalog.deployed_as(name)?)]),
            None => Ok(catalog.deployed().map(|(name, d)| one(name, d)).collect()),
        }
    }

    /// Pauses, resumes or deletes a pipeline that was deployed.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] if there is none of this name.
    pub(crate) async fn control_sql(
        self: Arc<Self>,
        name: String,
        action: PipelineAction,
    ) -> Result<(), Failure> {
        let command = match action {
            PipelineAction::Pause => Command::PausePipeline { name, paused: true },
            PipelineAction::Resume => Command::PausePipeline {
                name,
                paused: false,
            },
            PipelineAction::Delete => Command::ForgetPipeline { name },
        };
        self.clone().command(command).await?;
        self.follow_deployed().await;
        Ok(())
    }
}

/// Names of the streams that a text makes itself.
fn own_streams(parsed: &[Parsed]) -> Vec<&str> {
    let own = parsed.iter();
    own.filter_map(|p| match &p.statement {
        Statement::CreateStream(stream) => Some(&stream.name[..]),
        _ => None,
    })
    .collect()
}

/// The streams of the catalog, without those that are made anew.
fn known(texts: &BTreeMap<String, String>, without: &[&str]) -> Result<Streams, Failure> {
    let mut streams = Streams::default();
    for (_, text) in texts.iter().filter(|(n, _)| !without.contains(&&n[..])) {
        for parsed in statement::parse(text)? {
            if let Statement::CreateStream(stream) = parsed.statement {
                streams.add(&stream)?;
            }
        }
    }
    Ok(streams)
}

/// The pipeline that was deployed, planned anew.
pub(super) fn plan(deployed: &Deployed) -> Result<Planned, Failure> {
    let streams = known(&deployed.streams, &[])?;
    match statement::parse(&deployed.statement)?.pop() {
        Some(Parsed {
            statement: Statement::CreatePipeline(pipeline),
            ..
        }) => {
            let planned = streams.plan(&pipeline)?;
            if planned.explained != deployed.plan {
                let what = "this version plans it otherwise, and its state is of the old plan: delete \
                            it and deploy it again";
                return Err(Failure::new(ErrorCode::InvalidRequest, what));
            }
            Ok(planned)
        }
        _ => Err(Failure::new(
            ErrorCode::InvalidRequest,
            "what was deployed is no CREATE PIPELINE: delete it",
        )),
    }
}

fn describe(planned: &Planned, statement: &str, state: &str) -> PipelineDescription {
    PipelineDescription {
        name: planned.pipeline.name().into(),
        state: state.into(),
        statement: statement.into(),
        plan: planned.explained.clone(),
        sources: planned.pipeline.sources().to_vec(),
        sinks: planned.pipeline.sinks().to_vec(),
    }
}
