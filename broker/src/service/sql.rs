//! Pipelines of SQL: deploy, describe, pause, resume, delete.
//!
//! The catalog keeps the statements. A pipeline is planned from them whenever it starts, so a new
//! version of the program runs what was said, not what an old one made of it.

use super::Service;
use flowstone_core::catalog::{Command, Deployed};
use flowstone_processor::Pipeline;
use flowstone_processor::contained::contained;
use flowstone_sql::statement::{self, Parsed, Statement};
use flowstone_sql::{Error, Planned, Stream, Streams, back_name, front_name};
use flowstone_wire::native::{DeployPipelines, PipelineAction, PipelineDescription, TopicSettings};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pipeline that is to be kept.
pub(super) struct Fresh {
    pub(super) planned: Planned,
    pub(super) statement: String,
    /// The statements of the streams that it reads.
    pub(super) streams: BTreeMap<String, String>,
}

/// What a text says: streams by name, and pipelines over those and over the ones that were there.
pub(super) struct File {
    pub(super) streams: BTreeMap<String, String>,
    pub(super) pipelines: Vec<Fresh>,
}

impl Service {
    /// Deploys pipelines, or upgrades them.
    ///
    /// # Errors
    /// As [`Self::deploy_sql`] and [`Self::upgrade_sql`].
    pub(crate) async fn deploy_pipelines(
        self: Arc<Self>,
        request: DeployPipelines,
    ) -> Result<Vec<PipelineDescription>, Failure> {
        match request.upgrade {
            true => self.upgrade_sql(request.text, request.dry_run).await,
            false => self.deploy_sql(request.text, request.dry_run).await,
        }
    }

