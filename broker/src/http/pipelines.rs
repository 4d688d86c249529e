//! `/api/v1/pipelines`: deploy, describe, pause, resume, delete, do again.

use super::Shared;
use super::problem::{Answer, Problem};
use super::read::parse_place;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use flowstone_wire::ErrorCode;
use flowstone_wire::native::{DeployPipelines, PipelineAction, PipelineShown, Place, TryPipelines};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    /// The statements.
    sql: String,
    /// Only say what would be deployed.
    #[serde(default)]
    dry_run: bool,
    /// The pipelines are there, and go on as they are said now.
    #[serde(default)]
    upgrade: bool,
}

pub(super) async fn deploy(
    State(door): Shared,
    body: Result<Json<Deploy>, JsonRejection>,
) -> Answer {
    let Json(d) = body?;
    let status = if d.dry_run || d.upgrade {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let request = DeployPipelines {
        text: d.sql,
        dry_run: d.dry_run,
        upgrade: d.upgrade,
    };
    let deployed = door.service.clone().deploy_pipelines(request).await?;
    Ok((status, Json(deployed)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Try {
    /// The statements.
    sql: String,
    /// The pipelines are there already.
    #[serde(default)]
    upgrade: bool,
    /// How many of the last records of each topic.
    #[serde(default = "records")]
    records: u64,
}

fn records() -> u64 {
    1_000
}

pub(super) async fn attempt(State(door): Shared, body: Result<Json<Try>, JsonRejection>) -> Answer {
    let Json(t) = body?;
    let request = TryPipelines {
        text: t.sql,
        upgrade: t.upgrade,
        records: t.records,
    };
    Ok(Json(door.service.clone().try_sql(request).await?).into_response())
}

pub(super) async fn describe(
    State(door): Shared,
    pipeline: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(pipeline) = pipeline?;
    let service = door.service.clone();
    let described = service.clone().describe_sql(Some(pipeline)).await?.pop();
    // Where a shard cannot say what it has done, the rest is shown.
    let running = service.pipelines().await.unwrap_or_default();
    let shown = described.map(|description| PipelineShown {
        numbers: running.into_iter().find(|p| p.name == description.name),
        description,
    });
    Ok(Json(shown).into_response())
}

pub(super) async fn delete(door: Shared, pipeline: Result<Path<String>, PathRejection>) -> Answer {
    control(door, pipeline, PipelineAction::Delete).await
}

pub(super) async fn pause(door: Shared, pipeline: Result<Path<String>, PathRejection>) -> Answer {
    control(door, pipeline, PipelineAction::Pause).await
}

pub(super) async fn resume(door: Shared, pipeline: Result<Path<String>, PathRejection>) -> Answer {
    control(door, pipeline, PipelineAction::Resume).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// `start`, or `@` and a time.
    #[serde(default = "start")]
    from: String,
}

fn start() -> String {
    "start".into()
}

pub(super) async fn replay(
    door: Shared,
    pipeline: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Answer {
    let from = match body.is_empty() {
        true => start(),
        false => Json::<Replay>::from_bytes(&body)?.0.from,
    };
    let from_ms = replay_from(&from)?;
    control(door, pipeline, PipelineAction::Replay { from_ms }).await
}

/// The time from which a pipeline is done again; `None` for the start.
pub(crate) fn replay_from(text: &str) -> Result<Option<i64>, Problem> {
    match parse_place(text)? {
        Err(Place::Start) => Ok(None),
        Err(Place::Time(ms)) => Ok(Some(ms)),
        _ => {
            let what = "a pipeline is done again from start, or from @ and a time";
            Err(Problem::new(ErrorCode::InvalidRequest, what))
        }
    }
}

pub(super) async fn switch(door: Shared, pipeline: Result<Path<String>, PathRejection>) -> Answer {
    control(door, pipeline, PipelineAction::Switch).await
}

async fn control(
    State(door): Shared,
    pipeline: Result<Path<String>, PathRejection>,
    action: PipelineAction,
) -> Answer {
    let Path(pipeline) = pipeline?;
    let service = door.service.clone();
    service.control_sql(pipeline, action).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
