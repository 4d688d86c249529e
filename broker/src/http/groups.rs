//! `/api/v1/groups`: positions of consumer groups.

use super::Shared;
use super::problem::{Answer, Problem};
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use flowstone_wire::native::GroupOffset;
use flowstone_wire::{ErrorCode, Offset, PartitionId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    topic: String,
    partition: u32,
    offset: u64,
    #[serde(default)]
    note: String,
}

pub(super) async fn list(State(door): Shared) -> Answer {
    Ok(Json(door.service.groups().await?).into_response())
}

pub(super) async fn read(
    State(door): Shared,
    group: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(group) = group?;
    let offsets = door.service.read_offsets(&group, Vec::new()).await?;
    let catalog = door.service.catalog();
    let mut names: HashMap<PartitionId, (String, usize)> = HashMap::new();
    for topic in catalog.topics() {
        for (index, p) in topic.partitions.iter().enumerate() {
            names.insert(p.id, (topic.name.clone(), index));
        }
    }
    let rows: Vec<Value> = offsets
        .into_iter()
        .filter_map(|o| {
            let (topic, partition) = names.get(&o.partition)?;
            Some(json!({
                "topic": topic, "partition": partition, "offset": o.offset, "note": o.note,
            }))
        })
        .collect();
    Ok(Json(rows).into_response())
}

pub(super) async fn commit(
    State(door): Shared,
    group: Result<Path<String>, PathRejection>,
    body: Result<Json<Vec<Position>>, JsonRejection>,
) -> Answer {
    let Path(group) = group?;
    let Json(positions) = body?;
    let catalog = door.service.catalog();
    let mut offsets = Vec::new();
    for p in positions {
        let topic = catalog.topic(&p.topic)?;
        let Some(partition) = topic.partitions.get(p.partition as usize) else {
            let what = format!("topic '{}' has no partition {}", topic.name, p.partition);
            return Err(Problem::new(ErrorCode::UnknownPartition, what));
        };
        let (partition, offset) = (partition.id, Offset(p.offset));
        offsets.push(GroupOffset {
            partition,
            offset,
            note: p.note,
        });
    }
    door.service.commit_offsets(&group, offsets).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
