//! From statements to pipelines that run.

mod options;

use crate::contained::Contained;
use crate::error::{Error, Result};
use crate::plan::{self, EmitRules, Translated, literal};
use crate::program::Program;
use crate::signature::signature;
use crate::spread::{Edge, edges};
use crate::statement::{Emit, Options, PipelineStatement, QueryStatement, Statement};
use crate::stream::Stream;
use datafusion::arrow::datatypes::SchemaRef;
use flowstone_processor::{Pipeline, PipelineBuilder, PipelineOptions, SourceOptions};
use flowstone_wire::Failure;

/// Name of the one stage of a pipeline of SQL.
const STAGE: &str = "sql";
/// Name of a query that is no pipeline.
const LIVE: &str = "query";

/// How the results of a pipeline are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// A JSON object with a member for each column.
    Json,
    /// The one column as it is.
    Raw,
    /// A record of Avro with a field for each column, behind a zero byte and the number of its schema if it has one.
    Avro {
        /// The number of the schema in a registry.
        schema_id: Option<u32>,
    },
}

/// A pipeline that was planned.
#[derive(Clone)]
pub struct Planned {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Streams that it reads, in the order of its sources.
    pub streams: Vec<Stream>,
    /// The columns of its results.
    pub columns: SchemaRef,
    /// Its operators, one a line, each before those that push to it.
    pub explained: String,
    /// Rows that belong together may lie in different partitions: either all partitions of the sources
    /// are on one shard, or it runs as [`Self::spread`].
    pub gathers: bool,
    /// Rows of several sources belong together by the keys of their records: their topics must have
    /// equally many partitions, those of the same number on the same shard.
    pub aligned: bool,
    /// What its state depends on: a pipeline with an equal one can go on with it.
    pub signature: Vec<String>,
    /// The same in two parts, for sources on several shards, if that can be.
    pub spread: Option<Spread>,
}

/// A pipeline in two parts: the front reads the sources and writes an exchange, the back reads that and writes
/// the results.
#[derive(Clone)]
pub struct Spread {
    /// The first part, whose name is that of its exchange.
    pub front: Pipeline,
    /// What it does, in words.
    pub front_explained: String,
    /// The second part, which has the name of the pipeline.
    pub back: Pipeline,
    /// What it does, in words.
    pub back_explained: String,
    /// What the state of both, and what is on the way between them, depends on.
    pub signature: Vec<String>,
}

/// The name of the first part of a pipeline that is spread, and of its exchange.
pub fn front_name(name: &str) -> String {
    format!("{name}{FRONT}")
}

/// The pipeline that this may be the first part of.
pub fn back_name(front: &str) -> Option<&str> {
    front.strip_suffix(FRONT)
}

const FRONT: &str = ".by";

/// Streams that statements can name.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    known: Vec<Stream>,
}

impl Streams {
    /// Takes a stream in.
    ///
    /// # Errors
    /// A statement that does not fit together, or a name that is taken.
    pub fn add(&mut self, statement: &crate::statement::StreamStatement) -> Result<()> {
        let stream = Stream::new(statement)?;
        if let Some(known) = self.known.iter().find(|s| s.name == stream.name) {
            let kind = if known.is_table() { "table" } else { "stream" };
            let text = format!("there is a {kind} '{}' already", stream.name);
            return Err(Error::at(statement.place, text));
        }
        self.known.push(stream);
        Ok(())
    }

    /// Takes a stream in that was declared elsewhere, unless there is one of its name.
    pub fn know(&mut self, stream: Stream) {
        if self.get(&stream.name).is_none() {
            self.known.push(stream);
        }
    }

    /// The stream of this name.
    pub fn get(&self, name: &str) -> Option<&Stream> {
        self.known.iter().find(|s| s.name == name)
    }

    /// Plans a pipeline.
    ///
    /// # Errors
    /// What is not understood or not supported, with its place.
    pub fn plan(&self, statement: &PipelineStatement) -> Result<Planned> {
        self.plan_with(statement, |translated| options::of(statement, translated))
    }

    /// Plans a query by itself as a pipeline that nobody keeps; `state_bytes_max` is the most memory
    /// for its state.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn plan_live(&self, query: &QueryStatement, state_bytes_max: usize) -> Result<Planned> {
        let statement = PipelineStatement {
            name: LIVE.into(),
            place: query.place,
            options: Options::default(),
            query: query.clone(),
        };
        let options = PipelineOptions {
            state_bytes_max,
            ..PipelineOptions::default()
        };
        self.plan_with(&statement, |_| Ok((OutputFormat::Json, options)))
    }

    fn plan_with(
        &self,
        statement: &PipelineStatement,
        options: impl FnOnce(&Translated) -> Result<(OutputFormat, PipelineOptions)>,
    ) -> Result<Planned> {
        let query = &statement.query;
        let mut emit = emit_rules(query)?;
        let mut given = statement.options.clone();
        emit.ttl_ms = given.take_number("state_ttl_ms", 1..=options::TTL_MS_MAX)?;
        let logical = plan::logical(query, &self.known)?;
        let translated = plan::translate(&logical, &self.known, emit)
            .map_err(|e| Error::planning(&e, query.place))?;
        check_emit(query, &translated)?;
        let (format, options) = options(&translated)?;
        let columns = translated.schema.clone();
        let written = options::written(statement, format, &columns)?;
        let explain =
            |edges: &[Edge]| crate::explain::explain(&translated, &self.known, edges, &written);
        let explained = explain(&[]);
        let (gathers, aligned) = (translated.gathers, translated.aligned);
        let edges = gathers.then(|| edges(&translated)).flatten();
        let said = edges.as_deref();
        let said = said.map(|e| (explain(e), signature(&translated, e)));
        let own_signature = signature(&translated, &[]);
        let program = Program::new(translated, &self.known, format);
        let streams: Vec<Stream> = program.streams().cloned().collect();
        let refused = |f: Failure| Error::at(statement.place, f.message);
        let spread = match edges.zip(said) {
            Some((edges, said)) => {
                let parts = Parts {
                    name: &statement.name,
                    streams: &streams,
                    options,
                };
                Some(parts.spread(&program, &edges, said).map_err(refused)?)
            }
            None => None,
        };
        let pipeline = build(&statement.name, &streams, program, options).map_err(refused)?;
        Ok(Planned {
            pipeline,
            streams,
            columns,
            explained,
            gathers,
            aligned,
            signature: own_signature,
            spread,
        })
    }
}

