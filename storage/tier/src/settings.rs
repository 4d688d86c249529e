//! What an operator says of the bucket.

use crate::credentials::Credentials;
use crate::error::TierError;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// S3 refuses smaller parts.
const PART_BYTES_MIN: u64 = 5 << 20;
/// S3 refuses larger ones; and a part is held in memory.
const PART_BYTES_MAX: u64 = 1 << 30;
const CHUNK_BYTES_MIN: u64 = 16 << 10;
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// A reader and its prefetches need several chunks at once.
const CACHE_CHUNKS_MIN: u64 = 8;
/// A request is signed once: tried for longer, its signature goes stale.
const RETRY_FOR_MS_MAX: u64 = 280_000;

/// Where the bucket is and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `s3://bucket/prefix`, or `file:///path` of a directory that is there.
    pub url: String,
    /// The server, `https://...` or `http://...`, where it is not AWS itself. Only `http://` allows
    /// traffic that is not encrypted.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// A file with certificates (PEM) of authorities that are believed beside those of the machine: for a
    /// server whose certificate nobody else knows.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Where the metadata service of the machine is, `http://...`, where that is not AWS's own.
    #[serde(default)]
    pub metadata_endpoint: Option<String>,
    /// The region; `us-east-1` where nothing says another.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket stands in the path, not in the host name. Default: with an endpoint, yes.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Where the keys come from.
    #[serde(default)]
    pub credentials: Credentials,
    /// Goes on with a bucket that cannot create conditionally. Then nothing but the operator keeps two
    /// nodes from writing to it and destroying what the other one wrote.
    #[serde(default)]
    pub accept_single_writer: bool,
    /// Segments uploaded at a time.
    #[serde(default = "upload_concurrency")]
    pub upload_concurrency: usize,
    /// Bound on all uploads together; none by default.
    #[serde(default)]
    pub upload_bytes_per_s: Option<u64>,
    /// Larger segments are sent in parts of so many bytes; each upload holds one in memory.
    #[serde(default = "part_bytes")]
    pub part_bytes: u64,
    /// How long one request may take, the sending of a part included.
    #[serde(default = "request_timeout_ms")]
    pub request_timeout_ms: u64,
    /// How long a request is tried again after failures that pass.
    #[serde(default = "retry_for_ms")]
    pub retry_for_ms: u64,
    /// Bytes of the local cache of what is read.
    #[serde(default = "cache_bytes")]
    pub cache_bytes: u64,
    /// Bytes that are fetched at a time.
    #[serde(default = "chunk_bytes")]
    pub chunk_bytes: u64,
}

fn upload_concurrency() -> usize {
    4
}

fn part_bytes() -> u64 {
    16 << 20
}

fn request_timeout_ms() -> u64 {
    30_000
}

fn retry_for_ms() -> u64 {
    60_000
}

fn cache_bytes() -> u64 {
    1 << 30
}

fn chunk_bytes() -> u64 {
    1 << 20
}

/// What a URL means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    S3 { bucket: String, prefix: String },
    Directory(PathBuf),
}

impl Settings {
    /// The defaults for a URL.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            ca_file: None,
            metadata_endpoint: None,
            region: None,
            path_style: None,
            credentials: Credentials::default(),
            accept_single_writer: false,
            upload_concurrency: upload_concurrency(),
            upload_bytes_per_s: None,
            part_bytes: part_bytes(),
            request_timeout_ms: request_timeout_ms(),
            retry_for_ms: retry_for_ms(),
            cache_bytes: cache_bytes(),
            chunk_bytes: chunk_bytes(),
        }
    }

    /// Whether all of it makes sense; nothing is asked of the bucket.
    ///
    /// # Errors
    /// [`TierError::Refused`] with the first thing that does not.
    pub fn check(&self) -> Result<(), TierError> {
        self.location()?;
        self.check_endpoint()?;
        in_range("upload_concurrency", self.upload_concurrency as u64, 1, 64)?;
        in_range(
            "part_bytes",
            self.part_bytes,
            PART_BYTES_MIN,
            PART_BYTES_MAX,
        )?;
        in_range("request_timeout_ms", self.request_timeout_ms, 100, 600_000)?;
        in_range("retry_for_ms", self.retry_for_ms, 0, RETRY_FOR_MS_MAX)?;
        in_range(
            "chunk_bytes",
            self.chunk_bytes,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_MAX,
        )?;
        let least = self.chunk_bytes * CACHE_CHUNKS_MIN;
        in_range("cache_bytes", self.cache_bytes, least, u64::MAX)?;
        if let Some(rate) = self.upload_bytes_per_s {
            in_range("upload_bytes_per_s", rate, 1024, u64::MAX)?;
        }
        Ok(())
    }

    fn check_endpoint(&self) -> Result<(), TierError> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let schemes = ["https://", "http://"];
        let host = schemes.iter().find_map(|s| endpoint.strip_prefix(s));
        match host {
            // Not quoted: what is in front of the @ may be a password.
            Some(host) if host.contains('@') => Err(TierError::refused(
                "`endpoint` has a user in it: set `credentials` instead",
            )),
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(()),
            _ => Err(TierError::refused(format!(
                "`endpoint` '{endpoint}' is no http:// or https:// URL"
            ))),
        }
    }

    /// Whether `endpoint` asks for traffic that is not encrypted.
    pub(crate) fn allow_http(&self) -> bool {
        let endpoint = self.endpoint.as_deref();
        endpoint.is_some_and(|e| e.starts_with("http://"))
    }

    /// What the URL means.
    pub(crate) fn location(&self) -> Result<Location, TierError> {
        if let Some(path) = self.url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(self.bad_url("a directory is written file:///absolute/path"));
            }
            return Ok(Location::Directory(PathBuf::from(path)));
        }
        let Some(rest) = self.url.strip_prefix("s3://") else {
            return Err(self.bad_url("write s3://bucket/prefix or file:///path"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let in_bucket = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(in_bucket) {
            return Err(self.bad_url("a bucket has 3 to 63 of a-z, 0-9, '-' and '.'"));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && !prefix.split('/').all(is_plain) {
            return Err(self.bad_url("the parts of a prefix have A-Z, a-z, 0-9, '-', '_' and '.'"));
        }
        Ok(Location::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        })
    }

    fn bad_url(&self, advice: &str) -> TierError {
        // Whatever stands in front of an @ may be a secret.
        let shown = if self.url.contains('@') {
            "(hidden)"
        } else {
            &self.url
        };
        TierError::refused(format!("`url` '{shown}' is not understood: {advice}"))
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn retry_for(&self) -> Duration {
        Duration::from_millis(self.retry_for_ms)
    }
}

fn is_plain(part: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !part.is_empty() && part != "." && part != ".." && part.bytes().all(good)
}

fn in_range(name: &str, value: u64, least: u64, most: u64) -> Result<(), TierError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let bounds = match most {
        u64::MAX => format!("at least {least}"),
        _ => format!("{least} to {most}"),
    };
    Err(TierError::refused(format!(
        "`{name}` is {value}, allowed is {bounds}"
    )))
}

#[cfg(test)]
mod tests;
