//! Snapshots that come in: one at a time for a shard, and which of them is whole.

use super::copies::Copies;
use super::inbox;
use super::snapshot_parts::Parts;
use crate::service::Service;
use bytes::Bytes;
use flowstone_core::replica::{Envelope, LogId, Message};
use flowstone_peer::snapshot::SnapshotSink;
use flowstone_storage::snapshot::Incoming;
use flowstone_wire::ShardId;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What lies beside a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// It is being written.
    Coming,
    /// It is whole, up to here.
    Whole(LogId),
    /// It takes the place of what the shard has.
    Installing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Beds(Mutex<HashMap<ShardId, Beside>>);

impl Beds {
    fn all(&self) -> MutexGuard<'_, HashMap<ShardId, Beside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, shard: ShardId) -> Result<(), String> {
        let mut all = self.all();
        match all.get(&shard) {
            Some(Beside::Coming | Beside::Installing) => {
                Err(format!("shard {shard} is taking another snapshot"))
            }
            Some(Beside::Whole(_)) | None => {
                all.insert(shard, Beside::Coming);
                Ok(())
            }
        }
    }

    /// Takes the snapshot that ends here; `false` if another one has come since.
    pub(super) fn install(&self, shard: ShardId, last: LogId) -> bool {
        let mut all = self.all();
        let is_it = all.get(&shard) == Some(&Beside::Whole(last));
        if is_it {
            all.insert(shard, Beside::Installing);
        }
        is_it
    }

    pub(super) fn clear(&self, shard: ShardId) {
        self.all().remove(&shard);
    }
}

/// A snapshot that is coming in. What was not whole when it is dropped counts for nothing.
pub(super) struct ArrivingSnapshot {
    copies: Arc<Copies>,
    service: Weak<Service>,
    envelope: Envelope,
    last: LogId,
    incoming: Option<Incoming>,
    parts: Parts,
    is_whole: bool,
}

impl ArrivingSnapshot {
    /// Makes room for one.
    ///
    /// # Errors
    /// Why it is not wanted.
    pub(super) fn begin(
        copies: &Arc<Copies>,
        envelope: Envelope,
        service: &Arc<Service>,
    ) -> Result<Self, String> {
        let Message::Snapshot { last } = envelope.message else {
            return Err("this is no snapshot".into());
        };
        copies.beds.begin(envelope.header.shard)?;
        Ok(Self {
            copies: copies.clone(),
            service: Arc::downgrade(service),
            envelope,
            last,
            incoming: None,
            parts: Parts::default(),
            is_whole: false,
        })
    }

    fn shard(&self) -> ShardId {
        self.envelope.header.shard
    }
}

impl SnapshotSink for ArrivingSnapshot {
    fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.parts.push(&bytes);
        while let Some(part) = self.parts.next()? {
            let incoming = match &mut self.incoming {
                Some(incoming) => incoming,
                // Not before its first bytes are here: this runs where a disk may be waited for.
                None => {
                    let begun = self.copies.begin_incoming(self.envelope.header.shard);
                    self.incoming.insert(begun.map_err(io::Error::other)?)
                }
            };
            incoming.take(part).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let has_all = self.incoming.as_ref().is_some_and(Incoming::is_whole);
        if !has_all || !self.parts.is_empty() {
            let what = "it ends before it is whole";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        // Its state store is closed before anybody opens it.
        self.incoming = None;
        self.is_whole = true;
        let mut all = self.copies.beds.all();
        all.insert(self.shard(), Beside::Whole(self.last));
        drop(all);
        if let Some(service) = self.service.upgrade() {
            // A worker that has too much to do is offered it again, as another one.
            let _ = inbox::tell(&service, self.envelope.clone(), Bytes::new());
        }
        Ok(())
    }
}

impl Drop for ArrivingSnapshot {
    fn drop(&mut self) {
        if !self.is_whole {
            self.incoming = None;
            self.copies.beds.clear(self.shard());
        }
    }
}
