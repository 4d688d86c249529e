//! What is asked of every pipeline when somebody reads the page: its task on each shard.

use super::register;
use crate::worker::unix_ms;
use flowstone_wire::native::{OperatorStatus, PipelineStatus};
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

type Of = fn(&PipelineStatus) -> u64;
type OfOperator = fn(&OperatorStatus) -> u64;

const COUNTS: [(&str, &str, Of); 8] = [
    (
        "flowstone_pipeline_lag_records",
        "Records that a pipeline has not processed.",
        |p| p.lag,
    ),
    (
        "flowstone_pipeline_processed_records",
        "Records that a pipeline has processed since the start.",
        |p| p.processed,
    ),
    (
        "flowstone_pipeline_emitted_records",
        "Records that a pipeline has given out since the start, without late ones and dead letters.",
        |p| p.emitted,
    ),
    (
        "flowstone_pipeline_failed_records",
        "Records that went to the dead-letter topic since the start.",
        |p| p.failed,
    ),
    (
        "flowstone_pipeline_late_records",
        "Records that came too late since the start.",
        |p| p.late,
    ),
    (
        "flowstone_pipeline_state_bytes",
        "Memory of state and timers.",
        |p| p.state_bytes,
    ),
    (
        "flowstone_pipeline_spilled_bytes",
        "State and timers that are on disk only, as far as they were counted.",
        |p| p.spilled_bytes,
    ),
    (
        "flowstone_pipeline_outbound_bytes",
        "Bytes for partitions of other shards that are not known to be there yet.",
        |p| p.outbound_bytes,
    ),
];

/// What is said of each operator.
const BY_OPERATOR: [(&str, &str, OfOperator); 5] = [
    (
        "flowstone_pipeline_operator_rows",
        "Rows that an operator has taken since the start.",
        |o| o.rows_in,
    ),
    (
        "flowstone_pipeline_operator_rows_out",
        "Rows that an operator has given to the next one since the start; of the last one, records given out.",
        |o| o.rows_out,
    ),
    (
        "flowstone_pipeline_operator_late_records",
        "Records that an operator found too late since the start.",
        |o| o.late,
    ),
    (
        "flowstone_pipeline_operator_failed_records",
        "Records and timers that failed in an operator and went to the dead-letter topic since the start.",
        |o| o.failed,
    ),
    (
        "flowstone_pipeline_operator_state_bytes",
        "Memory of an operator's state and timers.",
        |o| o.state_bytes,
    ),
];

pub(super) struct PipelineGauges {
    counts: Vec<(IntGaugeVec, Of)>,
    latency_seconds: GaugeVec,
    watermark_lag_seconds: GaugeVec,
    by_operator: Vec<(IntGaugeVec, OfOperator)>,
}

impl PipelineGauges {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let task = ["pipeline", "shard"];
        let count = |(name, help, of)| {
            let gauge = register(r, IntGaugeVec::new(Opts::new(name, help), &task))?;
            Ok((gauge, of))
        };
        let latency = Opts::new(
            "flowstone_pipeline_latency_seconds",
            "From append to processed.",
        );
        let behind = Opts::new(
            "flowstone_pipeline_watermark_lag_seconds",
            "How far event time is behind the clock.",
        );
        let labels = |more| [task[0], task[1], more];
        let by_operator = |(name, help, of)| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &labels("operator"));
            Ok((register(r, gauge)?, of))
        };
        Ok(Self {
            counts: COUNTS
                .into_iter()
                .map(count)
                .collect::<prometheus::Result<_>>()?,
            latency_seconds: register(r, GaugeVec::new(latency, &labels("quantile")))?,
            watermark_lag_seconds: register(r, GaugeVec::new(behind, &task))?,
            by_operator: BY_OPERATOR
                .into_iter()
                .map(by_operator)
                .collect::<prometheus::Result<_>>()?,
        })
    }

    /// Forgets tasks that may not be here any more.
    pub(super) fn forget(&self) {
        self.counts.iter().for_each(|(gauge, _)| gauge.reset());
        self.latency_seconds.reset();
        self.watermark_lag_seconds.reset();
        self.by_operator.iter().for_each(|(gauge, _)| gauge.reset());
    }

    pub(super) fn take(&self, shard: &str, tasks: &[PipelineStatus]) {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for task in tasks {
            let labels = [&task.name[..], shard];
            for (gauge, of) in &self.counts {
                gauge.with_label_values(&labels).set(whole(of(task)));
            }
            for (quantile, us) in [("0.5", task.latency_p50_us), ("0.99", task.latency_p99_us)] {
                let labels = [labels[0], labels[1], quantile];
                self.latency_seconds
                    .with_label_values(&labels)
                    .set(us / 1e6);
            }
            if let Some(ms) = task.watermark_ms {
                let behind_ms = unix_ms().saturating_sub(ms);
                let gauge = self.watermark_lag_seconds.with_label_values(&labels);
                gauge.set(behind_ms as f64 / 1e3);
            }
            for operator in &task.operators {
                let labels = [labels[0], labels[1], &operator.name[..]];
                for (gauge, of) in &self.by_operator {
                    gauge.with_label_values(&labels).set(whole(of(operator)));
                }
            }
        }
    }
}
