//! The command line: one file per command.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line is not valid, 3 the broker cannot be reached,
//! 4 there is no such topic, 5 damage was found.

pub(crate) mod bench;
mod bucket;
mod cluster;
mod cluster_node;
mod connect;
mod consume;
mod demo;
mod format;
mod inspect;
mod pipeline;
mod produce;
mod repair;
mod restore;
mod serve;
mod sql;
mod statements;
mod tier;
mod topic;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// A command that failed, and the exit code for it.
#[derive(Debug)]
pub(crate) struct Failed {
    code: u8,
    message: String,
}

impl Failed {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// What a command gives.
pub(crate) type Outcome = Result<(), Failed>;

impl From<flowstone_client::Error> for Failed {
    fn from(e: flowstone_client::Error) -> Self {
        use flowstone_client::{Error, ErrorCode};
        let code = match &e {
            Error::Disconnected(_) | Error::InvalidUrl { .. } => 3,
            other if other.code() == Some(ErrorCode::UnknownTopic) => 4,
            _ => 1,
        };
        Self::new(code, e.to_string())
    }
}

impl From<flowstone_wire::Failure> for Failed {
    fn from(e: flowstone_wire::Failure) -> Self {
        Self::new(1, e.message)
    }
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        // Whoever read the output has seen enough.
        let code = if e.kind() == std::io::ErrorKind::BrokenPipe {
            0
        } else {
            1
        };
        Self::new(code, e.to_string())
    }
}

/// A self-contained log broker and stream processor.
#[derive(Parser)]
#[command(name = "flowstone", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker.
    Serve(serve::Args),
    /// Make, list, describe and delete topics.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Look at the cluster, and change it: copies, nodes, leaders.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Deploy, list, describe, pause, resume and delete pipelines of SQL.
    #[command(subcommand)]
    Pipeline(pipeline::Command),
    /// Ask a query of SQL over what topics hold, or over what comes.
    Sql(sql::Args),
    /// Send records, one a line.
    Produce(produce::Args),
    /// Print records.
    Consume(consume::Args),
    /// Measure a running broker, or this machine, beside raw figures.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Watch this computer: its telemetry through an embedded broker and a pipeline.
    Demo(demo::Args),
    /// Look at a data directory while no broker runs on it.
    Inspect(inspect::Args),
    /// Save what can be saved of a damaged data directory, while no broker runs on it.
    Repair(repair::Args),
    /// Make a data directory from a bucket that was the tier of a node.
    Restore(restore::Args),
    /// Look at the tier: how it stands, whether all of it can be read, what nobody needs.
    #[command(subcommand)]
    Tier(tier::Command),
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Topic(command) => topic::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Pipeline(command) => pipeline::run(command),
        Command::Sql(args) => sql::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Bench(command) => bench::run(command),
        Command::Demo(args) => demo::run(args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Repair(args) => repair::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Tier(command) => tier::run(command),
        Command::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "flowstone", &mut std::io::stdout());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code: 0, .. }) => ExitCode::SUCCESS,
        Err(Failed { code, message }) => {
            eprintln!("flowstone: {message}");
            ExitCode::from(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
