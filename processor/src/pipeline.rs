//! A pipeline: the tree of stages from source topics to sink topics, its names and its options.
//!
//! ```text
//! sources --> INPUT -+-> stage --+--> stage --> sink
//!                    |           \--> sink
//!                    \-> stage --> sink            any record that fails --> <name>.dlq
//!                                                  what emit_late gives  --> <name>.late
//! ```

use crate::bulk::{BulkProcessor, BulkStage};
use crate::processor::{Factory, ProcessError, Processor};
use crate::record::Record;
use flowstone_wire::{ErrorCode, Failure, name};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most stages of one pipeline; also bounds how deep a record's processing nests.
pub const STAGES_MAX: usize = 64;
/// Most sources, and most sinks, of one pipeline.
pub const TOPICS_MAX: usize = 256;

/// A node of a pipeline under construction, given by [`PipelineBuilder::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef(u16);

impl NodeRef {
    /// The records of the sources, before any stage.
    pub const INPUT: NodeRef = NodeRef(u16::MAX);
}

/// A sink: an index into [`Pipeline::sinks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkRef(pub u16);

impl SinkRef {
    /// `<pipeline>.dlq`: what failed, with the reason.
    pub const DLQ: SinkRef = SinkRef(0);
    /// `<pipeline>.late`: what came too late.
    pub const LATE: SinkRef = SinkRef(1);

    /// The index into [`Pipeline::sinks`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a stage is known in stored state: derived from its name, so that state survives a change
/// of the pipeline around the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct StageId(pub(crate) u32);

impl StageId {
    /// FNV-1a with 32 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
    fn of(name: &str) -> Self {
        Self(name.bytes().fold(0x811c_9dc5, |hash, b| {
            (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
        }))
    }
}

/// What a source is to its pipeline beside being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Its records say nothing about event time: its partitions never hold the watermark back.
    pub timeless: bool,
    /// Whoever feeds the task gives it all that there is of this source before anything of the
    /// others. Such sources are to be named before the others.
    pub first: bool,
    /// Its partitions are written by tasks that say when they are idle ([`crate::Reading`]): silence of one that has said
    /// something says nothing.
    pub told: bool,
}

/// How a pipeline deals with failures, time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineOptions {
    /// How often a record or timer is tried before it goes to the dead letters; at least 1.
    pub max_attempts: u32,
    /// Pause before the second attempt, in milliseconds; every further one doubles it.
    pub backoff_ms: i64,
    /// Longest pause between attempts, in milliseconds.
    pub backoff_max_ms: i64,
    /// How far behind the largest timestamp of its partition a record may be without being late,
    /// in milliseconds.
    pub out_of_order_ms: i64,
    /// After this many milliseconds without records a partition no longer holds the watermark back.
    pub idle_ms: i64,
    /// How far ahead of the clock a record may pull the watermark, in milliseconds.
    pub max_future_skew_ms: i64,
    /// Memory for state and timers of one task, in bytes. Where the driver keeps a store ([`crate::Task::spill`]),
    /// the rest is there only; else a record that needs more is rejected.
    pub state_bytes_max: usize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff_ms: 100,
            backoff_max_ms: 10_000,
            out_of_order_ms: 0,
            idle_ms: 30_000,
            max_future_skew_ms: 300_000,
            state_bytes_max: 256 << 20,
        }
    }
}

impl PipelineOptions {
    fn check(&self) -> Result<(), Failure> {
        if self.max_attempts == 0 {
            return Err(invalid("max_attempts is 0: give at least 1".into()));
        }
        for (name, value) in [
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
            ("out_of_order_ms", self.out_of_order_ms),
            ("idle_ms", self.idle_ms),
            ("max_future_skew_ms", self.max_future_skew_ms),
        ] {
            if value < 0 {
                return Err(invalid(format!("{name} is {value}: give 0 or more")));
            }
        }
        Ok(())
    }
}

pub(crate) fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, message)
}

/// Reads the event time of an input record, in milliseconds since 1970.
pub(crate) type EventTime = dyn Fn(&Record<'_>) -> Result<i64, ProcessError> + Send + Sync;

/// Where the records of a node go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    /// Nodes with higher numbers than this one.
    pub(crate) children: Vec<u16>,
    pub(crate) sinks: Vec<SinkRef>,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) id: StageId,
    pub(crate) factory: Arc<Factory>,
    pub(crate) links: Links,
}

pub(crate) struct Plan {
    pub(crate) name: String,
    sources: Vec<String>,
    source_options: Vec<SourceOptions>,
    sinks: Vec<String>,
    pub(crate) root: Links,
    pub(crate) nodes: Vec<Node>,
    pub(crate) options: PipelineOptions,
    pub(crate) event_time: Option<Arc<EventTime>>,
    /// The first stage takes many records at once; it is number 0 and the only one behind the input.
    pub(crate) bulk: bool,
    exchange: Option<SinkRef>,
    like: Option<String>,
}

