//! `/api/v1/cluster`: how it stands, and what an operator changes.

use super::Shared;
use super::problem::Answer;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use flowstone_wire::native::{ClusterChange, MakeToken};
use flowstone_wire::{ErrorCode, Failure, NodeId, ShardId};
use serde::Deserialize;

pub(super) async fn status(State(door): Shared) -> Answer {
    Ok(Json(door.service.cluster_status().await).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copies {
    group: Option<String>,
    copies: Option<u8>,
}

pub(super) async fn set_copies(
    State(door): Shared,
    body: Result<Json<Copies>, JsonRejection>,
) -> Answer {
    let Json(Copies { group, copies }) = body?;
    change(door, ClusterChange::SetCopies { group, copies }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeState {
    state: String,
}

pub(super) async fn set_node(
    State(door): Shared,
    node: Result<Path<u32>, PathRejection>,
    body: Result<Json<NodeState>, JsonRejection>,
) -> Answer {
    let (Path(node), Json(body)) = (node?, body?);
    let node = NodeId(node);
    let change_of = match &body.state[..] {
        "draining" => ClusterChange::Drain { node },
        "active" => ClusterChange::Undrain { node },
        "removed" => ClusterChange::Remove { node },
        _ => {
            let what = "a node is made `draining`, `active` or `removed`";
            return Err(Failure::new(ErrorCode::InvalidRequest, what).into());
        }
    };
    change(door, change_of).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    leader: u32,
}

pub(super) async fn transfer(
    State(door): Shared,
    shard: Result<Path<u16>, PathRejection>,
    body: Result<Json<Transfer>, JsonRejection>,
) -> Answer {
    let (Path(shard), Json(body)) = (shard?, body?);
    let (shard, to) = (ShardId(shard), NodeId(body.leader));
    change(door, ClusterChange::Transfer { shard, to }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    #[serde(default)]
    witness: bool,
    #[serde(default = "an_hour")]
    valid_s: u64,
}

fn an_hour() -> u64 {
    3600
}

pub(super) async fn make_token(
    State(door): Shared,
    body: Result<Json<Token>, JsonRejection>,
) -> Answer {
    let Json(Token { witness, valid_s }) = body?;
    let asked = MakeToken { witness, valid_s };
    let answer = door.service.clone().make_token(asked).await?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn change(door: std::sync::Arc<super::Door>, change: ClusterChange) -> Answer {
    door.service.clone().change_cluster(change).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
