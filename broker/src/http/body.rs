//! Bodies of requests: read as a whole, in time, and within what all of them together may take.

use super::Shared;
use super::problem::{Answer, Problem};
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use flowstone_wire::ErrorCode;
use flowstone_wire::limits::HTTP_BODY_BYTES_MAX;
use std::time::Duration;

/// A body is here as a whole by then, or it is not waited for.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies that are read or worked on at the same time, in bytes; others wait for their turn.
pub(super) const ALL_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(ALL_BYTES_MAX >= 2 * HTTP_BODY_BYTES_MAX);

/// Reads the body before the handler is asked.
pub(super) async fn read(State(door): Shared, request: Request, next: Next) -> Answer {
    let hint = request.body().size_hint();
    if hint.exact() == Some(0) {
        return Ok(next.run(request).await);
    }
    if hint.lower() > HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let most = hint.upper().unwrap_or(HTTP_BODY_BYTES_MAX as u64);
    let bytes = most.min(HTTP_BODY_BYTES_MAX as u64) as u32;
    let (head, body) = request.into_parts();
    let reading = async {
        let room = door.bodies.acquire_many(bytes).await;
        (room, axum::body::to_bytes(body, HTTP_BODY_BYTES_MAX).await)
    };
    let Ok((_room, body)) = tokio::time::timeout(TIMEOUT, reading).await else {
        let what = format!("the body did not come within {} s", TIMEOUT.as_secs());
        return Err(Problem::new(ErrorCode::Timeout, what));
    };
    match body {
        Ok(body) => Ok(next.run(Request::from_parts(head, Body::from(body))).await),
        // What is longer than it may be was read no further.
        Err(e) if e.to_string().contains("length limit") => Err(too_large()),
        Err(e) => Err(Problem::new(ErrorCode::InvalidRequest, e.to_string())),
    }
}

fn too_large() -> Problem {
    let what = format!("the body is over {HTTP_BODY_BYTES_MAX} bytes; send less at once");
    Problem::new(ErrorCode::TooLarge, what)
}
