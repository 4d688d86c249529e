//! `/api/v1/topics`: make, list, describe, delete.

use super::Shared;
use super::problem::Answer;
use crate::topic_json::topic_json;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use flowstone_wire::native::{TopicSettings, Visibility};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    name: String,
    #[serde(default = "one")]
    partitions: u32,
    placement: Option<String>,
    retention_bytes: Option<u64>,
    retention_ms: Option<u64>,
    #[serde(default)]
    visibility: Visibility,
    #[serde(default)]
    compact: bool,
    tombstone_ms: Option<u64>,
    local_retention_bytes: Option<u64>,
    local_retention_ms: Option<u64>,
}

fn one() -> u32 {
    1
}

pub(super) async fn create(
    State(door): Shared,
    body: Result<Json<Create>, JsonRejection>,
) -> Answer {
    let Json(c) = body?;
    let settings = TopicSettings {
        placement: c.placement,
        retention_bytes: c.retention_bytes,
        retention_ms: c.retention_ms,
        visibility: c.visibility,
        compact: c.compact,
        tombstone_ms: c.tombstone_ms,
        local_retention_bytes: c.local_retention_bytes,
        local_retention_ms: c.local_retention_ms,
    };
    let topic = door
        .service
        .clone()
        .create_topic(c.name, c.partitions, settings)
        .await?;
    Ok((StatusCode::CREATED, Json(topic_json(&topic))).into_response())
}

pub(super) async fn list(State(door): Shared) -> Answer {
    let topics: Vec<Value> = door.service.topics(&[])?.iter().map(topic_json).collect();
    Ok(Json(topics).into_response())
}

pub(super) async fn describe(
    State(door): Shared,
    topic: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(topic) = topic?;
    let status = door.service.describe_topic(&topic).await?;
    let partition = |(index, p): (usize, &flowstone_wire::native::PartitionStatus)| {
        json!({
            "partition": index,
            "start": p.start,
            "committed": p.committed,
            "end": p.end,
            "bytes": p.bytes,
            "settled_segments": p.settled_segments,
            "shard": status.topic.partitions[index].shard,
        })
    };
    let mut body = topic_json(&status.topic);
    body["partition_status"] = status
        .partitions
        .iter()
        .enumerate()
        .map(partition)
        .collect::<Vec<_>>()
        .into();
    Ok(Json(body).into_response())
}

pub(super) async fn delete(
    State(door): Shared,
    topic: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(topic) = topic?;
    door.service.clone().delete_topic(topic).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
