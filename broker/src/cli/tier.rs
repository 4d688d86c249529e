//! `flowstone tier`: how it stands, whether all of it can be read, and what nobody needs.

use super::bucket::{Bucket, bar};
use super::connect::{Connect, block_on};
use super::format::{bytes, millis};
use super::{Failed, Outcome};
use crate::worker::unix_ms;
use comfy_table::{Table, presets};
use flowstone_tier::GcOptions;
use flowstone_wire::native::TierStatus;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// Younger objects may be about to be named by a manifest.
const MIN_AGE_MS: u64 = 24 * 3600 * 1000;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show how the tier of a running broker stands.
    Status(Status),
    /// Read everything in the bucket, and check every checksum and that no offset is missing.
    Verify(Look),
    /// Find, or remove, objects that no manifest names, and uploads that were never finished.
    Gc(Gc),
}

#[derive(clap::Args)]
pub(super) struct Status {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

#[derive(clap::Args)]
pub(super) struct Look {
    #[command(flatten)]
    bucket: Bucket,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct Gc {
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Leave what is younger than this, in milliseconds: a day by default. An upload must not take longer.
    #[arg(long, default_value_t = MIN_AGE_MS)]
    min_age_ms: u64,
    #[command(flatten)]
    look: Look,
}

pub(super) fn run(command: Command) -> Outcome {
    match command {
        Command::Status(args) => status(&args),
        Command::Verify(args) => verify(&args),
        Command::Gc(args) => gc(&args),
    }
}

fn status(args: &Status) -> Outcome {
    let status = block_on(async { Ok(args.connect.client().await?.tier().await?) })?;
    if args.json {
        println!("{}", json!(status));
        return Ok(());
    }
    let Some(status) = status else {
        println!("this broker has no tier; see [tier] in systemd/flowstone.toml.example");
        return Ok(());
    };
    println!("{}", table(&status));
    let all = status.copied_bytes + status.waiting_bytes;
    let style = ProgressStyle::with_template("uploaded {wide_bar} {bytes} of {total_bytes}");
    let bar = ProgressBar::new(all.max(1)).with_position(status.copied_bytes);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.abandon();
    Ok(())
}

fn table(s: &TierStatus) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let state = match &s.why {
        Some(why) => format!("{}: {why}", s.state),
        None if s.failing => format!("{}, the last upload failed; see the broker's log", s.state),
        None => s.state.clone(),
    };
    let waits = match (s.waiting_bytes, s.waiting_ms) {
        (0, _) => "nothing".into(),
        (waiting, Some(ms)) => format!("{}, the oldest for {}", bytes(waiting), millis(ms)),
        (waiting, None) => bytes(waiting),
    };
    let requests = format!(
        "{} writing, {} reading, {} listing, {} failed",
        s.put_requests, s.get_requests, s.list_requests, s.errors
    );
    let cache = format!(
        "{}, {} hits, {} misses",
        bytes(s.cache_bytes),
        s.cache_hits,
        s.cache_misses
    );
    let mut rows = vec![
        ("TIER", s.url.clone()),
        ("STATE", state),
        ("EPOCH", s.epoch.map_or("-".into(), |e| e.to_string())),
        ("COPIED", bytes(s.copied_bytes)),
        ("THERE ONLY", bytes(s.remote_bytes)),
        ("WAITING", waits),
        ("SENT", bytes(s.up_bytes)),
        ("RECEIVED", bytes(s.down_bytes)),
        ("REQUESTS", requests),
        ("CACHE", cache),
    ];
    if let Some(cost) = s.month_cost {
        rows.push(("A MONTH", format!("{cost:.2} by the price list")));
    }
    for (name, value) in rows {
        table.add_row([name.to_string(), value]);
    }
    table
}

fn verify(args: &Look) -> Outcome {
    let report = args.bucket.run(async |tier, _| {
        let bar = bar("partitions");
        let told = |p: &flowstone_tier::Progress| {
            bar.set_length(p.partitions);
            bar.set_position(p.partitions_begun);
        };
        let report = tier.verify(told).await;
        bar.finish_and_clear();
        Ok(report?)
    })?;
    let read = &report.read;
    if args.json {
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|p| json!({ "partition": p.partition, "offset": p.offset, "what": p.what }))
            .collect();
        println!(
            "{}",
            json!({
                "partitions": read.partitions, "objects": read.objects, "bytes": read.bytes,
                "problems": problems,
            })
        );
    } else {
        println!(
            "read {} objects of {} partition(s), {}",
            read.objects,
            read.partitions,
            bytes(read.bytes)
        );
        for p in &report.problems {
            let at = p
                .offset
                .map_or(String::new(), |o| format!(" at offset {o}"));
            println!("partition {}{at}: {}", p.partition, p.what);
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        n => Err(Failed::new(5, format!("{n} problem(s) were found"))),
    }
}

fn gc(args: &Gc) -> Outcome {
    let options = GcOptions {
        dry_run: args.dry_run,
        now_ms: unix_ms(),
        min_age_ms: args.min_age_ms,
        epoch: None,
    };
    let (orphans, unfinished) = args.look.bucket.run(async |tier, _| {
        let orphans = tier.gc(&options).await?;
        // What those who write there now are uploading is not touched.
        let unfinished = tier.abort_unfinished(args.dry_run).await?;
        Ok((orphans, unfinished))
    })?;
    let sum: u64 = orphans.iter().map(|o| o.bytes).sum();
    if args.look.json {
        let rows: Vec<_> = orphans
            .iter()
            .map(|o| {
                json!({
                    "partition": o.partition, "first_offset": o.id.first_offset,
                    "generation": o.id.generation, "epoch": o.id.epoch.0, "bytes": o.bytes,
                    "modified_ms": o.modified_ms,
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "removed": !args.dry_run, "orphans": rows, "unfinished": unfinished })
        );
        return Ok(());
    }
    for o in &orphans {
        println!(
            "partition {} from offset {}, {}",
            o.partition,
            o.id.first_offset,
            bytes(o.bytes)
        );
    }
    let did = if args.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    println!(
        "{} object(s) that no manifest names {did}, {}",
        orphans.len(),
        bytes(sum)
    );
    match unfinished {
        None => println!("unfinished uploads are not listed by this bucket; see docs/OPERATING.md"),
        Some(0) => {}
        Some(n) => println!("{n} unfinished upload(s) of earlier owners {did}"),
    }
    Ok(())
}