impl Plan {
    fn check_bulk(&self) -> Result<(), Failure> {
        let alone = self.root.children == [0] && self.root.sinks.is_empty();
        if self.bulk && (!alone || self.event_time.is_some()) {
            return Err(invalid(format!(
                "pipeline '{}' has a stage that takes many records at once and is not alone behind \
                 the input: put the others behind it",
                self.name
            )));
        }
        Ok(())
    }

    /// The number of the stage with this id, if the pipeline still has it.
    pub(crate) fn node_of(&self, id: StageId) -> Option<u16> {
        let at = self.nodes.iter().position(|node| node.id == id)?;
        u16::try_from(at).ok()
    }
}

/// A checked pipeline; clones share it.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) plan: Arc<Plan>,
}

impl Pipeline {
    /// Starts a pipeline of this name.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidName`] if it, or `<name>.dlq` or `<name>.late`, breaks the rules for names.
    #[expect(clippy::new_ret_no_self, reason = "a pipeline is made by its builder")]
    pub fn new(name: &str) -> Result<PipelineBuilder, Failure> {
        name::check("pipeline", name)?;
        let sinks = vec![format!("{name}.dlq"), format!("{name}.late")];
        for sink in &sinks {
            name::check("topic", sink)?;
        }
        Ok(PipelineBuilder {
            plan: Plan {
                name: name.into(),
                sources: Vec::new(),
                source_options: Vec::new(),
                sinks,
                root: Links::default(),
                nodes: Vec::new(),
                options: PipelineOptions::default(),
                event_time: None,
                bulk: false,
                exchange: None,
                like: None,
            },
            fault: None,
        })
    }

    /// Starts a pipeline without branches from `source`; see [`crate::Chain`].
    pub fn chain(name: &str, source: &str) -> crate::Chain {
        crate::Chain::new(name, source)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Topics that it reads.
    pub fn sources(&self) -> &[String] {
        &self.plan.sources
    }

    /// What a source is, by its index into [`Self::sources`].
    pub fn source_options(&self, source: u16) -> SourceOptions {
        let options = self.plan.source_options.get(usize::from(source));
        options.copied().unwrap_or_default()
    }

    /// Topics that it writes, by [`SinkRef`]: the dead letters, the late records, then its own.
    pub fn sinks(&self) -> &[String] {
        &self.plan.sinks
    }

    /// The sink that is an exchange, if there is one: each task has as many partitions of its own there as
    /// there are shards; a record goes to the one that its key says, one without a key to all of them.
    pub fn exchange(&self) -> Option<SinkRef> {
        self.plan.exchange
    }

    /// The topic that sinks are made like, where they are not there; without one it is the first source.
    pub fn like(&self) -> Option<&str> {
        self.plan.like.as_deref()
    }

    /// Names of the stages, each before the ones behind it.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.plan.nodes.iter().map(|node| &node.name[..])
    }

    /// The options.
    pub fn options(&self) -> &PipelineOptions {
        &self.plan.options
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.name())
            .field("sources", &self.sources())
            .field("stages", &self.stages().collect::<Vec<_>>())
            .field("sinks", &self.sinks())
            .finish_non_exhaustive()
    }
}

/// A pipeline under construction. The first mistake is kept and reported by [`Self::build`].
pub struct PipelineBuilder {
    plan: Plan,
    fault: Option<Failure>,
}

impl PipelineBuilder {
    /// Reads from `topic`; may be called several times.
    pub fn source(&mut self, topic: &str) -> &mut Self {
        self.source_with(topic, SourceOptions::default())
    }

    /// Reads from `topic`, which is something beside that; may be called several times.
    pub fn source_with(&mut self, topic: &str, options: SourceOptions) -> &mut Self {
        let plan = &mut self.plan;
        let result = name::check("topic", topic).and_then(|()| {
            if plan.sources.iter().any(|s| s == topic) {
                return Err(invalid(format!(
                    "source '{topic}' is given twice: remove one"
                )));
            }
            has_room("sources", plan.sources.len(), TOPICS_MAX)
        });
        if self.keep(result) {
            self.plan.sources.push(topic.into());
            self.plan.source_options.push(options);
        }
        self
    }

    /// Adds a stage behind `parent`. Its name identifies its state from version to version of the
    /// pipeline. `factory` is called once for every task.
    pub fn add(
        &mut self,
        parent: NodeRef,
        stage_name: &str,
        factory: impl Fn() -> Box<dyn Processor> + Send + Sync + 'static,
    ) -> NodeRef {
        let number = self.plan.nodes.len() as u16;
        let id = StageId::of(stage_name);
        let result = self.check_stage(stage_name, id);
        if !self.keep(result) {
            return NodeRef::INPUT;
        }
        if let Some(links) = self.links(parent) {
            links.children.push(number);
        }
        self.plan.nodes.push(Node {
            name: stage_name.into(),
            id,
            factory: Arc::new(factory),
            links: Links::default(),
        });
        NodeRef(number)
    }

