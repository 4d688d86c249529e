//! `POST /api/v1/events/{topic}`: one event, or one a line.

use super::problem::{Answer, Problem};
use super::{Door, Shared};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flowstone_wire::native::{Acks, ProduceAnswer, Topic};
use flowstone_wire::partitioner::partition_for_key;
use flowstone_wire::{BatchBuilder, CheckedBatch, Codec, ErrorCode, Header, ProducerId};
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Request headers with this prefix become record headers without it.
const EVENT_PREFIX: &str = "x-event-";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    key: Option<String>,
    partition: Option<u32>,
    #[serde(default)]
    acks: Acks,
}

pub(super) async fn post(
    State(door): Shared,
    topic: Result<Path<String>, PathRejection>,
    params: Result<Query<Params>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let Path(topic) = topic?;
    let (Query(params), body) = (params?, body?);
    let topic = door.service.catalog().topic(&topic)?.clone();
    let producer = match headers.get("idempotency-key") {
        Some(key) => Some(
            door.idempotency
                .producer(&topic.name, key.as_bytes(), &body)?,
        ),
        None => None,
    };
    let index = choose(&door, &topic, &params, producer)?;
    let lines = is_ndjson(&headers);
    let batches = build(&body, lines, params.key.as_deref(), &headers, producer)?;
    let partition = topic.partitions[index as usize].id;
    let mut first: Option<ProduceAnswer> = None;
    let mut count = 0;
    // Handed over one behind the other, so that they stand in order; then waited for.
    let mut produced = Vec::new();
    for batch in batches {
        count += batch.header().record_count;
        produced.push(door.service.produce(partition, batch, params.acks));
    }
    for answer in produced {
        let answer = answer.await?;
        first.get_or_insert(answer);
    }
    Ok(created(&topic, index, first, count))
}

fn created(topic: &Topic, index: u32, first: Option<ProduceAnswer>, count: u32) -> Response {
    let offset = first.map_or(0, |a| a.base_offset.0);
    let duplicate = first.is_some_and(|a| a.duplicate);
    let status = if duplicate {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let body = json!({
        "partition": index,
        "offset": offset,
        "count": count,
        "id": format!("{}/{index}/{offset}", topic.name),
        "duplicate": duplicate,
    });
    (status, Json(body)).into_response()
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    kind.split(';')
        .next()
        .is_some_and(|k| k.trim().eq_ignore_ascii_case("application/x-ndjson"))
}

/// The index of the partition: as told, by key, by idempotency key, or the next in turn.
fn choose(
    door: &Door,
    topic: &Topic,
    params: &Params,
    producer: Option<ProducerId>,
) -> Result<u32, Problem> {
    let count = topic.partitions.len() as u32;
    if let Some(index) = params.partition {
        if index >= count {
            let what = format!("topic '{}' has partitions 0 to {}", topic.name, count - 1);
            return Err(Problem::new(ErrorCode::UnknownPartition, what));
        }
        return Ok(index);
    }
    Ok(match (&params.key, producer) {
        (Some(key), _) => partition_for_key(key.as_bytes(), count),
        // A retry must find the same partition.
        (None, Some(producer)) => partition_for_key(&producer.0.to_le_bytes(), count),
        (None, None) => door.next_partition.fetch_add(1, Ordering::Relaxed) % count,
    })
}

fn build(
    body: &[u8],
    lines: bool,
    key: Option<&str>,
    headers: &HeaderMap,
    producer: Option<ProducerId>,
) -> Result<Vec<CheckedBatch>, Problem> {
    let kept: Vec<Header<'_>> = headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str();
            let name = if name == "traceparent" {
                name
            } else {
                name.strip_prefix(EVENT_PREFIX)?
            };
            Some(Header {
                name: name.as_bytes(),
                value: Some(value.as_bytes()),
            })
        })
        .collect();
    let key = key.map(str::as_bytes);
    let now = crate::worker::unix_ms();
    let mut batches = Batches {
        producer,
        ..Batches::default()
    };
    if lines {
        for line in body.split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                batches.push(now, key, line, &kept)?;
            }
        }
    } else {
        batches.push(now, key, body, &kept)?;
    }
    batches.finish()
}

/// Batches of one request; more than one only where they do not fit.
#[derive(Default)]
struct Batches {
    producer: Option<ProducerId>,
    sequence: u32,
    open: Option<BatchBuilder>,
    full: Vec<CheckedBatch>,
}

impl Batches {
    fn push(
        &mut self,
        now: i64,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[Header<'_>],
    ) -> Result<(), Problem> {
        for _ in 0..2 {
            let builder = self
                .open
                .get_or_insert_with(|| BatchBuilder::new(Codec::None));
            if builder.push(now, key, Some(value), headers) {
                return Ok(());
            }
            if builder.is_empty() {
                break;
            }
            self.close();
        }
        let what = format!(
            "an event of {} bytes, with its key and headers, is over the limits: 4 MiB of value, \
             64 KiB of key, 64 headers of 64 KiB together",
            value.len()
        );
        Err(Problem::new(ErrorCode::TooLarge, what))
    }

    fn close(&mut self) {
        let Some(mut builder) = self.open.take().filter(|b| !b.is_empty()) else {
            return;
        };
        if let Some(id) = self.producer {
            builder.set_producer(id, 0, self.sequence);
            self.sequence += builder.count();
        }
        self.full.push(builder.finish());
    }

    fn finish(mut self) -> Result<Vec<CheckedBatch>, Problem> {
        self.close();
        if self.full.is_empty() {
            return Err(Problem::new(
                ErrorCode::InvalidRequest,
                "there is no event in the body",
            ));
        }
        Ok(self.full)
    }
}
