//! `flowstone restore`: a data directory from a bucket alone.

use super::bucket::{Bucket, bar};
use super::format::bytes;
use super::{Failed, Outcome};
use crate::restore;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory to make. It is empty, or not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    bucket: Bucket,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Outcome {
    let done = args.bucket.run(async |tier, config| {
        let bar = bar("partitions");
        let told = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let restored = restore::restore(&tier, &args.data, &config, told).await;
        bar.finish_and_clear();
        restored.map_err(|e| match e {
            restore::Error::Tier(e) => Failed::from(e),
            other => Failed::new(1, other.to_string()),
        })
    })?;
    if args.json {
        println!("{}", json!(done));
        return Ok(());
    }
    println!(
        "restored {} topic(s): {} records in {} segments of {} partition(s), {} in the tier; {} group position(s)",
        done.topics,
        done.records,
        done.segments,
        done.partitions,
        bytes(done.bytes),
        done.positions
    );
    if done.moved > 0 {
        println!(
            "{} position(s) were behind what had been uploaded and are at its end now",
            done.moved
        );
    }
    if !done.unknown.is_empty() {
        println!(
            "{} partition(s) in the bucket belong to no topic of its catalog and were left there",
            done.unknown.len()
        );
    }
    println!(
        "now run: flowstone serve --data {} with the same [tier]; the records stay in the tier and are read from there",
        args.data.display()
    );
    Ok(())
}
