//! Settings of a node: defaults, then the file, then the command line.

use crate::tiering::TierConfig;
use flowstone_core::ShardConfig;
use flowstone_processor::PipelineSpec;
use flowstone_storage::LogConfig;
use flowstone_wire::limits;
use serde::Deserialize;
use std::path::{Path, PathBuf};

pub use crate::queries::QuerySettings;

/// An hour: later is never.
const FLUSH_MS_MAX: u64 = 3_600_000;
/// As long as an authority.
const CERTIFICATE_HOURS_MAX: u64 = flowstone_peer::limits::AUTHORITY_LIFE_S / 3600;

/// Settings of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Identity, doors and threads.
    pub node: Node,
    /// The shard log.
    pub log: Log,
    /// Settling.
    pub settle: Settle,
    /// Bounds.
    pub limits: Limits,
    /// Queries that are asked once.
    pub query: QuerySettings,
    /// Where settled segments are copied to; nowhere by default.
    pub tier: Option<TierConfig>,
    /// Other nodes; none by default.
    pub cluster: ClusterSettings,
    /// Pipelines to run, from built-in stages.
    #[serde(rename = "pipeline")]
    pub pipelines: Vec<PipelineSpec>,
}

/// Identity, doors and threads.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// The data directory.
    pub data: PathBuf,
    /// Address of the native door, `host:port`; empty for none. Port 0 takes a free one.
    pub native: String,
    /// Path of the native door's Unix socket; empty for none.
    pub native_unix: String,
    /// Address of the HTTP door, `host:port`; empty for none. Port 0 takes a free one.
    pub http: String,
    /// Worker threads; 0 for half the cores, at least one.
    pub workers: u16,
    /// Shards of a new data directory; 0 for as many as workers.
    pub shards: u16,
    /// How long an idle worker spins before it parks, in microseconds.
    pub spin_us: Spin,
    /// Binding an address that is not loopback is refused unless this is set: there is no
    /// authentication yet.
    pub allow_remote: bool,
}

/// How long an idle worker spins before it parks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Spin {
    /// So many microseconds.
    Us(u64),
    /// Until something happens.
    Always(Always),
}

/// The word `always`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Always {
    /// The word `always`.
    Always,
}

impl Spin {
    /// The bound in microseconds; `None` for no bound.
    pub fn bound_us(self) -> Option<u64> {
        match self {
            Self::Us(us) => Some(us),
            Self::Always(_) => None,
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            data: "flowstone-data".into(),
            native: "127.0.0.1:7400".into(),
            native_unix: String::new(),
            http: "127.0.0.1:7480".into(),
            workers: 0,
            shards: 0,
            spin_us: Spin::Us(50),
            allow_remote: false,
        }
    }
}

/// Other nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Address on which other nodes reach this one, `host:port`, UDP; empty for a node that stays alone.
    /// Port 0 takes a free one, for the first node only.
    pub peer: String,
    /// Host that other nodes and clients are told to reach this node by; empty for the hosts of its doors.
    pub advertise: String,
    /// Bytes per second that are sent to copies which have to begin from nothing, all together.
    pub snapshot_rate_bytes_per_s: u64,
    /// How long the certificates hold that this node issues, in hours. They are renewed at half of it.
    pub certificate_hours: u64,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            peer: String::new(),
            advertise: String::new(),
            snapshot_rate_bytes_per_s: 64 << 20,
            certificate_hours: flowstone_peer::limits::NODE_LIFE_S / 3600,
        }
    }
}

/// The shard log.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of sealed segments that are kept hot, per shard, before they are settled.
    pub hot_bytes: u64,
    /// How long a write that nobody waits for may go without a sync, in milliseconds.
    pub flush_ms: u64,
    /// Bytes that stay free on the disk.
    pub min_free_bytes: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            hot_bytes: 1 << 30,
            flush_ms: 10,
            min_free_bytes: 256 << 20,
        }
    }
}

/// Settling.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settle {
    /// Bytes of the log that are settled per second, at most, per node.
    pub rate_bytes_per_s: u64,
    /// `zstd` or `none`.
    pub compression: Compression,
}

/// How settled blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Zstandard, level 1.
    Zstd,
}

