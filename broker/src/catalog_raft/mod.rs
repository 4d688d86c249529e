//! The catalog, agreed on by the voters of a cluster: openraft over one file, `catalog.redb`.
//!
//! ```text
//!  callers --> CatalogStore::apply --> member (propose) --> raft --> log.rs      --+
//!                                        |    ^               |                     +--> file.rs: catalog.redb
//!                                        |    |               +----> machine.rs  --+
//!                                  to the leader, if            commands become rows, and are seen
//!                                  that is another node         by everybody who watches
//! ```
//!
//! One thread, `catalog`, runs all of it on a runtime of its own, and waits for the disk there: whatever
//! it stores is durable before the next thing happens, and in the order in which it was asked for.
//! `docs/decisions/0004-catalog.md` has the reasons.

mod file;
mod forward;
mod keeper;
mod log;
mod machine;
mod member;
mod network;
mod pace;
mod peers;
mod serve;
mod thread;
mod voters;

pub(crate) use peers::{NodeReport, PeerAnswer, PeerError, PeerRequest, Peers};

pub(crate) use file::{Role, make};
pub(crate) use keeper::Vitals;
pub(crate) use member::Standing;
pub(crate) use thread::CatalogThread;

use flowstone_core::catalog::{Command, Event};
use flowstone_wire::Failure;
use serde::{Deserialize, Serialize};

/// A command on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// Drawn by whoever asks: a command that is proposed again, because its answer was lost, is not
    /// applied again while the last [`machine::REMEMBERED`] of them are remembered. 0: it may be.
    pub(crate) id: u128,
    /// What is to be done.
    pub(crate) command: Command,
}

/// What a command did; `None` of an entry that is no command.
pub(crate) type Outcome = Option<Result<Event, Failure>>;

openraft::declare_raft_types!(
    /// What the log is of.
    pub(crate) Types:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = openraft::EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = std::io::Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

type LogId = openraft::LogId<u64>;
type Vote = openraft::Vote<u64>;
type Entry = openraft::Entry<Types>;
type Membership = openraft::StoredMembership<u64, openraft::EmptyNode>;
type StorageError = openraft::StorageError<u64>;
type Raft = openraft::Raft<Types>;

#[cfg(test)]
mod tests;
