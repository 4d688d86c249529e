//! Errors as RFC 9457 problem documents with a stable `type`.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flowstone_wire::error::Retry;
use flowstone_wire::{ErrorCode, Failure};
use serde_json::json;

/// A failure on its way to an HTTP peer.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) Failure);

/// What a handler gives.
pub(crate) type Answer<T = Response> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Failure::new(code, message))
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                    ErrorCode::TooLarge
                } else {
                    ErrorCode::InvalidRequest
                };
                Self::new(code, rejection.body_text())
            }
        }
    )*};
}
from_rejection!(BytesRejection, JsonRejection, PathRejection, QueryRejection);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status());
        document(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &self.0)
    }
}

fn document(status: StatusCode, failure: &Failure) -> Response {
    let code = failure.code;
    let body = Json(describe(status, failure));
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    if code.retry() == Retry::Later {
        return (status, kind, [(header::RETRY_AFTER, "1")], body).into_response();
    }
    (status, kind, body).into_response()
}

/// The members of a problem document.
fn describe(status: StatusCode, failure: &Failure) -> serde_json::Value {
    let code = failure.code;
    json!({
        "type": format!("urn:flowstone:problem:{}", code.name()),
        "title": code.name().replace('-', " "),
        "status": status.as_u16(),
        "detail": failure.message,
        "code": code.number(),
        "retryable": code.retry() != Retry::Never,
    })
}

/// A failure as the document that it would be, for answers that have begun.
pub(super) fn as_json(failure: &Failure) -> serde_json::Value {
    let status = StatusCode::from_u16(failure.code.http_status());
    describe(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), failure)
}

/// An answer for those who take nothing that there is.
pub(super) fn not_acceptable(what: &str) -> Response {
    let failure = Failure::new(ErrorCode::InvalidRequest, what);
    document(StatusCode::NOT_ACCEPTABLE, &failure)
}

/// A whole answer for those who come when all places are taken.
pub(super) fn no_room() -> String {
    let failure = Failure::new(
        ErrorCode::Busy,
        "there are too many connections; close some, or try again",
    );
    let status = StatusCode::TOO_MANY_REQUESTS;
    let body = describe(status, &failure).to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) async fn no_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    Problem::new(ErrorCode::NotFound, format!("there is nothing at '{path}'"))
}

pub(super) async fn no_method(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(100).collect();
    let what = format!("'{path}' does not take this method");
    document(
        StatusCode::METHOD_NOT_ALLOWED,
        &Failure::new(ErrorCode::InvalidRequest, what),
    )
}
