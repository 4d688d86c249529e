//! `flowstone demo`: this computer, watched.

use super::{Failed, Outcome};
use crate::demo::{Demo, screen};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the screen is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// How long it runs where nobody can end it with Ctrl-C.
const SECONDS_UNATTENDED: f64 = 10.0;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How long; without it until Ctrl-C, or 10 seconds where the output is no terminal.
    #[arg(long)]
    seconds: Option<f64>,
    /// Print a JSON summary as the last line, and no screen.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Outcome {
    super::serve::log_to_stderr("warn");
    let terminal = std::io::stdout().is_terminal();
    let live = terminal && !args.json;
    let seconds = args.seconds.or((!terminal).then_some(SECONDS_UNATTENDED));
    let mut demo = Demo::start().map_err(failed)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let runtime = demo.runtime();
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let mut drawn = Instant::now();
    let stop = |elapsed: Duration| {
        interrupted.load(Ordering::Relaxed) || seconds.is_some_and(|s| elapsed.as_secs_f64() >= s)
    };
    runtime
        .block_on(demo.run(stop, |seen| {
            if live && drawn.elapsed() >= DRAW_EVERY {
                drawn = Instant::now();
                // Home and clear to the end: no flicker, as a clear of the whole screen would give.
                print!("\x1b[H\x1b[J{}", screen::page(seen, true));
                // A screen that cannot be drawn does not stop the measurement.
                let _ = std::io::stdout().flush();
            }
        }))
        .map_err(failed)?;
    let seen = demo.seen();
    if args.json {
        println!("{}", seen.summary());
    } else {
        if live {
            print!("\x1b[H\x1b[J");
        }
        print!("{}", screen::page(seen, false));
        println!("\n{} records read back, {} lost", seen.records, seen.lost);
    }
    if seen.lost > 0 {
        return Err(Failed::new(1, format!("{} records were lost", seen.lost)));
    }
    Ok(())
}

fn failed(e: crate::demo::Error) -> Failed {
    Failed::new(1, e.to_string())
}
