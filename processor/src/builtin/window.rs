//! Tumbling windows over event time: count, sum, min, max and average of a number, by key.
//!
//! A window `[start, end)` is open from its first record until the watermark reaches its end plus
//! the allowed lateness; then it emits one record and is gone. A record for a window that is closed
//! goes to the late ones. State: one entry of 32 bytes and one event timer per open window and key.
//!
//! Behind another window, allow at least the lateness that the other one allows.

use super::scalar::number_field;
use super::{key_text, push_key, pushed_key, reject};
use crate::context::Context;
use crate::pipeline::invalid;
use crate::processor::{ProcessError, Processor, TimeKind, Timer};
use crate::record::Record;
use flowstone_wire::{Failure, Header};
use serde::Serialize;
use std::borrow::Cow;

/// A tumbling window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Name of the number field.
    pub field: String,
    /// Length of a window in milliseconds, at least 1; windows start at multiples of it since 1970.
    pub size_ms: i64,
    /// How long a window takes records beyond its end, in milliseconds.
    pub allowed_lateness_ms: i64,
}

/// A stage that closes windows with a JSON object `{"key", "window_start", "window_end", "count",
/// "sum", "min", "max", "avg"}`, of the record key and the time `window_end - 1`. `sum` and `avg`
/// are null if the sum leaves the range of a 64-bit float.
///
/// # Errors
/// [`Failure`] if the size or the lateness is out of range.
pub fn window(
    window: Window,
) -> Result<impl Fn() -> Box<dyn Processor> + Send + Sync + 'static, Failure> {
    if window.size_ms < 1 {
        return Err(invalid(format!(
            "window size_ms is {}: give at least 1",
            window.size_ms
        )));
    }
    if window.allowed_lateness_ms < 0 {
        return Err(invalid(format!(
            "window lateness_ms is {}: give 0 or more",
            window.allowed_lateness_ms
        )));
    }
    Ok(move || -> Box<dyn Processor> {
        Box::new(Windows {
            window: window.clone(),
            state_key: Vec::new(),
        })
    })
}

struct Windows {
    window: Window,
    /// Reused from record to record.
    state_key: Vec<u8>,
}

/// What a window has seen so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Aggregate {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

const AGGREGATE_BYTES: usize = 32;

impl Aggregate {
    const EMPTY: Self = Self {
        count: 0,
        sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    fn decode(bytes: &[u8]) -> Option<Self> {
        let part = |at| bytes.get(at..at + 8)?.try_into().ok();
        Some(Self {
            count: u64::from_le_bytes(part(0)?),
            sum: f64::from_le_bytes(part(8)?),
            min: f64::from_le_bytes(part(16)?),
            max: f64::from_le_bytes(part(24)?),
        })
    }

    fn encode(&self) -> [u8; AGGREGATE_BYTES] {
        let mut out = [0; AGGREGATE_BYTES];
        out[..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..16].copy_from_slice(&self.sum.to_le_bytes());
        out[16..24].copy_from_slice(&self.min.to_le_bytes());
        out[24..].copy_from_slice(&self.max.to_le_bytes());
        out
    }

    fn add(&mut self, number: f64) {
        self.count = self.count.saturating_add(1);
        self.sum += number;
        self.min = self.min.min(number);
        self.max = self.max.max(number);
    }
}

#[derive(Serialize)]
struct Closed<'a> {
    key: Option<Cow<'a, str>>,
    window_start: i64,
    window_end: i64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    avg: f64,
}

/// The record that a window emits.
struct Report<'k> {
    end: i64,
    key: Option<&'k [u8]>,
    json: Vec<u8>,
}

impl Windows {
    /// The window of a time: `start` up to but not including `end`.
    fn bounds(&self, timestamp: i64) -> (i64, i64) {
        let size_ms = self.window.size_ms;
        let start = timestamp.saturating_sub(timestamp.rem_euclid(size_ms));
        (start, start.saturating_add(size_ms))
    }

    fn load(&self, ctx: &Context<'_>, key: &[u8]) -> Result<Option<Aggregate>, ProcessError> {
        ctx.get(key)
            .map(|bytes| {
                Aggregate::decode(bytes).ok_or_else(|| {
                    reject(format!(
                        "the state of a window has {} bytes, not 32",
                        bytes.len()
                    ))
                })
            })
            .transpose()
    }

    /// What a window has to say when it closes.
    fn close<'k>(
        &self,
        state_key: &'k [u8],
        ctx: &Context<'_>,
    ) -> Result<Option<Report<'k>>, ProcessError> {
        let Some((start, key)) = split_state_key(state_key) else {
            return Err(reject("the key of a window is cut off"));
        };
        let Some(aggregate) = self.load(ctx, state_key)? else {
            return Ok(None);
        };
        let end = start.saturating_add(self.window.size_ms);
        let closed = Closed {
            key: key_text(key),
            window_start: start,
            window_end: end,
            count: aggregate.count,
            sum: aggregate.sum,
            min: aggregate.min,
            max: aggregate.max,
            avg: aggregate.sum / aggregate.count.max(1) as f64,
        };
        let json = serde_json::to_vec(&closed).map_err(|error| reject(error.to_string()))?;
        Ok(Some(Report { end, key, json }))
    }
}

fn set_state_key(out: &mut Vec<u8>, start: i64, key: Option<&[u8]>) {
    out.clear();
    out.extend_from_slice(&start.to_be_bytes());
    push_key(out, key);
}

fn split_state_key(bytes: &[u8]) -> Option<(i64, Option<&[u8]>)> {
    let (start, key) = bytes.split_first_chunk()?;
    Some((i64::from_be_bytes(*start), pushed_key(key)))
}

fn emit_late(record: &Record<'_>, (start, end): (i64, i64), ctx: &mut Context<'_>) {
    let window = format!("{start}..{end}");
    let mut headers: Vec<Header<'_>> = record.headers.iter().collect();
    headers.push(Header {
        name: b"x-late-window",
        value: Some(window.as_bytes()),
    });
    ctx.emit_late(record.timestamp, record.key, record.value, &headers);
}

impl Processor for Windows {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let (start, end) = self.bounds(record.timestamp);
        let close_ms = end.saturating_add(self.window.allowed_lateness_ms);
        if close_ms <= ctx.watermark() {
            emit_late(record, (start, end), ctx);
            return Ok(());
        }
        let number = number_field(record.value, &self.window.field)?;
        set_state_key(&mut self.state_key, start, record.key);
        let known = self.load(ctx, &self.state_key)?;
        if known.is_none() {
            ctx.set_timer(Timer {
                kind: TimeKind::Event,
                at_ms: close_ms,
                key: self.state_key.clone(),
            });
        }
        let mut aggregate = known.unwrap_or(Aggregate::EMPTY);
        aggregate.add(number);
        ctx.put(&self.state_key, &aggregate.encode());
        Ok(())
    }

    fn on_timer(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        if let Some(Report { end, key, json }) = self.close(&timer.key, ctx)? {
            ctx.delete(&timer.key);
            ctx.emit(end.saturating_sub(1), key, Some(&json), &[]);
        }
        Ok(())
    }

    fn on_timer_rejected(&mut self, timer: &Timer, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        let closed = self.close(&timer.key, ctx).ok().flatten();
        ctx.delete(&timer.key);
        closed.map(|report| report.json)
    }
}

#[cfg(test)]
mod tests;
