//! `flowstone cluster init` and `join`: what makes a data directory that of a node of a cluster.

use super::{Failed, Outcome};
use crate::broker::{self, Broker};
use crate::config::Config;
use crate::data_dir;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory; made where it is not there.
    #[arg(long, value_name = "DIR", default_value = "flowstone-data")]
    data: PathBuf,
    /// Address on which other nodes reach this one, UDP.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7500")]
    peer: String,
}

/// Founds a cluster with this node, which is not running.
pub(super) fn init(args: Args) -> Outcome {
    super::serve::log_to_stderr("warn");
    let mut config = Config::default();
    (config.node.data, config.cluster.peer) = (args.data, args.peer);
    let id = broker::init(&config).map_err(|e| Failed::new(1, e.to_string()))?;
    println!("cluster {id} with one node; start it with");
    println!(
        "  flowstone serve --data {} --peer {}",
        config.node.data.display(),
        config.cluster.peer
    );
    println!("and make a token for each other node with `flowstone cluster token`");
    Ok(())
}

/// Makes a data directory that of a new node of a cluster.
pub(super) fn join(from: &str, args: Args) -> Outcome {
    super::serve::log_to_stderr("warn");
    let mut config = Config::default();
    (config.node.data, config.cluster.peer) = (args.data, args.peer);
    join_now(&config, from)?;
    println!("start it with");
    println!(
        "  flowstone serve --data {} --peer {}",
        config.node.data.display(),
        config.cluster.peer
    );
    Ok(())
}

/// Joins where the data directory is not that of a node already.
pub(super) fn join_once(config: &Config, from: &str) -> Outcome {
    if data_dir::exists(&config.node.data) {
        tracing::info!("the data directory is that of a node; it does not join again");
        return Ok(());
    }
    join_now(config, from)
}

fn join_now(config: &Config, from: &str) -> Outcome {
    let node = Broker::join(config, from).map_err(|e| Failed::new(1, e.to_string()))?;
    eprintln!("joined as node {node}");
    Ok(())
}
