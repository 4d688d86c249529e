//! Flowstone as a library, and the shell of the one binary: workers, doors, catalog store, CLI.
//!
//! - [`Broker`]: a whole node in this process: workers, native and HTTP doors; [`Broker::client`]
//!   talks to it without a socket.
//! - [`Engine`]: one shard on the calling thread, for programs that process in microseconds and need
//!   no doors.
//!
//! | module | what it is |
//! | - | - |
//! | [`config`] | settings of a node |
//! | [`data_dir`] | the data directory: identity, version, lock |
//! | [`broker`] | starting and stopping a node |
//! | [`service`] | what a node does with a request, whichever door it came through |
//! | [`worker`] | pinned threads, each with its shards and connections |
//! | [`http`] | the HTTP door |
//! | [`engine`] | one shard on the calling thread |
//! | [`metrics`] | every metric there is |
//! | [`cli`] | the command line |
//! | [`demo`] | this computer's telemetry, as a demonstration |
//! | [`mod@bench`] | measuring, beside raw figures of the machine |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

mod background;
pub mod bench;
pub mod broker;
mod catalog_copy;
mod catalog_raft;
mod catalog_store;
pub mod cli;
mod cluster;
mod cold_read;
pub mod config;
pub mod data_dir;
pub mod demo;
mod effects;
pub mod engine;
mod file_limit;
pub mod http;
mod low_priority;
mod mailbox;
pub mod metrics;
mod pipelines;
mod queries;
pub mod repair;
mod reserve;
pub mod restore;
pub mod service;
mod shard_opener;
pub mod tiering;
mod topic_json;
mod transport;
pub mod worker;

pub use broker::{Broker, StartError};
pub use config::Config;
pub use engine::Engine;
pub use flowstone_client as client;
pub use flowstone_processor as processor;
pub use flowstone_wire as wire;
