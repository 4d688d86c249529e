//! Placeholder.
use super::Outcome;
#[derive(clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_c: Args) -> Outcome { Ok(()) }
