//! A pipeline without branches, written as one expression.
//!
//! ```
//! use flowstone_processor::Pipeline;
//!
//! let pipeline = Pipeline::chain("alarms", "readings")
//!     .filter(|record| record.value.is_some())
//!     .map(|record| Ok(record.value.map(<[u8]>::to_ascii_uppercase)))
//!     .to("alarms")
//!     .build()?;
//! assert_eq!(pipeline.sinks(), ["alarms.dlq", "alarms.late", "alarms"]);
//! # Ok::<(), flowstone_wire::Failure>(())
//! ```

use crate::builtin::{self, Window, Zscore};
use crate::pipeline::{NodeRef, Pipeline, PipelineBuilder, PipelineOptions};
use crate::processor::{ProcessError, Processor};
use crate::record::Record;
use flowstone_wire::Failure;

/// A chain under construction. The first mistake is kept and reported by [`Self::build`].
///
/// Stages of the built-in kinds are named after their kind and place, like `filter-1`; use
/// [`Self::stage`] for a name of your own, by which state is found again when the chain changes.
#[must_use]
pub struct Chain {
    builder: Result<PipelineBuilder, Failure>,
    at: NodeRef,
    stages: usize,
}

impl Chain {
    pub(crate) fn new(name: &str, source: &str) -> Self {
        let chain = Self {
            builder: Pipeline::new(name),
            at: NodeRef::INPUT,
            stages: 0,
        };
        chain.source(source)
    }

    fn with(mut self, act: impl FnOnce(&mut PipelineBuilder, NodeRef) -> NodeRef) -> Self {
        if let Ok(builder) = &mut self.builder {
            self.at = act(builder, self.at);
        }
        self
    }

    /// Reads from one more topic.
    pub fn source(self, topic: &str) -> Self {
        self.with(|builder, at| {
            builder.source(topic);
            at
        })
    }

    /// Adds a stage.
    pub fn stage(
        mut self,
        name: &str,
        factory: impl Fn() -> Box<dyn Processor> + Send + Sync + 'static,
    ) -> Self {
        self.stages += 1;
        self.with(|builder, at| builder.add(at, name, factory))
    }

    fn built_in(
        self,
        kind: &str,
        factory: Result<impl Fn() -> Box<dyn Processor> + Send + Sync + 'static, Failure>,
    ) -> Self {
        let name = auto_name(kind, self.stages);
        match factory {
            Ok(factory) => self.stage(&name, factory),
            Err(failure) => self.with(|builder, at| {
                builder.keep(Err(failure));
                at
            }),
        }
    }

    /// Passes on the records for which `keep` is true.
    pub fn filter(self, keep: impl Fn(&Record<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.built_in("filter", Ok(builtin::filter(keep)))
    }

    /// Changes the value of every record.
    pub fn map(
        self,
        change: impl Fn(&Record<'_>) -> Result<Option<Vec<u8>>, ProcessError> + Send + Sync + 'static,
    ) -> Self {
        self.built_in("map", Ok(builtin::map(change)))
    }

    /// Changes the key of every record.
    pub fn key_by(
        self,
        key: impl Fn(&Record<'_>) -> Result<Option<Vec<u8>>, ProcessError> + Send + Sync + 'static,
    ) -> Self {
        self.built_in("key_by", Ok(builtin::key_by(key)))
    }

    /// Aggregates by key and time.
    pub fn window(self, window: Window) -> Self {
        self.built_in("window", builtin::window(window))
    }

    /// Alerts on numbers that are unlike the ones before.
    pub fn zscore(self, zscore: Zscore) -> Self {
        self.built_in("zscore", builtin::zscore(zscore))
    }

    /// Writes what comes out here to `topic`. The chain may go on behind it.
    pub fn to(self, topic: &str) -> Self {
        self.with(|builder, at| {
            builder.sink(at, topic);
            at
        })
    }

    /// Replaces the options.
    pub fn options(self, options: PipelineOptions) -> Self {
        self.with(|builder, at| {
            builder.options(options);
            at
        })
    }

    /// The checked pipeline.
    ///
    /// # Errors
    /// [`Failure`] with the first mistake.
    pub fn build(self) -> Result<Pipeline, Failure> {
        self.builder?.build()
    }
}

/// The name of a stage that has none: its kind and its place, from 1.
pub(crate) fn auto_name(kind: &str, before: usize) -> String {
    format!("{kind}-{}", before + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_one_another_and_any_may_have_a_sink() {
        let pipeline = Pipeline::chain("p", "a")
            .source("b")
            .filter(|_| true)
            .to("x")
            .stage("mine", builtin::filter(|_| true))
            .map(|_| Ok(None))
            .to("y")
            .build()
            .unwrap();
        assert_eq!(pipeline.sources(), ["a", "b"]);
        let stages: Vec<_> = pipeline.stages().collect();
        assert_eq!(stages, ["filter-1", "mine", "map-3"]);
        assert_eq!(pipeline.sinks()[2..], ["x", "y"]);
    }

    #[test]
    fn the_first_mistake_is_reported_at_the_end() {
        let bad_name = Pipeline::chain("", "a").to("x").build().unwrap_err();
        assert!(bad_name.message.contains("pipeline name"), "{bad_name}");
        let bad_window = Pipeline::chain("p", "a")
            .window(Window {
                field: "n".into(),
                size_ms: 0,
                allowed_lateness_ms: 0,
            })
            .to("/")
            .build()
            .unwrap_err();
        assert!(bad_window.message.contains("size_ms is 0"), "{bad_window}");
    }
}
