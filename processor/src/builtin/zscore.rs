//! Alerts on numbers that are unlike the last ones of their key.
//!
//! Every number is held against the mean and the standard deviation (of the whole population) of the
//! last `samples` numbers before it, then takes its place among them.
//!
//! ```text
//! state, for every key:
//! key length (4, big-endian; all ones = no key) | key             -> count, next slot, mean, m2, peak
//! key length                                    | key | slot (4)  -> number
//! ```
//!
//! Mean and m2 (the sum of squared distances from the mean) follow the ring by Welford's update; they
//! are computed anew from the ring once per round, and whenever m2 has fallen so far below its peak
//! that rounding would show, as when a very large number leaves the ring.

use super::scalar::number_field;
use super::{key_text, reject};
use crate::context::Context;
use crate::pipeline::invalid;
use crate::processor::{ProcessError, Processor};
use crate::record::Record;
use flowstone_wire::Failure;
use serde::Serialize;
use std::borrow::Cow;

/// Most numbers that a detector looks back on, per key.
pub const ZSCORE_SAMPLES_MAX: u32 = 100_000;

/// If m2 falls below this share of its peak, it is computed anew.
const RECOMPUTE_BELOW: f64 = 1e-6;
/// Larger numbers are rejected, so that no sum of squares overflows.
const NUMBER_MAX: f64 = 1e150;

/// A detector of unlike numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Zscore {
    /// Name of the number field.
    pub field: String,
    /// How many of the last numbers of a key make up the expectation, 2 to 100,000. A smaller one
    /// than before starts the keys anew.
    pub samples: u32,
    /// No alerts before there are that many, 2 to `samples`.
    pub min_samples: u32,
    /// Alert from this many standard deviations on, more than 0.
    pub threshold: f64,
}

impl Zscore {
    fn check(&self) -> Result<(), Failure> {
        if !(2..=ZSCORE_SAMPLES_MAX).contains(&self.samples) {
            return Err(invalid(format!(
                "zscore samples is {}: give 2 to {ZSCORE_SAMPLES_MAX}",
                self.samples
            )));
        }
        if !(2..=self.samples).contains(&self.min_samples) {
            return Err(invalid(format!(
                "zscore min_samples is {}: give 2 to {} (samples)",
                self.min_samples, self.samples
            )));
        }
        if !(self.threshold.is_finite() && self.threshold > 0.0) {
            return Err(invalid(format!(
                "zscore threshold is {}: give a number above 0",
                self.threshold
            )));
        }
        Ok(())
    }
}

/// A stage that emits a JSON object `{"key", "timestamp", "value", "mean", "stddev", "z"}`, with the
/// key and the time of the record, for every number that is `threshold` or more standard deviations
/// away from the mean. As long as all numbers before were equal there is no alert. Numbers beyond
/// 1e150 are rejected.
///
/// # Errors
/// [`Failure`] if a setting is out of range.
pub fn zscore(
    zscore: Zscore,
) -> Result<impl Fn() -> Box<dyn Processor> + Send + Sync + 'static, Failure> {
    zscore.check()?;
    Ok(move || -> Box<dyn Processor> {
        Box::new(Detector {
            zscore: zscore.clone(),
            state_key: Vec::new(),
        })
    })
}

struct Detector {
    zscore: Zscore,
    /// Reused from record to record.
    state_key: Vec<u8>,
}

/// The first entry of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Summary {
    count: u32,
    next: u32,
    mean: f64,
    m2: f64,
    /// The largest m2 since it was computed anew.
    peak: f64,
}

const SUMMARY_BYTES: usize = 32;