impl Default for Settle {
    fn default() -> Self {
        Self {
            rate_bytes_per_s: 64 << 20,
            compression: Compression::Zstd,
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes that may wait for the disk, per shard; more is refused.
    pub pending_bytes: u64,
    /// Connections to the native door.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_bytes: 64 << 20,
            connections: 1024,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the settings in '{}': {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not valid.
    #[error("the settings in '{}' are not valid: {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with the place.
        what: String,
    },
    /// The settings of the tier make no sense.
    #[error("settings [tier]: {0}")]
    Tier(String),
    /// A value is out of bounds.
    #[error("setting {name} is {value}; {rule}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        rule: String,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error`]; unknown keys are refused.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| Error::Parse {
            path: path.into(),
            what: told(&text, &source),
        })
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn check(&self) -> Result<(), Error> {
        let log = &self.log;
        let connections = self.limits.connections as u64;
        let shards = u64::from(self.node.shards);
        let any = u64::MAX;
        let rate = self.settle.rate_bytes_per_s;
        let pending = self.limits.pending_bytes;
        let snapshots = self.cluster.snapshot_rate_bytes_per_s;
        let (hours, hours_max) = (self.cluster.certificate_hours, CERTIFICATE_HOURS_MAX);
        let pending_min = 2 * limits::BATCH_BYTES_MAX as u64;
        let segment_min = limits::SEGMENT_BYTES_MIN;
        for (name, value, least, most) in [
            ("log.segment_bytes", log.segment_bytes, segment_min, any),
            ("log.flush_ms", log.flush_ms, 0, FLUSH_MS_MAX),
            ("limits.pending_bytes", pending, pending_min, any),
            ("settle.rate_bytes_per_s", rate, 1 << 20, any),
            ("cluster.snapshot_rate_bytes_per_s", snapshots, 1 << 20, any),
            ("cluster.certificate_hours", hours, 1, hours_max),
            ("limits.connections", connections, 1, any),
            ("node.shards", shards, 0, limits::SHARDS_MAX as u64),
            ("query.concurrent", self.query.concurrent as u64, 1, 1024),
            (
                "query.memory_bytes",
                self.query.memory_bytes as u64,
                1 << 20,
                any,
            ),
            ("query.threads", self.query.threads as u64, 1, 256),
        ] {
            within(name, value, least, most)?;
        }
        self.tier.as_ref().map_or(Ok(()), TierConfig::check)
    }

    /// Number of worker threads.
    pub fn workers(&self) -> u16 {
        if self.node.workers > 0 {
            return self.node.workers;
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u16::try_from(cores / 2).unwrap_or(u16::MAX).clamp(1, 64)
    }

    /// What a shard must know.
    pub fn shard(&self) -> ShardConfig {
        ShardConfig {
            log: LogConfig {
                segment_bytes: self.log.segment_bytes,
                min_free_bytes: self.log.min_free_bytes,
            },
            hot_bytes: self.log.hot_bytes,
            flush_us: self.log.flush_ms * 1000,
            pending_bytes: self.limits.pending_bytes,
            materialize_bytes: self.log.segment_bytes / 2,
            retain_every_us: 5_000_000,
            compress: self.settle.compression == Compression::Zstd,
            tier_after_ms: self.tier.as_ref().map(|t| t.upload_after_ms),
        }
    }
}

/// Where and why a text is not valid. Lines are not quoted, and neither are values: they may be secret.
fn told(text: &str, error: &toml::de::Error) -> String {
    let mut what = error.message().to_string();
    for (before, behind) in [("string \"", "\""), ("unknown variant `", "`")] {
        let from = what.find(before).map(|at| at + before.len());
        let end = from.and_then(|from| what[from..].rfind(behind).map(|at| from + at));
        if let (Some(from), Some(end)) = (from, end) {
            what.replace_range(from..end, "(hidden)");
        }
    }
    let front = error.span().and_then(|span| text.get(..span.start));
    match front {
        Some(front) => format!("line {}: {what}", front.matches('\n').count() + 1),
        None => what,
    }
}

fn within(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), Error> {
    let rule = if value < least {
        format!("it must be at least {least}")
    } else if value > most {
        format!("it must be at most {most}")
    } else {
        return Ok(());
    };
    let value = value.to_string();
    Err(Error::Value { name, value, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_package_is_valid_and_says_the_defaults() {
        let text = include_str!("../../systemd/flowstone.toml.example");
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap();
        let default = Config::default();
        assert_eq!(config.log.segment_bytes, default.log.segment_bytes);
        assert_eq!(config.limits.pending_bytes, default.limits.pending_bytes);
        assert_eq!(config.node.spin_us, default.node.spin_us);
    }

    #[test]
    fn unknown_keys_and_small_values_are_refused() {
        assert!(toml::from_str::<Config>("[node]\ndatta = \"x\"").is_err());
        let config: Config = toml::from_str("[log]\nsegment_bytes = 5").unwrap();
        let text = config.check().unwrap_err().to_string();
        assert!(text.contains("log.segment_bytes is 5"), "{text}");
        let config: Config = toml::from_str("[log]\nflush_ms = 9223372036854775807").unwrap();
        let text = config.check().unwrap_err().to_string();
        assert!(text.contains("it must be at most 3600000"), "{text}");
        let spin: Config = toml::from_str("[node]\nspin_us = \"always\"").unwrap();
        assert_eq!(spin.node.spin_us.bound_us(), None);
    }
}
