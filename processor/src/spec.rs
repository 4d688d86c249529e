//! A pipeline as data, from TOML or JSON.
//!
//! ```toml
//! name = "temperatures"
//! source = "readings"                 # or a list
//! timestamp_field = "time"            # RFC 3339, or milliseconds since 1970
//! out_of_order_ms = 2000
//! sink = "temperatures-by-minute"     # what the last stage emits
//!
//! [[stages]]
//! type = "filter"
//! field = "unit"
//! op = "eq"
//! value = "C"
//!
//! [[stages]]
//! type = "window"
//! name = "by-minute"
//! field = "temperature"
//! size_ms = 60000
//! ```

use crate::builtin::scalar::{Scalar, field};
use crate::builtin::{self, FieldFilter, FieldMap, FilterOp, Window, Zscore};
use crate::chain::auto_name;
use crate::pipeline::{NodeRef, Pipeline, PipelineBuilder, PipelineOptions, invalid};
use crate::processor::ProcessError;
use crate::rfc3339;
use flowstone_wire::Failure;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A pipeline as data: the stages form a chain.
///
/// Self-describing formats only (TOML, JSON). Options that are not given have the defaults of
/// [`PipelineOptions`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Name of the pipeline.
    pub name: String,
    /// Topics to read; in text one name or a list of names.
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    /// The stages, in order.
    #[serde(default)]
    pub stages: Vec<StageSpec>,
    /// Topic for what the last stage emits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Field of a JSON object with the event time: RFC 3339 text, or an integer in milliseconds since
    /// 1970. Without it the timestamp of the record is the event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_field: Option<String>,
    /// See [`PipelineOptions::max_attempts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// See [`PipelineOptions::backoff_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<i64>,
    /// See [`PipelineOptions::backoff_max_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<i64>,
    /// See [`PipelineOptions::out_of_order_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_order_ms: Option<i64>,
    /// See [`PipelineOptions::idle_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<i64>,
    /// See [`PipelineOptions::max_future_skew_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_future_skew_ms: Option<i64>,
    /// See [`PipelineOptions::state_bytes_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_bytes_max: Option<usize>,
}

/// A stage as data. A stage without `name` is named after its kind and place, like `window-2`; give
/// one to a stage with state, so that it is found again when stages are added before it. A stage
/// with `sink` also writes what it emits to that topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum StageSpec {
    /// [`builtin::filter_field`].
    Filter {
        /// Name of the stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Topic for what it emits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sink: Option<String>,
        /// See [`FieldFilter::field`].
        field: String,
        /// See [`FieldFilter::op`].
        op: FilterOp,
        /// See [`FieldFilter::value`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<serde_json::Value>,
    },
    /// [`builtin::map_fields`].
    Map {
        /// Name of the stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Topic for what it emits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sink: Option<String>,
        /// See [`FieldMap::keep`].
        #[serde(default)]
        keep: Vec<String>,
        /// See [`FieldMap::rename`].
        #[serde(default)]
        rename: BTreeMap<String, String>,
    },
    /// [`builtin::key_by_field`].
    KeyBy {
        /// Name of the stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Topic for what it emits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sink: Option<String>,
        /// Name of the field that becomes the key.
        field: String,
    },
    /// [`builtin::window`].
    Window {
        /// Name of the stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Topic for what it emits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sink: Option<String>,
        /// See [`Window::field`].
        field: String,
        /// See [`Window::size_ms`].
        size_ms: i64,
        /// See [`Window::allowed_lateness_ms`]; 0 if not given.
        #[serde(default)]
        lateness_ms: i64,
    },
    /// [`builtin::zscore`].
    Zscore {
        /// Name of the stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Topic for what it emits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sink: Option<String>,
        /// See [`Zscore::field`].
        field: String,
        /// See [`Zscore::samples`].
        samples: u32,
        /// See [`Zscore::min_samples`].
        min_samples: u32,
        /// See [`Zscore::threshold`].
        threshold: f64,
    },
}

impl StageSpec {
    /// The kind as it stands in `type`, the name and the sink, if they are given.
    fn labels(&self) -> (&'static str, Option<&str>, Option<&str>) {
        let (kind, name, sink) = match self {
            Self::Filter { name, sink, .. } => ("filter", name, sink),
            Self::Map { name, sink, .. } => ("map", name, sink),
            Self::KeyBy { name, sink, .. } => ("key_by", name, sink),
            Self::Window { name, sink, .. } => ("window", name, sink),
            Self::Zscore { name, sink, .. } => ("zscore", name, sink),
        };
        (kind, name.as_deref(), sink.as_deref())
    }

