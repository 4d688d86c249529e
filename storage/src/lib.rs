//! Where bytes live: the shard log, its indexes, recovery, settled segments and the state store.
//!
//! Everything is synchronous over the narrow [`disk::Disk`] seam, which has a real implementation
//! ([`real_disk`]) and a simulated one ([`sim_disk`]) that pass one conformance suite.
//!
//! | module | what it is |
//! | - | - |
//! | [`disk`] | the seam: what is asked of a disk |
//! | [`layout`] | names of files and directories |
//! | [`mark`] | the two-slot file with the durable LSN, the epoch and what a replica has promised |
//! | [`log`] | the shard log: append, flush, roll, read, recover |
//! | [`settled`] | immutable files with the batches of one partition |
//! | [`state`] | the materialised view of a shard in redb |
//! | [`snapshot`] | state and settled segments in parts, for another replica |
//! | [`redb_file`] | opening a redb file that may be damaged |
//! | [`inspect`] | a read-only walk of a data directory |
//!
//! storage does not know replication, pipelines or sockets.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

pub mod disk;
#[doc(hidden)]
pub mod disk_tests;
pub mod error;
pub mod inspect;
pub mod layout;
pub mod log;
pub mod mark;
pub mod real_disk;
pub mod redb_file;
pub mod settled;
pub mod sim_disk;
pub mod snapshot;
pub mod state;
mod sys;

pub use disk::{Disk, DiskFile, Mapping};
pub use error::Error;
pub use log::{LogConfig, ShardLog};
pub use real_disk::RealDisk;
pub use sim_disk::SimDisk;
pub use state::StateStore;