    /// Deploys the pipelines of a text, all or none, and keeps its streams; or only says what would
    /// be deployed.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] with line and column for what is not understood, and what the
    /// catalog says.
    async fn deploy_sql(
        self: Arc<Self>,
        text: String,
        dry_run: bool,
    ) -> Result<Vec<PipelineDescription>, Failure> {
        let this = self.clone();
        let file = self.aside(move || this.read(&text, false)).await?;
        let mut made = BTreeMap::new();
        let mut parts = Vec::new();
        for fresh in &file.pipelines {
            let shards = self.clone().check(&fresh.planned, &made, dry_run).await?;
            for sink in fresh.planned.pipeline.sinks() {
                made.insert(sink.clone(), shards.clone());
            }
            parts.push(parts_of(&fresh.planned, shards.len()));
        }
        let mut described = Vec::new();
        let state = if dry_run { "planned" } else { "running" };
        for (fresh, parts) in file.pipelines.iter().zip(&parts) {
            let parts = parts.iter();
            described.extend(parts.map(|part| describe(part, &fresh.statement, state)));
        }
        if dry_run {
            return Ok(described);
        }
        let mut pipelines = Vec::new();
        for (fresh, parts) in file.pipelines.into_iter().zip(parts) {
            for part in parts {
                // The topics first: whichever node starts the tasks finds them.
                self.clone().topics_of(&part.pipeline).await?;
                let deployed = Deployed {
                    streams: fresh.streams.clone(),
                    statement: fresh.statement.clone(),
                    plan: part.explained,
                    paused: false,
                };
                pipelines.push((part.pipeline.name().to_string(), deployed));
            }
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
        let done = self.runtime().spawn_blocking(|| contained(work));
        let done = done.await.map_err(|e| e.to_string()).flatten();
        done.unwrap_or_else(|e| {
            let what = format!("the statement cannot be planned: {e}");
            Err(Failure::new(ErrorCode::Internal, what))
        })
    }

    /// What a text says. Its pipelines are there already, or are not.
    pub(super) fn read(&self, text: &str, are_there: bool) -> Result<File, Failure> {
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
                    let name = &pipeline.name;
                    let known = catalog.pipeline(name).is_some();
                    let twice = |f: &Fresh| f.planned.pipeline.name() == *name;
                    if known && !are_there || file.pipelines.iter().any(twice) {
                        let what = format!("there is a pipeline '{name}' already");
                        return Err(Error::at(pipeline.place, what).into());
                    }
                    if are_there && catalog.deployed_as(name).is_err() {
                        let what = format!("there is no pipeline '{name}' of SQL: deploy it");
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
        // Of each topic that is there the shards of its partitions, by their numbers.
        let mut layouts: Vec<Vec<ShardId>> = Vec::new();
        for (source, stream) in planned.pipeline.sources().iter().zip(&planned.streams) {
            let known = self.catalog().topic(source).cloned();
            let topic = match known {
                Err(_) if made.contains_key(source) => {
                    shards.extend(&made[source]);
                    layouts.push(made[source].clone());
                    continue;
                }
                Ok(topic) => topic,
                Err(_) if dry_run => continue,
                Err(_) => {
                    let (partitions, settings) = self.like_others(planned, stream);
                    self.clone()
                        .create_topic(source.clone(), partitions, settings)
                        .await?
                }
            };
            let layout: Vec<ShardId> = topic.partitions.iter().map(|p| p.shard).collect();
            shards.extend(&layout);
            layouts.push(layout);
        }
        shards.sort_unstable();
        shards.dedup();
        if planned.aligned && shards.len() > 1 && layouts.iter().any(|l| *l != layouts[0]) {
            let what = format!(
                "pipeline '{}' joins by the keys of records, and partitions of the same number do not lie \
                 on the same shards: make its topics with as many partitions each and one placement group \
                 (`flowstone topic create NAME --partitions N --placement GROUP`)",
                planned.pipeline.name()
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        if planned.gathers && shards.len() > 1 {
            self.check_spread(planned, shards.len())?;
        }
        Ok(shards)
    }

    /// Whether a pipeline can run in two parts.
    fn check_spread(&self, planned: &Planned, shards: usize) -> Result<(), Failure> {
        let name = planned.pipeline.name();
        let refused = |what| Err(Failure::new(ErrorCode::InvalidRequest, what));
        if planned.spread.is_none() {
            return refused(format!(
                "pipeline '{name}' puts rows together that lie on {shards} shards, and one of its operators \
                 cannot be behind an exchange: read topics on one shard"
            ));
        }
        let exchange = front_name(name);
        if self.catalog().topic(&exchange).is_ok() {
            return refused(format!(
                "pipeline '{name}' needs the topic '{exchange}' for itself, and there is one: it may be of an \
                 earlier pipeline; delete it"
            ));
        }
        Ok(())
    }

    /// How a topic is made that a pipeline reads: where it reads others, one that rows can be joined
    /// with; of a table the newest record of each key is kept.
    fn like_others(&self, planned: &Planned, stream: &Stream) -> (u32, TopicSettings) {
        let mut settings = TopicSettings {
            compact: stream.is_table(),
            ..TopicSettings::default()
        };
        let catalog = self.catalog();
        let mut others = planned.pipeline.sources().iter();
        let Some(model) = others.find_map(|other| catalog.topic(other).ok()) else {
            return (1, settings);
        };
        if !(planned.gathers || planned.aligned) {
            return (1, settings);
        }
        let group = model.settings.placement.as_ref().unwrap_or(&model.name);
        settings.placement = Some(group.clone());
        let partitions = if planned.aligned {
            model.partitions.len()
        } else {
            1
        };
        (partitions as u32, settings)
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
        let one = |name: &str, deployed: &Deployed| match plan(name, deployed) {
            Ok(part) => {
                let state = if deployed.paused { "paused" } else { "running" };
                describe(&part, &deployed.statement, state)
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

    /// Pauses, resumes or deletes a pipeline that was deployed, or has it done again.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] if there is none of this name; as [`Self::replay_sql`] and
    /// [`Self::switch_sql`].
    pub(crate) async fn control_sql(
        self: Arc<Self>,
        name: String,
        action: PipelineAction,
    ) -> Result<(), Failure> {
        let parts = self.parts_of_deployed(&name)?;
        let command: fn(String) -> Command = match action {
            PipelineAction::Pause => |name| Command::PausePipeline { name, paused: true },
            PipelineAction::Resume => |name| Command::PausePipeline {
                name,
                paused: false,
            },
            PipelineAction::Delete => |name| Command::ForgetPipeline { name },
            PipelineAction::Replay { from_ms } => return self.replay_sql(name, from_ms).await,
            PipelineAction::Switch => return self.switch_sql(name).await,
        };
        for name in parts.clone() {
            self.clone().command(command(name)).await?;
        }
        self.follow_deployed().await;
        if parts.len() > 1 && action == PipelineAction::Delete {
            // Its rows mean nothing to another plan.
            self.delete_topic(front_name(&name)).await?;
        }
        Ok(())
    }

    /// The names of the parts of a pipeline that was deployed, the one that sends first: what it has sent is
    /// still taken.
    pub(super) fn parts_of_deployed(&self, name: &str) -> Result<Vec<String>, Failure> {
        let catalog = self.catalog();
        let own = &catalog.deployed_as(name)?.statement;
        let is_back = |d: &Deployed| d.statement == *own;
        let whole = back_name(name).filter(|b| catalog.deployed_as(b).is_ok_and(is_back));
        if let Some(whole) = whole {
            let what = format!("'{name}' is a part of pipeline '{whole}': say that");
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let is_front = |d: &Deployed| d.statement == *own;
        let front = Some(front_name(name));
        let front = front.filter(|front| catalog.deployed_as(front).is_ok_and(is_front));
        Ok(front.into_iter().chain([name.to_string()]).collect())
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

/// A pipeline, or a part of one, that runs as a pipeline of its own.
pub(super) struct Part {
    pub(super) pipeline: Pipeline,
    pub(super) explained: String,
    /// What its state depends on.
    pub(super) signature: Vec<String>,
}

/// What of a pipeline runs where its sources lie on so many shards.
pub(super) fn parts_of(planned: &Planned, shards: usize) -> Vec<Part> {
    match &planned.spread {
        Some(spread) if planned.gathers && shards > 1 => vec![
            Part {
                pipeline: spread.front.clone(),
                explained: spread.front_explained.clone(),
                signature: spread.signature.clone(),
            },
            Part {
                pipeline: spread.back.clone(),
                explained: spread.back_explained.clone(),
                signature: spread.signature.clone(),
            },
        ],
        _ => vec![Part {
            pipeline: planned.pipeline.clone(),
            explained: planned.explained.clone(),
            signature: planned.signature.clone(),
        }],
    }
}

/// The pipeline that was deployed under this name, or the part of one, planned anew.
pub(super) fn plan(name: &str, deployed: &Deployed) -> Result<Part, Failure> {
    // Whether it is spread was decided when it was deployed; the plan that was kept says it.
    let mut failed = None;
    for whole in [Some(name), back_name(name)].into_iter().flatten() {
        let planned = match plan_as(whole, deployed) {
            Ok(planned) => planned,
            // Only one of both is its name; the other may be too long.
            Err(e) => {
                failed = Some(e);
                continue;
            }
        };
        let parts = parts_of(&planned, 1).into_iter();
        let mut parts = parts.chain(parts_of(&planned, usize::MAX));
        let is_it = |p: &Part| p.explained == deployed.plan && p.pipeline.name() == name;
        if let Some(part) = parts.find(is_it) {
            return Ok(part);
        }
    }
    let what = "this version plans it otherwise, and its state is of the old plan: delete it and deploy it \
                again";
    Err(failed.unwrap_or_else(|| Failure::new(ErrorCode::InvalidRequest, what)))
}

/// What was deployed, as a pipeline of this name; its statement may have another one.
pub(super) fn plan_as(name: &str, deployed: &Deployed) -> Result<Planned, Failure> {
    let streams = known(&deployed.streams, &[])?;
    match statement::parse(&deployed.statement)?.pop() {
        Some(Parsed {
            statement: Statement::CreatePipeline(mut pipeline),
            ..
        }) => {
            pipeline.name = name.into();
            Ok(streams.plan(&pipeline)?)
        }
        _ => Err(Failure::new(
            ErrorCode::InvalidRequest,
            "what was deployed is no CREATE PIPELINE: delete it",
        )),
    }
}

pub(super) fn describe(part: &Part, statement: &str, state: &str) -> PipelineDescription {
    PipelineDescription {
        name: part.pipeline.name().into(),
        state: state.into(),
        statement: statement.into(),
        plan: part.explained.clone(),
        sources: part.pipeline.sources().to_vec(),
        sinks: part.pipeline.sinks().to_vec(),
    }
}