    fn add_to(
        &self,
        builder: &mut PipelineBuilder,
        parent: NodeRef,
        stage: &str,
    ) -> Result<NodeRef, Failure> {
        Ok(match self.clone() {
            Self::Filter {
                field, op, value, ..
            } => {
                let condition = FieldFilter { field, op, value };
                builder.add(parent, stage, builtin::filter_field(condition)?)
            }
            Self::Map { keep, rename, .. } => builder.add(
                parent,
                stage,
                builtin::map_fields(FieldMap { keep, rename })?,
            ),
            Self::KeyBy { field, .. } => builder.add(parent, stage, builtin::key_by_field(&field)),
            Self::Window {
                field,
                size_ms,
                lateness_ms: allowed_lateness_ms,
                ..
            } => {
                let window = Window {
                    field,
                    size_ms,
                    allowed_lateness_ms,
                };
                builder.add(parent, stage, builtin::window(window)?)
            }
            Self::Zscore {
                field,
                samples,
                min_samples,
                threshold,
                ..
            } => {
                let zscore = Zscore {
                    field,
                    samples,
                    min_samples,
                    threshold,
                };
                builder.add(parent, stage, builtin::zscore(zscore)?)
            }
        })
    }
}

impl PipelineSpec {
    /// The checked pipeline.
    ///
    /// # Errors
    /// [`Failure`] with the first mistake and the stage in which it is.
    pub fn build(&self) -> Result<Pipeline, Failure> {
        let mut builder = Pipeline::new(&self.name)?;
        for topic in &self.source {
            builder.source(topic);
        }
        builder.options(self.options());
        if let Some(name) = &self.timestamp_field {
            let name = name.clone();
            builder.event_time(move |record| event_time_ms(record.value, &name));
        }
        let mut at = NodeRef::INPUT;
        for (i, stage) in self.stages.iter().enumerate() {
            let (kind, name, sink) = stage.labels();
            let name = name.map_or_else(|| auto_name(kind, i), Into::into);
            at = stage.add_to(&mut builder, at, &name).map_err(|failure| {
                let text = format!("stage {} ({kind}): {}", i + 1, failure.message);
                Failure::new(failure.code, text)
            })?;
            if let Some(topic) = sink {
                builder.sink(at, topic);
            }
        }
        if let Some(topic) = &self.sink {
            builder.sink(at, topic);
        } else if let Some(last) = self.stages.last()
            && last.labels().2.is_none()
        {
            builder.keep(Err(invalid(format!(
                "pipeline '{}' ends in stage {} and writes nowhere: give it a sink",
                self.name,
                self.stages.len()
            ))));
        }
        builder.build()
    }

    fn options(&self) -> PipelineOptions {
        let default = PipelineOptions::default();
        PipelineOptions {
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            backoff_ms: self.backoff_ms.unwrap_or(default.backoff_ms),
            backoff_max_ms: self.backoff_max_ms.unwrap_or(default.backoff_max_ms),
            out_of_order_ms: self.out_of_order_ms.unwrap_or(default.out_of_order_ms),
            idle_ms: self.idle_ms.unwrap_or(default.idle_ms),
            max_future_skew_ms: self
                .max_future_skew_ms
                .unwrap_or(default.max_future_skew_ms),
            state_bytes_max: self.state_bytes_max.unwrap_or(default.state_bytes_max),
        }
    }
}

fn event_time_ms(value: Option<&[u8]>, name: &str) -> Result<i64, ProcessError> {
    let found = field(value, name)?;
    let ms = match &found {
        Scalar::Int(ms) => i64::try_from(*ms).ok(),
        Scalar::Text(text) => rfc3339::parse_ms(text),
        _ => None,
    };
    ms.ok_or_else(|| {
        let shown: String = format!("{found:?}").chars().take(60).collect();
        ProcessError::Reject(format!(
            "field '{name}' is no time: {shown}; give RFC 3339 or integer milliseconds since 1970"
        ))
    })
}

/// Takes one name or a list of names.
fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a topic name or a list of topic names")
        }
        fn visit_str<E>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.into()])
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut seq: A,
        ) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = seq.next_element()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    d.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests;
