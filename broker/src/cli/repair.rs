//! `flowstone repair`: what can be saved of a damaged data directory.

use super::{Failed, Outcome, inspect};
use crate::config::Config;
use crate::repair;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory. No broker runs on it.
    dir: PathBuf,
    /// The settings of its broker.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Save what can be saved: make again what is derived, and have readers pass over what is lost.
    /// Without it, say what is damaged and change nothing. What is damaged is kept in `damaged/`.
    #[arg(long)]
    salvage: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Outcome {
    if !args.salvage {
        let outcome = inspect::look(&args.dir, true, args.json);
        if outcome.is_err() && !args.json {
            println!(
                "`flowstone repair --salvage {}` makes again what can be made again and closes the gaps; \
                 copy the directory first if you can.",
                args.dir.display()
            );
        }
        if outcome.is_ok() && !args.json {
            println!("nothing is damaged");
        }
        return outcome;
    }
    let mut config = match &args.config {
        Some(path) => Config::read(path).map_err(|e| Failed::new(1, e.to_string()))?,
        None => Config::default(),
    };
    config.node.data.clone_from(&args.dir);
    let done = repair::salvage(&args.dir, &config).map_err(|e| Failed::new(1, e.to_string()))?;
    if args.json {
        println!("{}", json!({ "done": done }));
    } else if done.is_empty() {
        println!("nothing is damaged");
    } else {
        done.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}
