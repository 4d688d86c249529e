//! What a text asks: streams, then one query.

use crate::source::Source;
use flowstone_sql::statement::{self, Emit, InferStatement, QueryStatement};
use flowstone_sql::{Error, Statement, Stream, Streams};
use flowstone_wire::native::Topic;
use flowstone_wire::{ErrorCode, Failure, PartitionId};
use std::sync::Arc;

/// The one question of a text.
#[derive(Debug)]
pub(crate) enum Question {
    /// A query over what is there.
    History(QueryStatement),
    /// A query over what comes.
    Live(QueryStatement),
    /// Which columns a topic may have.
    Infer(InferStatement),
}

/// What can be named in a query: the streams of the text, then those that were declared, then topics.
#[derive(Clone)]
pub(crate) struct Names {
    own: Streams,
    pub(crate) source: Arc<dyn Source>,
}

/// Reads a text.
///
/// # Errors
/// What is not understood, with its place.
pub(crate) fn read(text: &str, source: Arc<dyn Source>) -> Result<(Names, Question), Failure> {
    let mut own = Streams::default();
    let mut question: Option<Question> = None;
    let mut end = None;
    for parsed in statement::parse(text)? {
        end = Some(parsed.start);
        if question.is_some() {
            let what = "one query is asked at a time, and it is the last statement";
            return Err(Error::at(parsed.start, what).into());
        }
        match parsed.statement {
            Statement::CreateStream(stream) => own.add(&stream)?,
            Statement::CreatePipeline(pipeline) => {
                let what = "a pipeline is deployed, not asked: use flowstone pipeline deploy, or leave \
                            CREATE PIPELINE name AS out";
                return Err(Error::at(pipeline.place, what).into());
            }
            Statement::Query(query) if matches!(query.emit, Emit::Unsaid) => {
                question = Some(Question::History(query));
            }
            Statement::Query(query) => question = Some(Question::Live(query)),
            Statement::InferSchema(infer) => question = Some(Question::Infer(infer)),
        }
    }
    let what = "there is no query: write SELECT ..., or INFER SCHEMA FOR a topic";
    match (question, end) {
        (Some(question), _) => Ok((Names { own, source }, question)),
        (None, Some(place)) => Err(Error::at(place, what).into()),
        (None, None) => Err(Failure::new(ErrorCode::InvalidRequest, what)),
    }
}

impl Names {
    /// The stream of this name, and whether it was declared.
    pub(crate) fn stream(&self, name: &str) -> Option<(Stream, bool)> {
        if let Some(stream) = self.own.get(name) {
            return Some((stream.clone(), true));
        }
        if let Some(text) = self.source.declared(name) {
            let parsed = statement::parse(&text).ok()?.pop()?;
            let Statement::CreateStream(declared) = parsed.statement else {
                return None;
            };
            return Some((Stream::new(&declared).ok()?, true));
        }
        let partitions = self.source.topic(name)?.partitions;
        let ids: Vec<PartitionId> = partitions.iter().map(|p| p.id).collect();
        Some((Stream::of_topic(name, &ids), false))
    }

    /// The topic of a stream.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`].
    pub(crate) fn topic(&self, stream: &Stream) -> Result<Topic, Failure> {
        self.source.topic(&stream.topic).ok_or_else(|| {
            let what = format!(
                "there is no topic '{}', which stream '{}' reads",
                stream.topic, stream.name
            );
            Failure::new(ErrorCode::UnknownTopic, what)
        })
    }

    /// The streams among these names.
    pub(crate) fn streams(&self, names: impl IntoIterator<Item = String>) -> Streams {
        let mut streams = self.own.clone();
        for name in names {
            if let Some((stream, _)) = self.stream(&name) {
                streams.know(stream);
            }
        }
        streams
    }
}
