//! Copies of shards on their background threads: opened again, replaced by a snapshot, sent as one.

use super::incoming::Beds;
use super::snapshot_parts;
use super::wire::Wire;
use crate::catalog_store::CatalogStore;
use crate::effects::ShardFiles;
use crate::shard_opener::ShardOpener;
use crate::worker::unix_ms;
use bytes::Bytes;
use flowstone_core::Shard;
use flowstone_core::replica::{Envelope, Header, LogId, Message};
use flowstone_core::shard::snapshot_id;
use flowstone_peer::snapshot::{SnapshotHead, SnapshotSource};
use flowstone_storage::snapshot::{Incoming, Outgoing, TailPiece, install};
use flowstone_storage::{Error, layout};
use flowstone_wire::{Lsn, NodeId, ShardId};
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::watch;

/// See the module.
pub(crate) struct Copies {
    me: NodeId,
    opener: ShardOpener,
    catalog: watch::Receiver<Arc<flowstone_core::Catalog>>,
    pub(super) beds: Beds,
    wire: OnceLock<Arc<Wire>>,
}

/// A snapshot that is being sent, for whoever must have it end.
pub(crate) type Sending = Arc<Mutex<Option<Outgoing>>>;

impl Copies {
    pub(crate) fn new(me: NodeId, opener: ShardOpener, catalog: &CatalogStore) -> Self {
        Self {
            me,
            opener,
            catalog: catalog.watch(),
            beds: Beds::default(),
            wire: OnceLock::new(),
        }
    }

    pub(super) fn connect(&self, wire: Arc<Wire>) {
        // Set once, when the node starts.
        let _ = self.wire.set(wire);
    }

    /// Whether there are files of a shard.
    pub(crate) fn is_here(&self, shard: ShardId) -> bool {
        self.opener.is_here(shard)
    }

    /// Opens a copy, making an empty one where there is none.
    ///
    /// # Errors
    /// What storage says.
    pub(crate) fn open(&self, shard: ShardId) -> Result<(Shard, ShardFiles), Error> {
        self.opener.open(shard, self.fresh_life(shard))
    }

    /// Puts the snapshot that ends at `last` in place of what the shard has, if it is still there. Nothing
    /// of the shard is open.
    ///
    /// # Errors
    /// What storage says; opening the shard goes on with it.
    pub(crate) fn install(&self, shard: ShardId, last: LogId) -> Result<(), Error> {
        if !self.beds.install(shard, last) {
            return Ok(());
        }
        let installed = install(&*self.opener.disk, &layout::shard_dir(shard));
        self.beds.clear(shard);
        installed
    }

    /// A life that is higher than any that the data had, as far as the catalog knows, also where this
    /// machine's clock went back.
    fn fresh_life(&self, shard: ShardId) -> u64 {
        let catalog = self.catalog.borrow();
        let known = catalog.placed(shard).and_then(|p| p.lives.get(&self.me));
        let now = u64::try_from(unix_ms()).unwrap_or(0);
        now.max(known.map_or(0, |life| life.0 + 1))
    }

    pub(super) fn begin_incoming(&self, shard: ShardId) -> Result<Incoming, Error> {
        let (disk, config) = (self.opener.disk.clone(), self.opener.log_config());
        Incoming::begin(disk, &layout::shard_dir(shard), config)
    }

    /// Sends the state and the settled segments as they are now; `done` is called once, when it is over.
    /// `None` if it never began.
    pub(crate) fn send_snapshot(
        &self,
        files: &ShardFiles,
        header: Header,
        (useful, tail): (&RangeInclusive<Lsn>, Vec<TailPiece>),
        done: Box<dyn FnOnce() + Send>,
    ) -> Option<Sending> {
        let begun = Outgoing::begin(files.disk.clone(), &files.dir, &files.state, tail);
        let begun = begun.and_then(|out| Ok((snapshot_id(out.picture())?, out)));
        let (last, outgoing) = match begun {
            Ok((last, out)) if useful.contains(&last.lsn) => (last, out),
            Ok(_) => {
                // It is asked for again.
                done();
                return None;
            }
            Err(e) => {
                tracing::warn!(shard = header.shard.0, "no snapshot can be sent: {e}");
                done();
                return None;
            }
        };
        let message = Message::Snapshot { last };
        let head = SnapshotHead {
            envelope: Envelope { header, message },
            manifest: Bytes::new(),
        };
        let sending: Sending = Arc::new(Mutex::new(Some(outgoing)));
        let source = Box::new(Source(sending.clone()));
        let (shard, to) = (header.shard, header.to.node);
        tracing::info!(
            shard = shard.0,
            to = to.0,
            "sending a snapshot up to {last}"
        );
        let ended = Box::new(move |result: Result<(), flowstone_peer::PeerError>| {
            match result {
                Ok(()) => tracing::info!(shard = shard.0, to = to.0, "the snapshot has arrived"),
                Err(e) => tracing::warn!(shard = shard.0, "the snapshot has not arrived: {e}"),
            }
            done();
        });
        let wire = self.wire.get()?;
        wire.with(|endpoint| endpoint.send_snapshot(to, head, source, ended))?;
        Some(sending)
    }
}

/// Reads a snapshot that nobody has ended.
struct Source(Sending);

impl SnapshotSource for Source {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut outgoing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(out) = outgoing.as_mut() else {
            return Err(io::Error::other("the copy it is of was opened again"));
        };
        match out.next_part().map_err(io::Error::other)? {
            Some(part) => snapshot_parts::encode(&part).map(Some),
            None => {
                *outgoing = None;
                Ok(None)
            }
        }
    }
}

/// Ends a snapshot that is being sent: its state store is let go of.
pub(crate) fn end(sending: &Sending) {
    *sending.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Whether all of a snapshot was read, or it was ended.
pub(crate) fn is_over(sending: &Sending) -> bool {
    sending
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_none()
}
