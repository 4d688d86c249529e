//! From settings to a store that can be asked.

use crate::credentials::{self, Credentials, Keys};
use crate::error::TierError;
use crate::settings::{Location, Settings};
use crate::unfinished::Unfinished;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpConnector, ReqwestConnector};
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a lost packet or two, short beside the request itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where nothing says another; the S3 client takes the same.
const DEFAULT_REGION: &str = "us-east-1";
/// The time is what bounds the tries.
const TRIES_MAX: usize = 1000;

/// A store, the prefix within it, and the directory it is if it is one.
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: String,
    /// A directory of this machine: objects in it are durable only once they were synced.
    pub(crate) directory: Option<Arc<LocalFileSystem>>,
    /// What only a server has.
    pub(crate) unfinished: Option<Unfinished>,
}

/// The store that settings mean. Nothing is asked of it yet.
pub(crate) fn place(settings: &Settings) -> Result<Place, TierError> {
    settings.check()?;
    match settings.location()? {
        Location::Directory(path) => directory(&path),
        Location::S3 { bucket, prefix } => {
            let unfinished = s3(settings, &bucket)?;
            Ok(Place {
                store: Arc::clone(&unfinished.store) as Arc<dyn ObjectStore>,
                prefix,
                directory: None,
                unfinished: Some(unfinished),
            })
        }
    }
}

fn directory(path: &Path) -> Result<Place, TierError> {
    // Not created here: where a disk was not mounted, it would be another directory.
    if !path.is_dir() {
        let path = path.display();
        return Err(TierError::refused(format!(
            "'{path}' is no directory: create it, or mount what belongs there"
        )));
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|e| unfit(&e))?;
    let store = Arc::new(store);
    Ok(Place {
        store: Arc::clone(&store) as Arc<dyn ObjectStore>,
        prefix: String::new(),
        directory: Some(store),
        unfinished: None,
    })
}

fn s3(settings: &Settings, bucket: &str) -> Result<Unfinished, TierError> {
    let path_style = settings.path_style.unwrap_or(settings.endpoint.is_some());
    let mut options = ClientOptions::new()
        .with_allow_http(settings.allow_http())
        .with_connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout()))
        .with_timeout(settings.request_timeout());
    for authority in authorities(settings)? {
        options = options.with_root_certificate(authority);
    }
    let mut builder = with_credentials(&settings.credentials)?
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!path_style)
        .with_client_options(options.clone())
        .with_allow_http(settings.allow_http())
        .with_retry(retries(settings));
    if let Some(endpoint) = &settings.metadata_endpoint {
        builder = builder.with_metadata_endpoint(endpoint);
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &settings.endpoint {
        let endpoint = endpoint.trim_end_matches('/');
        let in_host = match endpoint.split_once("://") {
            Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
            _ => endpoint.into(),
        };
        builder = builder.with_endpoint(in_host);
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let client = ReqwestConnector::default().connect(&options);
    Ok(Unfinished {
        client: client.map_err(|e| unfit(&e))?,
        region: region.unwrap_or_else(|| DEFAULT_REGION.into()),
        store: Arc::new(builder.build().map_err(|e| unfit(&e))?),
    })
}

/// Those who may vouch for the server, beside whom the machine believes.
fn authorities(settings: &Settings) -> Result<Vec<Certificate>, TierError> {
    let Some(path) = &settings.ca_file else {
        return Ok(Vec::new());
    };
    let bad = |why: &dyn std::fmt::Display| {
        TierError::refused(format!("ca_file '{}': {why}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|e| bad(&e))?;
    let all = Certificate::from_pem_bundle(&pem).map_err(|e| bad(&e))?;
    if all.is_empty() {
        return Err(bad(&"it has no certificate"));
    }
    Ok(all)
}

/// Backoff with jitter on 5xx, 429, broken connections, and timeouts of what may be repeated. This is
/// all that single requests need; what became of a creation that timed out, the caller finds out.
fn retries(settings: &Settings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: if settings.retry_for_ms == 0 {
            0
        } else {
            TRIES_MAX
        },
        retry_timeout: settings.retry_for(),
    }
}

fn with_credentials(credentials: &Credentials) -> Result<AmazonS3Builder, TierError> {
    let given = |keys: &Keys| {
        let builder = AmazonS3Builder::new()
            .with_access_key_id(&keys.access_key_id)
            .with_secret_access_key(keys.secret_access_key.reveal());
        match &keys.session_token {
            Some(token) => builder.with_token(token.reveal()),
            None => builder,
        }
    };
    Ok(match credentials {
        Credentials::Environment => AmazonS3Builder::from_env(),
        Credentials::InstanceMetadata => AmazonS3Builder::new(),
        Credentials::Given(keys) => given(keys),
        Credentials::File { path, profile } => {
            given(&credentials::read_file(path, profile.as_deref())?)
        }
    })
}

fn unfit(e: &object_store::Error) -> TierError {
    TierError::refused(e.to_string())
}
