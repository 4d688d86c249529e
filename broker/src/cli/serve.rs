//! `flowstone serve`: runs a broker until it is told to stop.

use super::{Failed, Outcome};
use crate::broker::Broker;
use crate::config::Config;
use sd_notify::NotifyState;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a stop may take: everything is synced and the state store brought up to date.
const STOP_TIMEOUT: Duration = Duration::from_secs(80);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory; made where it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A file with settings; see systemd/flowstone.toml.example.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the native door; port 0 takes a free one, "" closes it.
    #[arg(long, value_name = "ADDR")]
    native: Option<String>,
    /// Path of a Unix socket for the native door.
    #[arg(long, value_name = "PATH")]
    native_unix: Option<String>,
    /// Address of the HTTP door; port 0 takes a free one, "" closes it.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address on which other nodes reach this one, UDP; without one the node stays alone.
    #[arg(long, value_name = "ADDR")]
    peer: Option<String>,
    /// Join a cluster first, where the data directory is of none: what `flowstone cluster token` prints.
    #[arg(long, value_name = "TOKEN@ADDR", requires = "peer")]
    join: Option<String>,
    /// Worker threads.
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
    /// Print the ready line as JSON.
    #[arg(long)]
    json: bool,
}

fn settings(args: &Args) -> Result<Config, Failed> {
    let mut config = match &args.config {
        Some(path) => Config::read(path).map_err(|e| Failed::new(2, e.to_string()))?,
        None => Config::default(),
    };
    let node = &mut config.node;
    node.data = args.data.clone().unwrap_or(std::mem::take(&mut node.data));
    node.native = args
        .native
        .clone()
        .unwrap_or(std::mem::take(&mut node.native));
    node.native_unix = args
        .native_unix
        .clone()
        .unwrap_or(std::mem::take(&mut node.native_unix));
    node.http = args.http.clone().unwrap_or(std::mem::take(&mut node.http));
    node.workers = args.workers.unwrap_or(node.workers);
    let cluster = &mut config.cluster;
    cluster.peer = args
        .peer
        .clone()
        .unwrap_or(std::mem::take(&mut cluster.peer));
    Ok(config)
}

/// Logs to standard error: JSON where nobody looks, text on a terminal.
pub(super) fn log_to_stderr(default: &str) {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("FLOWSTONE_LOG").unwrap_or_else(|_| {
            tracing_subscriber::EnvFilter::new(format!("{default},object_store=warn,openraft=off"))
        });
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second subscriber in one process is refused; the first goes on.
    let _ = if terminal {
        builder.try_init()
    } else {
        builder.json().try_init()
    };
}

pub(super) fn run(args: Args) -> Outcome {
    log_to_stderr("info");
    let config = settings(&args)?;
    crate::file_limit::raise();
    if let Some(from) = &args.join {
        super::cluster_node::join_once(&config, from)?;
    }
    let broker = Broker::start(config).map_err(|e| Failed::new(1, e.to_string()))?;
    // Before anybody is told that it is ready: a stop may follow at once.
    let stop = {
        let _runtime = broker.runtime().enter();
        StopSignal::listen()?
    };
    announce(&broker, args.json)?;
    // Nobody listens where systemd did not start it.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let service = broker.service().clone();
    broker.runtime().spawn(watchdog(service));
    broker.runtime().block_on(stop.wait());
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    if broker.stop(STOP_TIMEOUT) {
        return Ok(());
    }
    Err(Failed::new(
        1,
        "the broker did not stop in time; the next start recovers",
    ))
}

fn announce(broker: &Broker, json: bool) -> Outcome {
    let native = broker.native_address().map(|a| a.to_string());
    let http = broker.http_address().map(|a| a.to_string());
    let unix = broker.native_unix().map(|p| p.display().to_string());
    let peer = broker.peer_address().map(|a| a.to_string());
    let mut out = std::io::stdout();
    if json {
        let line = serde_json::json!({ "ready": true, "native": native, "native_unix": unix, "http": http, "peer": peer });
        writeln!(out, "{line}")?;
    } else {
        let show = |a: Option<String>| a.unwrap_or_else(|| "off".into());
        let unix = unix
            .map(|p| format!(" native_unix={p}"))
            .unwrap_or_default();
        let peer = peer.map(|p| format!(" peer={p}")).unwrap_or_default();
        writeln!(
            out,
            "ready native={} http={}{unix}{peer}",
            show(native),
            show(http)
        )?;
    }
    Ok(out.flush()?)
}

/// SIGTERM and SIGINT.
struct StopSignal {
    term: Signal,
    int: Signal,
}

impl StopSignal {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Waits for one of them; a second one ends the process at once.
    async fn wait(mut self) {
        self.next().await;
        tracing::info!("stopping");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(1);
        });
    }
}

/// Tells systemd that the append path lives: every worker has answered, and no shard is fenced.
async fn watchdog(service: std::sync::Arc<crate::service::Service>) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        tokio::time::sleep(interval / 3).await;
        if service.statuses_here().await.is_ok() && service.not_ready().is_none() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
