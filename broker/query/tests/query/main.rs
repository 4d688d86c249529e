//! Queries over topics in memory.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod history;
mod live;
mod names;
mod output;
mod rig;
mod trial;
