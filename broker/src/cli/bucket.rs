//! Options of the commands that talk to the bucket themselves.

use super::Failed;
use crate::config::Config;
use crate::tiering::TierConfig;
use flowstone_tier::{Settings, Tier, TierError};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the bucket is.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Bucket {
    /// The settings of the node that has it as its tier; its [tier] is used.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The bucket, s3://BUCKET/PREFIX or file:///PATH, where no settings say it. Keys come from the
    /// environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    from: Option<String>,
    /// The server, where it is not AWS itself.
    #[arg(long, value_name = "URL", requires = "from")]
    endpoint: Option<String>,
    /// Its region.
    #[arg(long, requires = "from")]
    region: Option<String>,
}

impl From<TierError> for Failed {
    fn from(e: TierError) -> Self {
        let code = if e.is_passing() { 3 } else { 1 };
        Self::new(code, e.to_string())
    }
}

impl Bucket {
    fn settings(&self) -> Result<(Settings, Config), Failed> {
        let config = match &self.config {
            Some(path) => Config::read(path).map_err(|e| Failed::new(2, e.to_string()))?,
            None => Config::default(),
        };
        let of_config = config.tier.as_ref().map(|t: &TierConfig| t.store.clone());
        let of_line = self.from.as_ref().map(|url| Settings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            ..Settings::at(url)
        });
        let Some(settings) = of_line.or(of_config) else {
            let what = "which bucket? --from s3://BUCKET/PREFIX, or --config FILE with a [tier]";
            return Err(Failed::new(2, what));
        };
        settings
            .check()
            .map_err(|e| Failed::new(2, e.to_string()))?;
        Ok((settings, config))
    }

    /// Runs something on the bucket, with a directory for as long as that takes.
    pub(super) fn run<T>(
        &self,
        run: impl AsyncFnOnce(Arc<Tier>, Config) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let (settings, config) = self.settings()?;
        let scratch = tempfile::tempdir()?;
        // Reads that block need another thread than the one that they wait for.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let done = runtime.block_on(async {
            let tier = Tier::open(settings, scratch.path(), handle).await?;
            run(tier, config).await
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        done
    }
}

/// A bar on a terminal, and nothing where nobody looks.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
