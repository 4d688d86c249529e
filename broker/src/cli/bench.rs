//! Placeholder.
use super::Outcome;
#[derive(clap::Subcommand)]
pub(super) enum Command { /// x
 X }
pub(super) fn run(_c: Command) -> Outcome { Ok(()) }
