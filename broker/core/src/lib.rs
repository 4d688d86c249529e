//! Who decides: the shard, its replication and the catalog, as pure state machines.
//!
//! The driver's contract, the same for the real and the simulated driver:
//!
//! - [`Shard::step`] takes one [`Input`] and pushes [`Output`]s; the driver drains the outbox to empty
//!   before the next step;
//! - after one or more inputs the driver steps [`Input::Turn`]: tasks run, what was staged is written
//!   in one go, and a sync is asked for; until then nothing that was produced is answered;
//! - work that an output asks for is answered by the input that its docs name, exactly once;
//! - [`Shard::deadline`] says when to step [`Input::Tick`] even if nothing arrives.
//!
//! The only effect a step has by itself is writing to the page cache through the log's files, which
//! does not wait for a device. There are no clocks, threads, locks or sockets in here: time is the
//! argument [`Now`].
//!
//! | module | what it is |
//! | - | - |
//! | [`input`] | everything that can happen to a shard |
//! | [`output`] | everything a shard can ask for |
//! | [`shard`] | the state machine |
//! | [`replica`] | the replication of a shard |
//! | [`catalog`] | topics, placement, producers, pipelines: what a cluster agrees on |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

pub mod catalog;
pub mod input;
pub mod output;
pub mod replica;
pub mod shard;

pub use catalog::Catalog;
pub use input::{Input, Now, Ticket};
pub use output::{Outbox, Output, Reply};
pub use shard::{Parcel, Shard, ShardConfig, ShardStart};