    /// Adds a first stage that takes many records at once; nothing else may stand behind the input.
    pub fn add_bulk(
        &mut self,
        stage_name: &str,
        factory: impl Fn() -> Box<dyn BulkProcessor> + Send + Sync + 'static,
    ) -> NodeRef {
        self.plan.bulk = true;
        self.add(NodeRef::INPUT, stage_name, move || {
            Box::new(BulkStage(factory()))
        })
    }

    fn check_stage(&self, stage_name: &str, id: StageId) -> Result<(), Failure> {
        name::check("stage", stage_name)?;
        if let Some(other) = self.plan.nodes.iter().find(|node| node.id == id) {
            return Err(invalid(format!(
                "stages '{}' and '{stage_name}' cannot be told apart: rename one",
                other.name
            )));
        }
        has_room("stages", self.plan.nodes.len(), STAGES_MAX)
    }

    /// What `parent` emits also goes to `topic`.
    pub fn sink(&mut self, parent: NodeRef, topic: &str) -> &mut Self {
        let known = self.plan.sinks.iter().position(|s| s == topic);
        let result = name::check("topic", topic)
            .and_then(|()| has_room("sinks", self.plan.sinks.len(), TOPICS_MAX));
        if !self.keep(result) {
            return self;
        }
        let at = known.unwrap_or_else(|| {
            self.plan.sinks.push(topic.into());
            self.plan.sinks.len() - 1
        });
        let sink = SinkRef(at as u16);
        if let Some(links) = self.links(parent)
            && !links.sinks.contains(&sink)
        {
            links.sinks.push(sink);
        }
        self
    }

    /// What `parent` emits goes to `topic`, which is an exchange: see [`Pipeline::exchange`].
    pub fn exchange(&mut self, parent: NodeRef, topic: &str) -> &mut Self {
        self.sink(parent, topic);
        let at = self.plan.sinks.iter().position(|s| s == topic);
        self.plan.exchange = at.map(|at| SinkRef(at as u16));
        self
    }

    /// Dead letters and late records go to the topics of another pipeline, of which this is a part.
    pub fn part_of(&mut self, name: &str) -> &mut Self {
        self.plan.sinks[SinkRef::DLQ.index()] = format!("{name}.dlq");
        self.plan.sinks[SinkRef::LATE.index()] = format!("{name}.late");
        self
    }

    /// Sinks that are not there are made like this topic.
    pub fn like(&mut self, topic: &str) -> &mut Self {
        self.plan.like = Some(topic.into());
        self
    }

    /// Replaces the options.
    pub fn options(&mut self, options: PipelineOptions) -> &mut Self {
        self.plan.options = options;
        self
    }

    /// Takes the event time of input records from `event_time` (milliseconds since 1970) and not
    /// from their timestamps. An error counts as one of a stage with the name `event-time`.
    pub fn event_time(
        &mut self,
        event_time: impl Fn(&Record<'_>) -> Result<i64, ProcessError> + Send + Sync + 'static,
    ) -> &mut Self {
        self.plan.event_time = Some(Arc::new(event_time));
        self
    }

    /// The checked pipeline.
    ///
    /// # Errors
    /// [`Failure`] with the first mistake: a bad or repeated name, no source, nothing behind the
    /// sources, a source that is also a sink, an option outside its range.
    pub fn build(self) -> Result<Pipeline, Failure> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let plan = self.plan;
        plan.options.check()?;
        if plan.sources.is_empty() {
            return Err(invalid(format!(
                "pipeline '{}' has no source: name a topic to read",
                plan.name
            )));
        }
        if plan.root.children.is_empty() && plan.root.sinks.is_empty() {
            return Err(invalid(format!(
                "pipeline '{}' does nothing: give it a stage or a sink",
                plan.name
            )));
        }
        plan.check_bulk()?;
        if let Some(topic) = plan.sources.iter().find(|s| plan.sinks.contains(s)) {
            return Err(invalid(format!(
                "pipeline '{}' would read its own output from '{topic}': choose another sink",
                plan.name
            )));
        }
        Ok(Pipeline {
            plan: Arc::new(plan),
        })
    }

    /// Keeps the first mistake; says whether there is none so far.
    pub(crate) fn keep(&mut self, result: Result<(), Failure>) -> bool {
        if let Err(failure) = result {
            self.fault.get_or_insert(failure);
        }
        self.fault.is_none()
    }

    fn links(&mut self, parent: NodeRef) -> Option<&mut Links> {
        if parent == NodeRef::INPUT {
            return Some(&mut self.plan.root);
        }
        if usize::from(parent.0) >= self.plan.nodes.len() {
            let text = "a stage or sink was put behind a node of another pipeline";
            self.keep(Err(invalid(text.into())));
            return None;
        }
        Some(&mut self.plan.nodes[usize::from(parent.0)].links)
    }
}

fn has_room(what: &str, count: usize, max: usize) -> Result<(), Failure> {
    if count < max {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::LimitReached,
        format!("a pipeline has at most {max} {what}: split it into several"),
    ))
}

#[cfg(test)]
mod tests;
