//! Metrics of shards that are copied: told by their leader, there only on a node of a cluster.

use super::register;
use flowstone_wire::NodeId;
use flowstone_wire::native::ClusterStatus;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

/// The metrics of copies of shards.
pub(super) struct CopyGauges {
    leads: IntGaugeVec,
    epoch: IntGaugeVec,
    copies: IntGaugeVec,
    short: IntGauge,
    committed_lsn: IntGaugeVec,
    lag_bytes: IntGaugeVec,
    heard_milliseconds: IntGaugeVec,
}

impl CopyGauges {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let gauges = |name, help, labels: &[&str]| {
            register(r, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        Ok(Self {
            leads: gauges(
                "flowstone_shard_leads",
                "1 where this node leads.",
                &["shard"],
            )?,
            epoch: gauges(
                "flowstone_shard_epoch",
                "The shard's newest epoch.",
                &["shard"],
            )?,
            copies: gauges(
                "flowstone_shard_copies",
                "Copies that have everything that is committed; of shards that this node leads.",
                &["shard"],
            )?,
            short: register(
                r,
                IntGauge::new(
                    "flowstone_under_replicated_shards",
                    "Shards led here that have fewer copies than are wanted.",
                ),
            )?,
            committed_lsn: gauges(
                "flowstone_committed_lsn",
                "Last batch that cannot get lost; of shards that this node leads.",
                &["shard"],
            )?,
            lag_bytes: gauges(
                "flowstone_copy_lag_bytes",
                "Bytes that a copy has not told to be durable; of shards that this node leads.",
                &["shard", "node"],
            )?,
            heard_milliseconds: gauges(
                "flowstone_copy_heard_milliseconds",
                "How long ago something was sent that a copy has answered; of shards that this node leads.",
                &["shard", "node"],
            )?,
        })
    }

    /// Takes how the cluster stands, as this node sees it.
    pub(super) fn take(&self, me: NodeId, status: &ClusterStatus) {
        let value = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for gauges in [
            &self.copies,
            &self.committed_lsn,
            &self.lag_bytes,
            &self.heard_milliseconds,
        ] {
            // Another node may lead by now.
            gauges.reset();
        }
        let mut short = 0;
        for s in &status.shards {
            let shard = s.shard.to_string();
            let leads = s.leader == me;
            self.leads.with_label_values(&[&shard]).set(leads.into());
            self.epoch
                .with_label_values(&[&shard])
                .set(value(s.epoch.0.into()));
            let Some(told) = s.told.as_ref().filter(|_| leads) else {
                continue;
            };
            short += i64::from(told.copies < u32::from(s.copies));
            self.copies
                .with_label_values(&[&shard])
                .set(told.copies.into());
            let committed = value(told.committed.0);
            self.committed_lsn
                .with_label_values(&[&shard])
                .set(committed);
            for other in &told.others {
                let labels = [&shard[..], &other.node.to_string()];
                self.lag_bytes
                    .with_label_values(&labels)
                    .set(value(other.lag_bytes));
                let heard = self.heard_milliseconds.with_label_values(&labels);
                heard.set(value(other.heard_ms_ago));
            }
        }
        self.short.set(short);
    }
}
