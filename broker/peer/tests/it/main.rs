//! Endpoints of a cluster on loopback: who is let in, what gets through, and what a bad network does.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod calls;
mod joining;
mod links;
mod proxy;
mod rig;
mod rotation;
mod snapshots;
mod strangers;
mod trouble;
