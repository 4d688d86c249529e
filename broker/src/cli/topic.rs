//! `flowstone topic`: make, list, describe, delete.

use super::Outcome;
use super::connect::{Options, block_on};
use super::format::{bytes, millis};
use crate::topic_json::topic_json;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use flowstone_client::{TopicSettings, Visibility};
use serde_json::json;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make a topic.
    Create {
        /// Its name.
        name: String,
        /// Number of partitions.
        #[arg(long, short, default_value_t = 1)]
        partitions: u32,
        /// Placement group: topics that are processed together share one.
        #[arg(long)]
        placement: Option<String>,
        /// Bytes to keep per partition.
        #[arg(long)]
        retention_bytes: Option<u64>,
        /// Milliseconds to keep a record.
        #[arg(long)]
        retention_ms: Option<u64>,
        /// Up to where readers see.
        #[arg(long, value_enum, default_value_t = See::Committed)]
        visibility: See,
        /// Keep only the newest record of each key.
        #[arg(long)]
        compact: bool,
        /// Milliseconds for which a record without a value stays in a compacted topic.
        #[arg(long, requires = "compact")]
        tombstone_ms: Option<u64>,
        /// Bytes to keep per partition on the node, where there is a tier.
        #[arg(long)]
        local_retention_bytes: Option<u64>,
        /// Milliseconds to keep a record on the node, where there is a tier.
        #[arg(long)]
        local_retention_ms: Option<u64>,
        #[command(flatten)]
        output: Options,
    },
    /// List topics.
    List {
        #[command(flatten)]
        output: Options,
    },
    /// Show the partitions of a topic.
    Describe {
        /// Its name.
        name: String,
        #[command(flatten)]
        output: Options,
    },
    /// Delete a topic and all its records.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        output: Options,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum See {
    /// Records that cannot vanish any more.
    Committed,
    /// Records in the page cache as well.
    Written,
}

pub(super) fn run(command: Command) -> Outcome {
    block_on(async {
        match command {
            Command::Create {
                name,
                partitions,
                placement,
                retention_bytes,
                retention_ms,
                visibility,
                compact,
                tombstone_ms,
                local_retention_bytes,
                local_retention_ms,
                output,
            } => {
                let visibility = match visibility {
                    See::Committed => Visibility::Committed,
                    See::Written => Visibility::Written,
                };
                let settings = TopicSettings {
                    placement,
                    retention_bytes,
                    retention_ms,
                    visibility,
                    compact,
                    tombstone_ms,
                    local_retention_bytes,
                    local_retention_ms,
                };
                let client = output.connect.client().await?;
                let topic = client.create_topic(&name, partitions, settings).await?;
                if output.json {
                    println!("{}", topic_json(&topic));
                } else {
                    println!("created topic {name} with {partitions} partition(s)");
                }
                Ok(())
            }
            Command::List { output } => list(&output).await,
            Command::Describe { name, output } => describe(&name, &output).await,
            Command::Delete { name, output } => {
                output.connect.client().await?.delete_topic(&name).await?;
                if output.json {
                    println!("{}", json!({ "deleted": name }));
                } else {
                    println!("deleted topic {name}");
                }
                Ok(())
            }
        }
    })
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

async fn list(output: &Options) -> Outcome {
    let topics = output.connect.client().await?.topics().await?;
    if output.json {
        println!(
            "{}",
            json!(topics.iter().map(topic_json).collect::<Vec<_>>())
        );
        return Ok(());
    }
    if topics.is_empty() {
        println!("no topics; make one with `flowstone topic create NAME`");
        return Ok(());
    }
    let mut table = table(&[
        "TOPIC",
        "PARTITIONS",
        "KEEP",
        "FOR",
        "KEEP HERE",
        "PLACEMENT",
    ]);
    for t in &topics {
        table.add_row([
            t.name.clone(),
            t.partitions.len().to_string(),
            t.settings.retention_bytes.map_or("all".into(), bytes),
            t.settings.retention_ms.map_or("ever".into(), millis),
            here(&t.settings),
            t.settings.placement.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// What of a topic stays on the node where the tier has a copy.
fn here(settings: &TopicSettings) -> String {
    let size = settings.local_retention_bytes.map(bytes);
    let time = settings.local_retention_ms.map(millis);
    match (size, time) {
        (None, None) => "all".into(),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(size), Some(time)) => format!("{size}, {time}"),
    }
}

async fn describe(name: &str, output: &Options) -> Outcome {
    let status = output.connect.client().await?.describe(name).await?;
    if output.json {
        let mut body = topic_json(&status.topic);
        body["partition_status"] = json!(status.partitions);
        println!("{body}");
        return Ok(());
    }
    let mut table = table(&[
        "PARTITION",
        "SHARD",
        "START",
        "COMMITTED",
        "END",
        "KEPT",
        "SETTLED SEGMENTS",
    ]);
    for (index, p) in status.partitions.iter().enumerate() {
        table.add_row([
            index.to_string(),
            status.topic.partitions[index].shard.to_string(),
            p.start.to_string(),
            p.committed.to_string(),
            p.end.to_string(),
            bytes(p.bytes),
            p.settled_segments.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}
