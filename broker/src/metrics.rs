//! Every metric there is, in one place.
//!
//! Counters are kept here; what a shard knows is asked for when somebody reads the page.

mod copies;
mod pipelines;
mod tier;

use flowstone_core::output::Status;
use flowstone_wire::BatchHeader;
use flowstone_wire::native::{ClusterStatus, TierStatus};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// The metrics of a node.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    produced_records: IntCounter,
    produced_bytes: IntCounter,
    pub(crate) http_requests: IntCounterVec,
    /// Open connections of the native door.
    pub(crate) connections: IntGauge,
    /// How long group commits take.
    pub(crate) sync_seconds: Histogram,
    /// Shards that take nothing until a restart.
    pub(crate) fenced_shards: IntGauge,
    uptime_seconds: Gauge,
    shards: ShardGauges,
    pipelines: pipelines::PipelineGauges,
    tier: Option<tier::TierGauges>,
    copies: Option<copies::CopyGauges>,
}

/// What is asked of every shard when somebody reads the page.
struct ShardGauges {
    written_lsn: IntGaugeVec,
    durable_lsn: IntGaugeVec,
    hot_bytes: IntGaugeVec,
    undurable_bytes: IntGaugeVec,
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl ShardGauges {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        let gauges = |name, help| register(r, IntGaugeVec::new(Opts::new(name, help), &["shard"]));
        Ok(Self {
            written_lsn: gauges("flowstone_written_lsn", "Last batch in the page cache.")?,
            durable_lsn: gauges("flowstone_durable_lsn", "Last batch on the disk.")?,
            hot_bytes: gauges(
                "flowstone_hot_bytes",
                "Bytes of the log that are not settled.",
            )?,
            undurable_bytes: gauges("flowstone_undurable_bytes", "Bytes that wait for the disk.")?,
        })
    }
}

fn say_version(r: &Registry) -> prometheus::Result<()> {
    let opts = Opts::new(
        "flowstone_build_info",
        "Always 1; the label has the version.",
    );
    let info = register(r, IntGaugeVec::new(opts, &["version"]))?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}

