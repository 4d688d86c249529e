//! Measuring: the machine's raw figures, and Flowstone's beside them, taken in one run.
//!
//! Absolute times on shared machines mean little; ratios to what the same machine does without
//! Flowstone mean more. Latencies are open loop: they count from the *intended* time of sending, so
//! that a stall is felt by everything that should have happened during it.

pub mod in_process;
pub mod raw;
pub mod tcp;

use crate::broker::{Broker, StartError};
use crate::config::Config;
use hdrhistogram::Histogram;
use std::path::Path;
use std::time::Duration;

/// Times in nanoseconds, up to a minute, with three digits.
pub type Times = Histogram<u64>;

/// An empty histogram of nanoseconds.
pub fn times() -> Times {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

/// A quantile in microseconds.
pub fn us(times: &Times, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

/// Notes a duration; what is longer than the histogram counts as its longest.
pub fn note(times: &mut Times, took: Duration) {
    times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// A figure and what it stands beside.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The raw figure of the machine that it is held against.
    pub raw: Option<f64>,
    /// The figure over the raw one.
    pub ratio: Option<f64>,
    /// What it should reach, in its unit.
    pub target: Option<f64>,
}

impl Figure {
    /// A figure by itself.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            raw: None,
            ratio: None,
            target: None,
        }
    }

    /// Beside a raw figure.
    #[must_use]
    pub fn beside(mut self, raw: f64) -> Self {
        self.raw = Some(raw);
        self.ratio = (raw > 0.0).then(|| self.value / raw);
        self
    }

    /// With what it should reach.
    #[must_use]
    pub fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }
}

/// Starts a broker for measuring, on loopback and a free port, in this directory.
///
/// # Errors
/// [`StartError`].
pub fn start_broker(dir: &Path) -> Result<(Broker, String), StartError> {
    let mut config = Config::default();
    config.node.data = dir.join("data");
    config.node.native = "127.0.0.1:0".into();
    config.node.http = String::new();
    let broker = Broker::start(config)?;
    let address = broker
        .native_address()
        .expect("the native door was asked for");
    Ok((broker, format!("tcp://{address}")))
}
