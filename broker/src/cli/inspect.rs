//! `flowstone inspect`: what is in a data directory, and what is damaged.

use super::format::bytes;
use super::{Failed, Outcome};
use crate::data_dir;
use comfy_table::{Table, presets};
use flowstone_storage::inspect::{self, ShardReport};
use flowstone_storage::{Disk, RealDisk, layout};
use flowstone_wire::ShardId;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory.
    dir: PathBuf,
    /// Read settled segments whole and check every checksum.
    #[arg(long)]
    deep: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    look(&args.dir, args.deep, args.json)
}

/// Prints what is there; an error with exit code 5 where something is damaged.
pub(super) fn look(dir: &Path, deep: bool, json: bool) -> Outcome {
    let identity = data_dir::read(dir).map_err(|e| Failed::new(1, e.to_string()))?;
    let disk = RealDisk::new(dir)?;
    let mut damage = 0;
    if deep && let Err(what) = catalog(&disk) {
        damage += 1;
        if !json {
            println!("DAMAGE: {what}");
        }
    }
    let mut shards = Vec::new();
    for id in (0..identity.shards).map(ShardId) {
        let report = inspect::shard(&disk, &layout::shard_dir(id), deep)
            .map_err(|e| Failed::new(1, e.to_string()))?;
        damage += report.damage().len();
        if json {
            shards.push(as_json(id, &report));
        } else {
            print(id, &report);
        }
    }
    if json {
        let all = json!({
            "node_id": identity.node_id,
            "format_version": identity.format_version,
            "shards": shards,
        });
        println!("{all}");
    }
    if damage > 0 {
        return Err(Failed::new(
            5,
            format!("{damage} damaged place(s) were found"),
        ));
    }
    Ok(())
}

fn catalog(disk: &RealDisk) -> Result<(), String> {
    let path = Path::new("catalog.redb");
    match disk.open(path) {
        Ok(file) => inspect::redb_copy(path, &*file),
        Err(e) => Err(format!("'{}': {e}", path.display())),
    }
}

fn as_json(id: ShardId, report: &ShardReport) -> serde_json::Value {
    let segments = report.segments.iter().map(|s| {
        json!({
            "path": s.path, "first_lsn": s.first_lsn, "last_lsn": s.last_lsn,
            "batches": s.batches, "records": s.records, "bytes": s.bytes, "behind": s.behind,
        })
    });
    let settled = report.settled.iter().map(|s| match &s.state {
        Ok(m) => json!({ "path": s.path, "first_offset": m.first_offset,
            "next_offset": m.next_offset, "records": m.records, "bytes": m.bytes }),
        Err(e) => json!({ "path": s.path, "error": e.to_string() }),
    });
    json!({
        "shard": id,
        "durable_lsn": report.mark.durable,
        "epoch": report.mark.epoch,
        "starts": report.mark.starts,
        "stopped_in_order": report.mark.clean,
        "segments": segments.collect::<Vec<_>>(),
        "settled": settled.collect::<Vec<_>>(),
        "damage": report.damage(),
    })
}

fn print(id: ShardId, report: &ShardReport) {
    let mark = &report.mark;
    let stopped = if mark.clean {
        "stopped in order"
    } else {
        "not stopped in order"
    };
    println!(
        "shard {id}: durable to LSN {} at least, epoch {}, {} start(s), {stopped}",
        mark.durable, mark.epoch, mark.starts
    );
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "SEGMENT",
        "FIRST LSN",
        "LAST LSN",
        "BATCHES",
        "RECORDS",
        "BYTES",
        "BEHIND",
    ]);
    for s in &report.segments {
        table.add_row([
            s.path.display().to_string(),
            s.first_lsn.to_string(),
            s.last_lsn.to_string(),
            s.batches.to_string(),
            s.records.to_string(),
            bytes(s.bytes),
            s.behind.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    println!("{table}");
    if !report.settled.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["SETTLED SEGMENT", "OFFSETS", "RECORDS", "BYTES"]);
        for s in &report.settled {
            match &s.state {
                Ok(m) => table.add_row([
                    s.path.display().to_string(),
                    format!(
                        "{} to {}",
                        m.first_offset,
                        m.next_offset.0.saturating_sub(1)
                    ),
                    m.records.to_string(),
                    bytes(m.bytes),
                ]),
                Err(e) => table.add_row([s.path.display().to_string(), e.to_string()]),
            };
        }
        println!("{table}");
    }
    for line in report.damage() {
        println!("DAMAGE: {line}");
    }
}
