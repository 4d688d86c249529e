//! `flowstone pipeline replay`: does a pipeline again and puts the result in its place.

use super::super::connect::Options;
use super::super::{Failed, Outcome};
use crate::http::replay_from;
use flowstone_client::{Client, ErrorCode, PipelineAction};
use std::time::Duration;

/// How often it is tried whether the replay is as far.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is said how much there is to do.
const TELL_EVERY: u32 = 10;

#[derive(clap::Args)]
pub(in crate::cli) struct Replay {
    /// Its name.
    name: String,
    /// Where to begin: start, or @ and a time (@2026-01-31T12:00:00Z, @1767225600000). Windows that began before it
    /// lack what came before it.
    #[arg(long, default_value = "start")]
    from: String,
    /// Begin only; `flowstone pipeline switch` puts the result in its place.
    #[arg(long)]
    no_switch: bool,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: &Replay) -> Outcome {
    let from_ms = replay_from(&args.from).map_err(|p| Failed::new(2, p.0.message))?;
    let client = args.options.connect.client().await?;
    let (name, action) = (&args.name, PipelineAction::Replay { from_ms });
    client.control_pipeline(name, action).await?;
    if args.no_switch {
        println!("'{name}.replay' runs; when it is as far: flowstone pipeline switch {name}");
        return Ok(());
    }
    wait_and_switch(&client, name).await
}

/// Tries to switch until the replay is as far.
async fn wait_and_switch(client: &Client, name: &str) -> Outcome {
    for turn in 0_u32.. {
        match client.control_pipeline(name, PipelineAction::Switch).await {
            Ok(()) => break,
            Err(e) if e.code() == Some(ErrorCode::Busy) => {
                if turn % TELL_EVERY == 0 {
                    eprintln!("{e}");
                }
            }
            Err(e) => {
                eprintln!("'{name}.replay' goes on; later: flowstone pipeline switch {name}");
                return Err(e.into());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    told(name);
    Ok(())
}

pub(super) async fn switch(name: &str, options: &Options) -> Outcome {
    let client = options.connect.client().await?;
    client
        .control_pipeline(name, PipelineAction::Switch)
        .await?;
    told(name);
    Ok(())
}

fn told(name: &str) {
    println!(
        "topic '{name}' has the new results, and '{name}.before' the earlier ones. Consumers of '{name}' that \
         run still read those: start them anew."
    );
}