impl Summary {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SUMMARY_BYTES] = bytes.try_into().ok()?;
        let (count, rest) = bytes.split_first_chunk()?;
        let (next, rest) = rest.split_first_chunk()?;
        let (mean, rest) = rest.split_first_chunk()?;
        let (m2, peak) = rest.split_first_chunk()?;
        Some(Self {
            count: u32::from_le_bytes(*count),
            next: u32::from_le_bytes(*next),
            mean: f64::from_le_bytes(*mean),
            m2: f64::from_le_bytes(*m2),
            peak: f64::from_le_bytes(peak.try_into().ok()?),
        })
    }

    fn encode(&self) -> [u8; SUMMARY_BYTES] {
        let mut out = [0; SUMMARY_BYTES];
        out[..4].copy_from_slice(&self.count.to_le_bytes());
        out[4..8].copy_from_slice(&self.next.to_le_bytes());
        out[8..16].copy_from_slice(&self.mean.to_le_bytes());
        out[16..24].copy_from_slice(&self.m2.to_le_bytes());
        out[24..].copy_from_slice(&self.peak.to_le_bytes());
        out
    }

    /// The standard deviation; 0 where it is no more than rounding.
    fn stddev(&self) -> f64 {
        let stddev = (self.m2.max(0.0) / f64::from(self.count.max(1))).sqrt();
        if stddev > 4.0 * f64::EPSILON * self.mean.abs() {
            stddev
        } else {
            0.0
        }
    }

    /// Takes `number` in, in the place of `old` if the ring is full. Says whether the result is to be
    /// trusted.
    fn replace(&mut self, old: Option<f64>, number: f64) -> bool {
        match old {
            None => self.add(number),
            Some(old) if old == number => {}
            Some(old) => {
                let (step, mean) = (number - old, self.mean);
                self.mean += step / f64::from(self.count.max(1));
                self.m2 += step * (number - self.mean + old - mean);
            }
        }
        self.peak = self.peak.max(self.m2);
        self.m2 >= self.peak * RECOMPUTE_BELOW
    }

    fn add(&mut self, number: f64) {
        self.count += 1;
        let distance = number - self.mean;
        self.mean += distance / f64::from(self.count);
        self.m2 += distance * (number - self.mean);
    }

    /// Computes count, mean and m2 anew.
    fn recompute(&mut self, numbers: impl Iterator<Item = f64>) {
        let next = self.next;
        *self = Self::default();
        for number in numbers {
            self.add(number);
        }
        (self.next, self.peak) = (next, self.m2);
    }
}

#[derive(Serialize)]
struct Alert<'a> {
    key: Option<Cow<'a, str>>,
    timestamp: i64,
    value: f64,
    mean: f64,
    stddev: f64,
    z: f64,
}

impl Detector {
    fn alert(&self, summary: &Summary, number: f64, record: &Record<'_>) -> Option<Alert<'_>> {
        let stddev = summary.stddev();
        let z = if stddev > 0.0 {
            (number - summary.mean) / stddev
        } else {
            0.0
        };
        let is_unlike =
            summary.count >= self.zscore.min_samples && z.abs() >= self.zscore.threshold;
        is_unlike.then(|| Alert {
            key: key_text(record.key).map(|key| Cow::Owned(key.into_owned())),
            timestamp: record.timestamp,
            value: number,
            mean: summary.mean,
            stddev,
            z,
        })
    }

    /// What is known of the key in `state_key`.
    fn summary(&self, ctx: &mut Context<'_>) -> Result<Summary, ProcessError> {
        let Some(bytes) = ctx.get(&self.state_key) else {
            return Ok(Summary::default());
        };
        let summary = Summary::decode(bytes).ok_or_else(|| {
            let len = bytes.len();
            reject(format!(
                "the state of a detector has {len} bytes, not {SUMMARY_BYTES}"
            ))
        })?;
        if summary.count <= self.zscore.samples && summary.next < self.zscore.samples {
            return Ok(summary);
        }
        let entries = ctx.scan(&self.state_key).map(|(key, _)| key.to_vec());
        for key in entries.collect::<Vec<_>>() {
            ctx.delete(&key);
        }
        Ok(Summary::default())
    }

    /// Takes `number` into the ring and the summary of the key in `state_key`.
    fn take_in(&mut self, mut summary: Summary, number: f64, ctx: &mut Context<'_>) {
        let prefix_len = self.state_key.len();
        let slot = summary.next;
        self.state_key.extend_from_slice(&slot.to_be_bytes());
        let old = ctx.get(&self.state_key).and_then(decode_number);
        let is_exact = summary.replace(old, number);
        summary.next = (slot + 1) % self.zscore.samples;
        ctx.put(&self.state_key, &number.to_le_bytes());
        self.state_key.truncate(prefix_len);
        if !is_exact || summary.next == 0 {
            let slots = ctx
                .scan(&self.state_key)
                .filter(|(key, _)| key.len() > prefix_len);
            summary.recompute(slots.filter_map(|(_, value)| decode_number(value)));
        }
        ctx.put(&self.state_key, &summary.encode());
    }
}

fn decode_number(bytes: &[u8]) -> Option<f64> {
    Some(f64::from_le_bytes(bytes.try_into().ok()?))
}

fn set_state_key(out: &mut Vec<u8>, key: Option<&[u8]>) {
    out.clear();
    let len = key.map_or(u32::MAX, |key| key.len() as u32);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(key.unwrap_or_default());
}

impl Processor for Detector {
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let number = number_field(record.value, &self.zscore.field)?;
        if number.abs() > NUMBER_MAX {
            return Err(reject(format!(
                "{number} is too large: give up to {NUMBER_MAX:e}"
            )));
        }
        set_state_key(&mut self.state_key, record.key);
        let summary = self.summary(ctx)?;
        if let Some(alert) = self.alert(&summary, number, record) {
            let json = serde_json::to_vec(&alert).map_err(|error| reject(error.to_string()))?;
            ctx.emit(record.timestamp, record.key, Some(&json), &[]);
        }
        self.take_in(summary, number, ctx);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
