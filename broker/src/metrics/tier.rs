//! Metrics of the tier: asked for when somebody reads the page, and there only where there is a tier.

use super::register;
use flowstone_wire::native::TierStatus;
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};

/// The metrics of a tier.
pub(super) struct TierGauges {
    open: IntGauge,
    copied_bytes: IntGauge,
    remote_bytes: IntGauge,
    waiting_bytes: IntGauge,
    waiting_seconds: Gauge,
    transferred_bytes: IntGaugeVec,
    requests: IntGaugeVec,
    errors: IntGauge,
    cache_reads: IntGaugeVec,
    cache_bytes: IntGauge,
    month_cost: Gauge,
}

impl TierGauges {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| register(r, IntGauge::new(name, help));
        let float = |name, help| register(r, Gauge::new(name, help));
        let gauges =
            |name, help, label| register(r, IntGaugeVec::new(Opts::new(name, help), &[label]));
        Ok(Self {
            open: gauge(
                "flowstone_tier_open",
                "1 where the bucket is open and ours.",
            )?,
            copied_bytes: gauge(
                "flowstone_tier_copied_bytes",
                "Bytes of settled segments that have a copy in the tier.",
            )?,
            remote_bytes: gauge(
                "flowstone_tier_remote_bytes",
                "Bytes of settled segments that are in the tier only.",
            )?,
            waiting_bytes: gauge(
                "flowstone_tier_waiting_bytes",
                "Bytes of settled segments that have no copy yet.",
            )?,
            waiting_seconds: float(
                "flowstone_tier_waiting_seconds",
                "For how long the oldest segment without a copy has waited, since the start at most.",
            )?,
            transferred_bytes: gauges(
                "flowstone_tier_transferred_bytes",
                "Bytes sent to and received from the bucket since the start.",
                "direction",
            )?,
            requests: gauges(
                "flowstone_tier_requests",
                "Requests to the bucket since the start.",
                "kind",
            )?,
            errors: gauge(
                "flowstone_tier_errors",
                "Requests to the bucket that failed for good since the start.",
            )?,
            cache_reads: gauges(
                "flowstone_tier_cache_reads",
                "Chunks that were found in the local cache, and that were not.",
                "found",
            )?,
            cache_bytes: gauge("flowstone_tier_cache_bytes", "Bytes in the local cache.")?,
            month_cost: float(
                "flowstone_tier_month_cost",
                "Estimated cost of a month, by the price list of the settings.",
            )?,
        })
    }

    pub(super) fn take(&self, s: &TierStatus) {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.open.set(i64::from(s.state == "open"));
        self.copied_bytes.set(int(s.copied_bytes));
        self.remote_bytes.set(int(s.remote_bytes));
        self.waiting_bytes.set(int(s.waiting_bytes));
        self.waiting_seconds
            .set(s.waiting_ms.unwrap_or(0) as f64 / 1000.0);
        self.errors.set(int(s.errors));
        self.cache_bytes.set(int(s.cache_bytes));
        self.month_cost.set(s.month_cost.unwrap_or(0.0));
        let set = |gauges: &IntGaugeVec, label, value| {
            gauges.with_label_values(&[label]).set(int(value));
        };
        set(&self.transferred_bytes, "up", s.up_bytes);
        set(&self.transferred_bytes, "down", s.down_bytes);
        set(&self.requests, "put", s.put_requests);
        set(&self.requests, "get", s.get_requests);
        set(&self.requests, "list", s.list_requests);
        set(&self.cache_reads, "yes", s.cache_hits);
        set(&self.cache_reads, "no", s.cache_misses);
    }
}
