//! Health, metrics, version, pipelines and shards.

use super::Shared;
use super::problem::Answer;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The process is alive; nothing is asked of the disk.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The node takes requests; if not, why. What shards of a cluster lack is said, and is no reason to send
/// requests elsewhere: every node passes them on.
pub(super) async fn readyz(State(door): Shared) -> Response {
    let lacking = match door.service.not_ready() {
        Some(why) => Err(why),
        None => door.service.lacking().await,
    };
    let lacking = match lacking {
        Ok(lacking) => lacking,
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    };
    let lines = lacking
        .iter()
        .map(|(shard, what)| format!("shard {shard}: {what}\n"));
    let page: String = std::iter::once("ready\n".to_string())
        .chain(lines)
        .collect();
    page.into_response()
}

pub(super) async fn metrics(State(door): Shared) -> Answer {
    let statuses = door.service.statuses_here().await?;
    let tier = door.service.tier_status_of(&statuses);
    let up_s = door.service.uptime_s();
    let cluster = door.service.cluster_status().await;
    let page = door
        .service
        .metrics
        .render(up_s, &statuses, tier.as_ref(), &cluster);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((kind, page).into_response())
}

pub(super) async fn version() -> Response {
    let body = json!({ "name": "flowstone", "version": env!("CARGO_PKG_VERSION") });
    Json(body).into_response()
}

pub(super) async fn pipelines(State(door): Shared) -> Answer {
    Ok(Json(door.service.pipelines().await?).into_response())
}

/// How the tier stands; `null` where there is none.
pub(super) async fn tier(State(door): Shared) -> Answer {
    Ok(Json(door.service.tier_status().await?).into_response())
}

pub(super) async fn shards(State(door): Shared) -> Answer {
    let shards: Vec<_> = door
        .service
        .statuses()
        .await?
        .into_iter()
        .map(|s| s.shard)
        .collect();
    Ok(Json(shards).into_response())
}
