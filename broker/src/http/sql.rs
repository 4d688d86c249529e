//! `POST /api/v1/sql`: a query, answered as its rows are computed.

use super::Shared;
use super::problem::{Answer, as_json, not_acceptable};
use crate::queries::{Piece, Running};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flowstone_query::{Encoder, Format, Options};
use flowstone_wire::native::QueryKind;
use flowstone_wire::{ErrorCode, Failure};
use hyper::body::Frame;
use serde::Deserialize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The trailer that says what a query took.
const STATISTICS: &str = "flowstone-statistics";
/// Formats by the names that `Accept` knows them by.
const FORMATS: [(&str, Format); 4] = [
    ("application/json", Format::Array),
    ("application/x-ndjson", Format::Lines),
    ("application/vnd.apache.arrow.stream", Format::Arrow),
    ("text/event-stream", Format::Events),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// Streams, then one query.
    sql: String,
    /// Where a query that follows what comes begins.
    #[serde(default)]
    from: Begin,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Begin {
    /// With what is there.
    Start,
    /// With what comes.
    #[default]
    End,
}

pub(super) async fn ask(
    State(door): Shared,
    headers: HeaderMap,
    body: Result<Json<Ask>, JsonRejection>,
) -> Answer {
    let Json(ask) = body?;
    let Some(accepted) = accepted(&headers) else {
        return Ok(not_acceptable(&told(&FORMATS)));
    };
    let options = Options {
        from_start: ask.from == Begin::Start,
    };
    let choose = Box::new(move |kind| choose(&accepted, kind));
    let mut running = door.service.query(ask.sql, options, choose).await?;
    let mut first = None;
    if running.kind != QueryKind::Changes {
        // What fails before the first row is told with its status.
        first = Some(running.next().await?);
    }
    Ok(respond(running, first))
}

/// The formats that the peer takes, those it likes best first; `None` if there are none.
/// <https://www.rfc-editor.org/rfc/rfc9110#name-accept>
fn accepted(headers: &HeaderMap) -> Option<Vec<Format>> {
    let values = headers.get_all(header::ACCEPT).iter();
    let text: Vec<&str> = values.filter_map(|v| v.to_str().ok()).collect();
    if text.is_empty() {
        return Some(FORMATS.map(|(_, format)| format).to_vec());
    }
    let mut wanted: Vec<(f32, Vec<Format>)> = Vec::new();
    for range in text.iter().flat_map(|t| t.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts
            .find_map(|p| p.strip_prefix("q="))
            .map(str::parse::<f32>);
        let weight = weight.map_or(1.0, |w| w.unwrap_or(0.0));
        let fits = |known: &str| match name.strip_suffix('*') {
            Some("*/") => true,
            Some(kind) => known.starts_with(kind),
            None => known == name,
        };
        let fitting = FORMATS.iter().filter(|(known, _)| fits(known));
        if weight > 0.0 {
            wanted.push((weight, fitting.map(|(_, format)| *format).collect()));
        }
    }
    wanted.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let formats: Vec<Format> = wanted
        .into_iter()
        .flat_map(|(_, formats)| formats)
        .collect();
    (!formats.is_empty()).then_some(formats)
}

/// What is written without an end has no array around it, and its columns are not Arrow's.
fn choose(accepted: &[Format], kind: QueryKind) -> Result<Format, Failure> {
    let fits =
        |f: &&Format| kind != QueryKind::Changes || matches!(f, Format::Lines | Format::Events);
    accepted.iter().find(fits).copied().ok_or_else(|| {
        let what =
            "a query with EMIT does not end: accept application/x-ndjson or text/event-stream";
        Failure::new(ErrorCode::InvalidRequest, what)
    })
}

fn told(formats: &[(&str, Format)]) -> String {
    let names: Vec<&str> = formats.iter().map(|(name, _)| *name).collect();
    format!("accept one of {}", names.join(", "))
}

fn respond(running: Running, first: Option<Piece>) -> Response {
    let kind = FORMATS.iter().find(|(_, f)| *f == running.format);
    let kind = kind.map_or("application/octet-stream", |(name, _)| *name);
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::TRAILER, STATISTICS),
    ];
    let body = Rows {
        running,
        first,
        state: Stage::Rows,
    };
    (headers, Body::new(body)).into_response()
}

/// What comes next in a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Rows,
    /// The connection is broken off, so that nobody takes what came for the whole.
    Failed,
    Over,
}

/// The body: pieces as they come, then what the query took. A peer that has gone drops it, which ends
/// the query.
struct Rows {
    running: Running,
    first: Option<Piece>,
    state: Stage,
}

impl Rows {
    fn trailers(&self) -> HeaderMap {
        let statistics = serde_json::json!(self.running.counters.statistics()).to_string();
        let mut trailers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(ascii(&statistics).as_bytes()) {
            trailers.insert(STATISTICS, value);
        }
        trailers
    }
}

/// JSON without anything that a header cannot hold.
fn ascii(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

impl hyper::body::Body for Rows {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.state {
            Stage::Over => return Poll::Ready(None),
            Stage::Failed => {
                self.state = Stage::Over;
                let what = "the query failed behind the rows that were given out";
                return Poll::Ready(Some(Err(Failure::new(ErrorCode::Internal, what))));
            }
            Stage::Rows => {}
        }
        let piece = match self.first.take() {
            Some(first) => Ok(first),
            None => ready!(self.running.poll_next(cx)),
        };
        Poll::Ready(match piece {
            Ok(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Ok(Piece::End) => {
                self.state = Stage::Over;
                Some(Ok(Frame::trailers(self.trailers())))
            }
            Err(failure) => {
                tracing::debug!("a query over HTTP failed: {failure}");
                // Lines and events say for themselves that they failed: breaking the connection off could
                // take that away before it is sent.
                self.state = match self.running.format {
                    Format::Lines | Format::Events => Stage::Over,
                    Format::Array | Format::Arrow => Stage::Failed,
                };
                let told = Encoder::failed(self.running.format, &as_json(&failure));
                Some(Ok(Frame::data(told)))
            }
        })
    }
}
