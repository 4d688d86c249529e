//! `GET /api/v1/events/{topic}`: records as JSON, or one a line.

use super::Shared;
use super::problem::{Answer, Problem};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flowstone_processor::rfc3339;
use flowstone_wire::native::{Fetch, FindOffset, Place};
use flowstone_wire::{ErrorCode, Offset, PartitionId, RecordView, batch, limits, record};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Records given where the request does not say.
const MAX_DEFAULT: usize = 100;
/// Most records of one answer.
const MAX_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    #[serde(default)]
    partition: u32,
    offset: Option<String>,
    max: Option<usize>,
    #[serde(default)]
    wait_ms: u32,
}

/// Where to read from, as text: `start`, `end`, an offset, or `@` and a time.
pub(crate) fn parse_place(text: &str) -> Result<Result<Offset, Place>, Problem> {
    let invalid = || {
        let shown: String = text
            .chars()
            .take(40)
            .flat_map(char::escape_default)
            .collect();
        let what = format!(
            "'{shown}' is no place to read from: use start, end, an offset, @ and milliseconds \
             since 1970, or @ and a time like @2026-01-31T12:00:00Z"
        );
        Problem::new(ErrorCode::InvalidRequest, what)
    };
    Ok(match text {
        "start" => Err(Place::Start),
        "end" => Err(Place::End),
        _ => match text.strip_prefix('@') {
            Some(time) => {
                let ms = time.parse().ok().or_else(|| rfc3339::parse_ms(time));
                Err(Place::Time(ms.ok_or_else(invalid)?))
            }
            None => Ok(Offset(text.parse().map_err(|_| invalid())?)),
        },
    })
}

pub(super) async fn read(
    State(door): Shared,
    topic: Result<Path<String>, PathRejection>,
    params: Result<Query<Params>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let Path(topic) = topic?;
    let Query(params) = params?;
    let topic = door.service.catalog().topic(&topic)?.clone();
    let partition = topic
        .partitions
        .get(params.partition as usize)
        .map(|p| p.id)
        .ok_or_else(|| {
            let last = topic.partitions.len() - 1;
            let what = format!("topic '{}' has partitions 0 to {last}", topic.name);
            Problem::new(ErrorCode::UnknownPartition, what)
        })?;
    let offset = match parse_place(params.offset.as_deref().unwrap_or("start"))? {
        Ok(offset) => offset,
        Err(place) => {
            door.service
                .find_offset(FindOffset { partition, place })
                .await?
        }
    };
    let max = params.max.unwrap_or(MAX_DEFAULT).clamp(1, MAX_MAX);
    let mut rows = Vec::new();
    let mut next = offset;
    let mut wait_ms = params.wait_ms;
    while rows.len() < max {
        let max_bytes = limits::FETCH_BYTES_MAX as u32;
        let fetch = Fetch {
            partition,
            offset: next,
            max_bytes,
            wait_ms,
        };
        let (_, slices) = door.service.fetch_batches(fetch).await?;
        wait_ms = 0;
        if slices.is_empty() {
            break;
        }
        for slice in slices {
            next = rows_of(&slice, params.partition, partition, offset, max, &mut rows)?;
        }
    }
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    if accept.contains("application/x-ndjson") {
        let text: String = rows.iter().map(|r| format!("{r}\n")).collect();
        return Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response());
    }
    Ok(axum::Json(Value::Array(rows)).into_response())
}

/// Adds the records of whole batches to `rows`, those before `from` left out. Returns the offset
/// behind the last batch.
fn rows_of(
    slice: &bytes::Bytes,
    index: u32,
    partition: PartitionId,
    from: Offset,
    max: usize,
    rows: &mut Vec<Value>,
) -> Result<Offset, Problem> {
    let damaged = |e: batch::BatchError| {
        let what = format!("a batch of partition {partition} does not verify: {e}");
        Problem::new(ErrorCode::Damaged, what)
    };
    let (mut at, mut next) = (0, from);
    while at < slice.len() {
        let header = batch::verify(&slice[at..]).map_err(damaged)?;
        let (_, body) = batch::records(&slice.slice(at..)).map_err(damaged)?;
        for r in record::walk(&header, &body) {
            let r = r.map_err(damaged)?;
            if r.offset >= from && rows.len() < max {
                rows.push(row(index, &r));
            }
        }
        next = header.next_offset();
        at += header.size as usize;
    }
    Ok(next)
}

/// A record as JSON. Bytes that are UTF-8 are given as text, others in base64.
pub(crate) fn row(index: u32, r: &RecordView<'_>) -> Value {
    let mut row = Map::new();
    row.insert("partition".into(), index.into());
    row.insert("offset".into(), r.offset.0.into());
    row.insert("timestamp".into(), r.timestamp.into());
    put(&mut row, "key", r.key);
    put(&mut row, "value", r.value);
    let mut headers = Map::new();
    for h in r.headers() {
        let name = String::from_utf8_lossy(h.name).into_owned();
        put(&mut headers, &name, h.value);
    }
    row.insert("headers".into(), json!(headers));
    Value::Object(row)
}

fn put(row: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|b| std::str::from_utf8(b).map_err(|_| b)) {
        None => row.insert(name.into(), Value::Null),
        Some(Ok(text)) => row.insert(name.into(), text.into()),
        Some(Err(bytes)) => row.insert(
            format!("{name}_base64"),
            BASE64_STANDARD.encode(bytes).into(),
        ),
    };
}
