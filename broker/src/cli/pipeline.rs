//! `flowstone pipeline`: deploy, list, describe, pause, resume, delete, do again.

mod replay;
mod trial;

use super::connect::{Options, block_on};
use super::format::{bytes, millis};
use super::{Failed, Outcome, statements};
use crate::worker::unix_ms;
use comfy_table::{Table, presets};
use flowstone_client::{PipelineAction, PipelineDescription, PipelineShown, PipelineStatus};
use std::iter::once;
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Deploy the pipelines of a file of SQL and keep its streams.
    Deploy(Deploy),
    /// Let deployed pipelines go on as a file of SQL says, with the state that they have.
    Upgrade(Deploy),
    /// List the pipelines that were deployed.
    List {
        #[command(flatten)]
        options: Options,
    },
    /// Show a pipeline: its statement and how it runs.
    Describe {
        /// Its name.
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Let a pipeline rest where it is.
    Pause {
        /// Its name.
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Let a pipeline go on.
    Resume {
        /// Its name.
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Do a pipeline again over what was written, and put the result in its place.
    Replay(replay::Replay),
    /// Put a replay in the place of its pipeline, if it has read as far.
    Switch {
        /// Name of the pipeline.
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Stop a pipeline and forget its state; its topics stay.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(clap::Args)]
pub(super) struct Deploy {
    /// The file; `-` for standard input.
    file: PathBuf,
    /// Only say whether that can be, how the pipelines would run, and what they make of the last records.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: how many of the last records of each topic; 0 for none.
    #[arg(long, default_value_t = 1_000, requires = "dry_run")]
    records: u64,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(command: Command) -> Outcome {
    block_on(async {
        match command {
            Command::Deploy(args) => deploy(&args, false).await,
            Command::Upgrade(args) => deploy(&args, true).await,
            Command::List { options } => {
                let client = options.connect.client().await?;
                print(&client.describe_pipelines(None).await?, options.json, false)
            }
            Command::Describe { name, options } => {
                let client = options.connect.client().await?;
                let described = client.describe_pipelines(Some(&name)).await?;
                // Where a shard cannot say what it has done, the rest is shown.
                let running = client.pipelines().await;
                if let (Err(error), false) = (&running, options.json) {
                    eprintln!("what it has done is not known: {error}");
                }
                let running = running.unwrap_or_default();
                if options.json {
                    return print_shown(described, &running);
                }
                print(&described, false, true)?;
                let numbers = running.iter().find(|p| p.name == name);
                numbers.into_iter().for_each(print_numbers);
                Ok(())
            }
            Command::Pause { name, options } => {
                control(&name, PipelineAction::Pause, &options).await
            }
            Command::Resume { name, options } => {
                control(&name, PipelineAction::Resume, &options).await
            }
            Command::Replay(args) => replay::run(&args).await,
            Command::Switch { name, options } => replay::switch(&name, &options).await,
            Command::Delete { name, options } => {
                control(&name, PipelineAction::Delete, &options).await
            }
        }
    })
}

/// Deploys the pipelines of a file, or lets them go on as it says.
async fn deploy(args: &Deploy, upgrade: bool) -> Outcome {
    let Deploy {
        file,
        dry_run,
        records,
        options,
    } = args;
    let text = statements::read(file)?;
    let client = options.connect.client().await?;
    let deployed = match upgrade {
        true => client.upgrade_pipelines(&text, *dry_run).await?,
        false => client.deploy_pipelines(&text, *dry_run).await?,
    };
    print(&deployed, options.json, *dry_run)?;
    match dry_run {
        true => trial::run(&client, &text, upgrade, *records, options.json).await,
        false => Ok(()),
    }
}

async fn control(name: &str, action: PipelineAction, options: &Options) -> Outcome {
    let client = options.connect.client().await?;
    client.control_pipeline(name, action).await?;
    Ok(())
}

/// An object a line.
fn print_shown(described: Vec<PipelineDescription>, running: &[PipelineStatus]) -> Outcome {
    for description in described {
        let numbers = running.iter().find(|p| p.name == description.name);
        let shown = PipelineShown {
            numbers: numbers.cloned(),
            description,
        };
        let text = serde_json::to_string(&shown).map_err(|e| Failed::new(1, e.to_string()))?;
        println!("{text}");
    }
    Ok(())
}

/// What it has done since its tasks were started.
fn print_numbers(p: &PipelineStatus) {
    let behind = |ms: i64| u64::try_from(unix_ms().saturating_sub(ms)).unwrap_or(0);
    let time = p.watermark_ms.map_or("is not known yet".into(), |ms| {
        format!("is {} behind the clock", millis(behind(ms)))
    });
    println!(
        "{} processed, {} given out, {} late, {} failed, {} to do; from append to processed {:.0} us (p50), \
         {:.0} us (p99)",
        p.processed, p.emitted, p.late, p.failed, p.lag, p.latency_p50_us, p.latency_p99_us
    );
    let spilled = match p.spilled_bytes {
        0 => String::new(),
        more => format!(", about {} more on disk only", bytes(more)),
    };
    println!("event time {time}, state {}{spilled}", bytes(p.state_bytes));
    if p.operators.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["OPERATOR", "ROWS IN", "ROWS OUT", "LATE", "FAILED", "STATE"]);
    for o in &p.operators {
        let counts = [o.rows_in, o.rows_out, o.late, o.failed].map(|n| n.to_string());
        let state = bytes(o.state_bytes);
        table.add_row(once(&o.name).chain(&counts).chain(once(&state)));
    }
    println!("{table}");
}

fn print(pipelines: &[PipelineDescription], json: bool, whole: bool) -> Outcome {
    if json {
        let text = serde_json::to_string(pipelines).map_err(|e| Failed::new(1, e.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    if whole {
        for p in pipelines {
            println!("{} ({})\n\n{}\n\n{}", p.name, p.state, p.statement, p.plan);
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["PIPELINE", "STATE", "READS", "WRITES"]);
    for p in pipelines {
        let (reads, writes) = (p.sources.join(", "), p.sinks.join(", "));
        table.add_row([&p.name, &p.state, &reads, &writes]);
    }
    println!("{table}");
    Ok(())
}
