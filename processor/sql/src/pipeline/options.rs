//! The options of a pipeline.

use super::OutputFormat;
use crate::error::{Error, Result};
use crate::flow::Node;
use crate::operator::Operator;
use crate::plan::Translated;
use crate::statement::PipelineStatement;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use flowstone_processor::PipelineOptions;

/// The longest that a group is kept behind its last row: a hundred years.
pub(super) const TTL_MS_MAX: i64 = 100 * 365 * 86_400_000;

/// How the results are written, for people.
pub(super) fn written(
    statement: &PipelineStatement,
    format: OutputFormat,
    columns: &SchemaRef,
) -> Result<String> {
    Ok(match format {
        OutputFormat::Json | OutputFormat::Raw => String::new(),
        OutputFormat::Avro { .. } => {
            let schema = crate::format::encode::avro::schema(&statement.name, columns);
            let schema = schema.map_err(|text| Error::at(statement.query.place, text))?;
            format!(", avro {schema}")
        }
    })
}

/// What stands in WITH.
pub(super) fn of(
    statement: &PipelineStatement,
    translated: &Translated,
) -> Result<(OutputFormat, PipelineOptions)> {
    const DAY_MS: i64 = 86_400_000;
    let mut given = statement.options.clone();
    let mut options = PipelineOptions::default();
    let format = match given.take_choice("format", &["json", "raw", "avro"])? {
        Some(1) => OutputFormat::Raw,
        Some(2) => {
            let id = given.take_number("schema_id", 0..=i64::from(u32::MAX))?;
            let schema_id = id.and_then(|id| u32::try_from(id).ok());
            OutputFormat::Avro { schema_id }
        }
        _ => OutputFormat::Json,
    };
    if let Some(ms) = given.take_number("idle_ms", 1..=DAY_MS)? {
        options.idle_ms = ms;
    }
    if let Some(ms) = given.take_number("max_future_skew_ms", 0..=i64::MAX)? {
        options.max_future_skew_ms = ms;
    }
    if let Some(bytes) = given.take_number("state_bytes_max", 1 << 10..=1 << 40)? {
        options.state_bytes_max = bytes as usize;
    }
    let ttl_ms = given.take_number("state_ttl_ms", 1..=TTL_MS_MAX)?;
    let lasts = |n: &Node| matches!(&n.operator, Operator::Aggregate(a) if a.ttl.is_some());
    if ttl_ms.is_some() && !translated.nodes.iter().any(lasts) {
        let text = "state_ttl_ms in a query without GROUP BY or DISTINCT that has no window: other state ends by \
                    itself";
        return Err(Error::at(statement.query.place, text));
    }
    given.finish("format, schema_id (of avro), idle_ms, max_future_skew_ms, state_bytes_max and state_ttl_ms")?;
    let fields = translated.schema.fields();
    let fits =
        fields.len() == 1 && matches!(fields[0].data_type(), DataType::Utf8 | DataType::Binary);
    if format == OutputFormat::Raw && !fits {
        let text = "format 'raw' takes a query with one column, VARCHAR or VARBINARY";
        return Err(Error::at(statement.query.place, text));
    }
    Ok((format, options))
}
