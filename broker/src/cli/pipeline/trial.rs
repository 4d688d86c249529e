//! What pipelines would make of the last records, for people and programs.

use super::super::format::bytes;
use super::super::{Failed, Outcome};
use flowstone_client::{Client, PipelineTrial};

/// Tries the pipelines of a text, unless that is to be over no records at all.
pub(super) async fn run(
    client: &Client,
    text: &str,
    upgrade: bool,
    records: u64,
    json: bool,
) -> Outcome {
    if records == 0 {
        return Ok(());
    }
    let trials = client.try_pipelines(text, upgrade, records).await?;
    if json {
        let text = serde_json::to_string(&trials).map_err(|e| Failed::new(1, e.to_string()))?;
        println!("{text}");
    } else {
        trials.iter().for_each(print);
    }
    Ok(())
}

fn print(trial: &PipelineTrial) {
    if let Some(why) = &trial.refused {
        println!("{} was not tried: {why}", trial.name);
        return;
    }
    println!(
        "{} on the last {} records: {} given out, {} late, {} failed; state {}",
        trial.name,
        trial.records,
        trial.rows,
        trial.late,
        trial.failed,
        bytes(trial.state_bytes)
    );
    if let Some(first) = &trial.first_failure {
        println!("  the first that failed: {first}");
    }
    trial.sample.iter().for_each(|row| println!("  {row}"));
    let more = trial.rows.saturating_sub(trial.sample.len() as u64);
    if more > 0 {
        println!("  and {more} more");
    }
}