/// What both parts of a pipeline have.
struct Parts<'p> {
    name: &'p str,
    streams: &'p [Stream],
    options: PipelineOptions,
}

impl Parts<'_> {
    fn spread(
        &self,
        program: &Program,
        edges: &[Edge],
        (explained, signature): (String, Vec<String>),
    ) -> std::result::Result<Spread, Failure> {
        let by = front_name(self.name);
        let mut front = Pipeline::new(&by)?;
        read(self.streams, &mut front);
        front.part_of(self.name).options(self.options);
        let program_of_front = program.front(edges);
        let stage = front.add_bulk(STAGE, move || Box::new(Contained::new(&program_of_front)));
        front.exchange(stage, &by);
        let mut back = Pipeline::new(self.name)?;
        let told = SourceOptions {
            told: true,
            ..SourceOptions::default()
        };
        back.source_with(&by, told).options(self.options);
        if let Some(first) = self.streams.iter().find(|s| !s.is_table()) {
            back.like(&first.topic);
        }
        let program_of_back = program.back(edges);
        let stage = back.add_bulk(STAGE, move || Box::new(Contained::new(&program_of_back)));
        back.sink(stage, self.name);
        Ok(Spread {
            front: front.build()?,
            front_explained: format!(
                "the part of '{}' in front of its exchange\n{explained}",
                self.name
            ),
            back: back.build()?,
            back_explained: explained,
            signature,
        })
    }
}

fn build(
    name: &str,
    streams: &[Stream],
    program: Program,
    options: PipelineOptions,
) -> std::result::Result<Pipeline, Failure> {
    let mut builder = Pipeline::new(name)?;
    read(streams, &mut builder);
    builder.options(options);
    let stage = builder.add_bulk(STAGE, move || Box::new(Contained::new(&program)));
    builder.sink(stage, name);
    builder.build()
}

/// Adds the topics of streams.
fn read(streams: &[Stream], builder: &mut PipelineBuilder) {
    let timed = streams.iter().any(|s| s.watermark.is_some());
    for stream in streams {
        let options = SourceOptions {
            timeless: timed && stream.watermark.is_none(),
            first: stream.is_table(),
            told: false,
        };
        builder.source_with(&stream.topic, options);
    }
}

fn emit_rules(query: &QueryStatement) -> Result<EmitRules> {
    let mut every_ms = None;
    let (changes, lateness_ms) = match &query.emit {
        Emit::Unsaid => (false, 0),
        Emit::Changes(_) => (true, 0),
        Emit::Every { place, interval } => {
            every_ms = literal::interval_ms(interval, *place)?.filter(|ms| *ms > 0);
            if every_ms.is_none() {
                return Err(Error::at(
                    *place,
                    "EMIT EVERY takes an INTERVAL '...' over 0",
                ));
            }
            (true, 0)
        }
        Emit::OnWindowClose {
            place,
            allow_lateness,
        } => match allow_lateness {
            None => (false, 0),
            Some(expr) => match literal::interval_ms(expr, *place)? {
                Some(ms) if ms >= 0 => (false, ms),
                _ => {
                    return Err(Error::at(
                        *place,
                        "ALLOW LATENESS takes an INTERVAL '...' of 0 or more",
                    ));
                }
            },
        },
    };
    Ok(EmitRules {
        changes,
        every_ms,
        lateness_ms,
        ttl_ms: None,
    })
}

fn check_emit(query: &QueryStatement, translated: &Translated) -> Result<()> {
    match query.emit {
        Emit::OnWindowClose { place, .. } if !translated.windowed => Err(Error::at(
            place,
            "EMIT ON WINDOW CLOSE in a query without windows: leave it out, or EMIT CHANGES",
        )),
        Emit::Every { place, .. } if !translated.updating => Err(Error::at(
            place,
            "EMIT EVERY in a query whose results do not change: it takes a GROUP BY with an aggregate",
        )),
        _ => Ok(()),
    }
}

/// The pipelines of a file, planned, and its streams.
///
/// # Errors
/// What is not understood or not supported, with its place.
pub fn plan_file(text: &str) -> Result<(Streams, Vec<Planned>)> {
    let mut streams = Streams::default();
    let mut planned: Vec<Planned> = Vec::new();
    for parsed in crate::statement::parse(text)? {
        match parsed.statement {
            Statement::CreateStream(statement) => streams.add(&statement)?,
            Statement::CreatePipeline(statement) => {
                if planned.iter().any(|p| p.pipeline.name() == statement.name) {
                    let text = format!("there is a pipeline '{}' already", statement.name);
                    return Err(Error::at(statement.place, text));
                }
                planned.push(streams.plan(&statement)?);
            }
            Statement::Query(query) => {
                let text =
                    "a query by itself is not deployed: write CREATE PIPELINE name AS before it";
                return Err(Error::at(query.place, text));
            }
            Statement::InferSchema(infer) => {
                let text = "INFER SCHEMA is not deployed: ask it with flowstone sql";
                return Err(Error::at(infer.place, text));
            }
        }
    }
    Ok((streams, planned))
}
