//! What replaces a log: many bytes on a stream of their own, no faster than allowed, beside everything else.

pub mod frame;
mod rate;
mod receive;
mod send;

pub(crate) use rate::Rate;
pub(crate) use receive::receive;
pub(crate) use send::send;

use crate::error::PeerError;
use bytes::Bytes;
use flowstone_core::replica::Envelope;
use std::io;

/// What comes before a snapshot's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The message: which shard, and up to which entry.
    pub envelope: Envelope,
    /// What the bytes are: for the receiving shard to read, and to judge.
    pub manifest: Bytes,
}

/// Gives a snapshot's bytes. Runs on a thread that may wait for a disk.
pub trait SnapshotSource: Send {
    /// The next bytes, some hundred KiB; `None` at the end.
    ///
    /// # Errors
    /// What the disk says; the snapshot ends there, and the receiver throws it away.
    fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// Takes a snapshot's bytes. Runs on a thread that may wait for a disk. What was not finished when it is
/// dropped is to be thrown away.
pub trait SnapshotSink: Send {
    /// The next bytes.
    ///
    /// # Errors
    /// What the disk says; the sender is told.
    fn write(&mut self, bytes: Bytes) -> io::Result<()>;

    /// That was all of them. Returns when they are durable.
    ///
    /// # Errors
    /// The same.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Told what has come of a snapshot.
pub type SnapshotOutcome = Box<dyn FnOnce(Result<(), PeerError>) + Send>;