impl Metrics {
    /// All metrics, at zero; those of the tier, and of copies of shards, where there are such.
    ///
    /// # Errors
    /// If two have one name, which a test rules out.
    pub fn new(with_tier: bool, with_copies: bool) -> prometheus::Result<Self> {
        let r = Registry::new();
        say_version(&r)?;
        let counter = |name, help| register(&r, IntCounter::new(name, help));
        let counters = |name, help, labels: &[&str]| {
            register(&r, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name, help| register(&r, IntGauge::new(name, help));
        let syncs =
            HistogramOpts::new("flowstone_sync_duration_seconds", "Time of a group commit.")
                .buckets(prometheus::exponential_buckets(50e-6, 2.0, 16)?);
        Ok(Self {
            requests: counters(
                "flowstone_requests_total",
                "Requests of the native door.",
                &["api"],
            )?,
            http_requests: counters(
                "flowstone_http_requests_total",
                "Requests of the HTTP door.",
                &["route", "status"],
            )?,
            produced_records: counter("flowstone_produce_records_total", "Records that came in.")?,
            produced_bytes: counter(
                "flowstone_produce_bytes_total",
                "Bytes of batches that came in.",
            )?,
            connections: gauge(
                "flowstone_connections",
                "Open connections of the native door.",
            )?,
            sync_seconds: register(&r, Histogram::with_opts(syncs))?,
            fenced_shards: gauge("flowstone_fenced_shards", "Shards that need a restart.")?,
            uptime_seconds: register(
                &r,
                Gauge::new("flowstone_uptime_seconds", "Time since the start."),
            )?,
            shards: ShardGauges::new(&r)?,
            pipelines: pipelines::PipelineGauges::new(&r)?,
            tier: with_tier.then(|| tier::TierGauges::new(&r)).transpose()?,
            copies: with_copies
                .then(|| copies::CopyGauges::new(&r))
                .transpose()?,
            registry: r,
        })
    }

    pub(crate) fn request(&self, api: u16) {
        // Numbers of no request share a label: a peer must not make up labels.
        const NAMES: [&str; 25] = [
            "other",
            "hello",
            "list-topics",
            "create-topic",
            "delete-topic",
            "produce",
            "fetch",
            "find-offset",
            "init-producer",
            "commit-offsets",
            "read-offsets",
            "describe-topic",
            "list-pipelines",
            "list-groups",
            "list-shards",
            "get-tier",
            "get-cluster",
            "change-cluster",
            "deploy-pipelines",
            "describe-pipelines",
            "control-pipeline",
            "make-token",
            "start-query",
            "read-query",
            "stop-query",
        ];
        let name = NAMES.get(usize::from(api)).copied().unwrap_or(NAMES[0]);
        self.requests.with_label_values(&[name]).inc();
    }

    pub(crate) fn produced(&self, header: &BatchHeader) {
        self.produced_records.inc_by(u64::from(header.record_count));
        self.produced_bytes.inc_by(u64::from(header.size));
    }

    /// The page for Prometheus.
    pub(crate) fn render(
        &self,
        uptime_s: f64,
        statuses: &[Status],
        tier: Option<&TierStatus>,
        cluster: &ClusterStatus,
    ) -> String {
        self.uptime_seconds.set(uptime_s);
        if let (Some(gauges), Some(status)) = (&self.tier, tier) {
            gauges.take(status);
        }
        if let Some(gauges) = &self.copies {
            gauges.take(cluster.node, cluster);
        }
        self.pipelines.forget();
        for status in statuses {
            self.take(status);
        }
        let mut page = Vec::new();
        // Writing to memory does not fail, and the encoder's own checks were passed at registration.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut page);
        String::from_utf8_lossy(&page).into_owned()
    }

    fn take(&self, status: &Status) {
        let shard = status.shard.shard.to_string();
        let set = |gauge: &IntGaugeVec, label: &str, value: u64| {
            gauge
                .with_label_values(&[label])
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.shards.written_lsn, &shard, status.shard.written_lsn);
        set(&self.shards.durable_lsn, &shard, status.shard.durable_lsn);
        set(&self.shards.hot_bytes, &shard, status.hot_bytes);
        set(&self.shards.undurable_bytes, &shard, status.undurable_bytes);
        self.pipelines.take(&shard, &status.tasks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowstone_wire::NodeId;
    use flowstone_wire::native::{CopyLag, LeaderTold, ShardPlace};

    /// A shard that has two copies of three.
    fn cluster() -> ClusterStatus {
        let lag = CopyLag {
            node: NodeId(2),
            lag_bytes: 17,
            heard_ms_ago: 5,
        };
        let told = LeaderTold {
            copies: 2,
            committed: flowstone_wire::Lsn(9),
            others: vec![lag],
        };
        let shard = ShardPlace {
            shard: flowstone_wire::ShardId(0),
            epoch: flowstone_wire::Epoch(4),
            is_active: true,
            leader: NodeId(1),
            members: vec![NodeId(1), NodeId(2)],
            learners: Vec::new(),
            homes: vec![NodeId(1), NodeId(2)],
            copies: 3,
            alone_since_ms: None,
            moved: None,
            told: Some(told),
        };
        ClusterStatus {
            cluster: "ab".into(),
            node: NodeId(1),
            leader: None,
            term: 0,
            applied: 0,
            copies: 3,
            nodes: Vec::new(),
            shards: vec![shard],
        }
    }

    #[test]
    fn every_metric_registers_and_the_page_has_them() {
        let m = Metrics::new(true, true).unwrap();
        m.request(5);
        m.request(60_000);
        let tier = TierStatus {
            state: "open".into(),
            put_requests: 7,
            ..TierStatus::default()
        };
        let page = m.render(1.5, &[], Some(&tier), &cluster());
        assert!(
            page.contains("flowstone_under_replicated_shards 1"),
            "{page}"
        );
        let lag = "flowstone_copy_lag_bytes{node=\"2\",shard=\"0\"} 17";
        assert!(page.contains(lag), "{page}");
        assert!(page.contains("flowstone_tier_open 1"), "{page}");
        assert!(
            page.contains("flowstone_tier_requests{kind=\"put\"} 7"),
            "{page}"
        );
        assert!(
            page.contains("flowstone_requests_total{api=\"produce\"} 1"),
            "{page}"
        );
        assert!(
            page.contains("flowstone_requests_total{api=\"other\"} 1"),
            "{page}"
        );
        assert!(page.contains("flowstone_uptime_seconds 1.5"), "{page}");
    }
}
