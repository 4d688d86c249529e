//! What the log's commands make: rows, and the catalog that everybody reads.
#![allow(
    clippy::result_large_err,
    reason = "it is the error that openraft asks for"
)]

use super::file::{CatalogFile, DONE, RAFT, ROWS, Rows, decode, encode, get, put};
use super::{Entry, LogId, Membership, Outcome, Proposal, StorageError, Types};
use crate::catalog_copy;
use flowstone_core::Catalog;
use flowstone_core::catalog::{Event, Row};
use flowstone_storage::Error;
use flowstone_wire::Failure;
use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError,
};
use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// So many proposals are known again when they come a second time.
pub(super) const REMEMBERED: usize = 256;

/// A proposal that was applied: index, id, and what it did.
type Remembered = (u64, u128, Result<Event, Failure>);

/// What a node sees of what was agreed on; outlives the machine that shows it.
pub(super) struct Shown {
    pub(super) catalog: watch::Sender<Arc<Catalog>>,
    /// Index of the last entry that was applied here.
    pub(super) applied: watch::Sender<u64>,
    done: Mutex<VecDeque<Remembered>>,
}

impl Shown {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            catalog: watch::Sender::new(Arc::new(Catalog::new(shards))),
            applied: watch::Sender::new(0),
            done: Mutex::default(),
        }
    }

    /// What a proposal did, if it was applied lately.
    pub(super) fn outcome(&self, id: u128) -> Option<Result<Event, Failure>> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let found = done.iter().find(|(_, other, _)| *other == id);
        found.map(|(_, _, outcome)| outcome.clone())
    }
}

/// The state machine of the log.
pub(super) struct Machine {
    file: Arc<CatalogFile>,
    shown: Arc<Shown>,
    catalog: Catalog,
    applied: Option<LogId>,
    membership: Membership,
    done: VecDeque<Remembered>,
}

/// A snapshot: everything but log and vote.
#[derive(Serialize, Deserialize)]
struct Content {
    shards: u16,
    rows: Rows,
    done: VecDeque<Remembered>,
}

/// What is stored of some entries.
struct Change {
    rows: Vec<Row>,
    done: Vec<Remembered>,
    forgotten: u64,
}

fn writing(e: Error) -> StorageError {
    StorageIOError::write_state_machine(&e).into()
}

fn not_this_version(what: String) -> StorageError {
    StorageIOError::read_snapshot(None, openraft::AnyError::error(what)).into()
}

impl Machine {
    /// What the file has.
    ///
    /// # Errors
    /// What is wrong with it, as text for an operator.
    pub(super) fn load(file: Arc<CatalogFile>, shown: Arc<Shown>) -> Result<Self, String> {
        let shards = shown.catalog.borrow().shards();
        let rows = file.rows().map_err(|e| e.to_string())?;
        let pairs = rows.iter().map(|(k, v)| (&k[..], &v[..]));
        let catalog = Catalog::from_rows(shards, pairs)?;
        let loaded = file.read(|tx| {
            let raft = tx.open_table(RAFT)?;
            let mut done = VecDeque::new();
            for row in tx.open_table(DONE)?.iter()? {
                let (index, value) = row?;
                let (id, outcome) = decode(value.value())?;
                done.push_back((index.value(), id, outcome));
            }
            Ok((get(&raft, "applied")?, get(&raft, "membership")?, done))
        });
        let (applied, membership, done) = loaded.map_err(|e| e.to_string())?;
        let machine = Self {
            file,
            shown,
            catalog,
            applied,
            membership: membership.unwrap_or_default(),
            done,
        };
        machine.show();
        // Written only where it differs: a start on a full disk needs no room.
        if !catalog_copy::read(&machine.file.path).is_ok_and(|old| old == rows) {
            machine.write_copy(&rows);
        }
        Ok(machine)
    }

    /// Whether a node is the only one that there is, and whether it is the only voter.
    pub(super) fn is_alone(&self, me: u64) -> (bool, bool) {
        let membership = self.membership.membership();
        let is_only_voter = membership.voter_ids().all(|id| id == me);
        let is_voter = membership.voter_ids().next().is_some();
        let is_alone = membership.nodes().all(|(id, _)| *id == me);
        (is_voter && is_alone, is_voter && is_only_voter)
    }

    fn show(&self) {
        let shown = &self.shown;
        *shown.done.lock().unwrap_or_else(PoisonError::into_inner) = self.done.clone();
        let changed = **shown.catalog.borrow() != self.catalog;
        if changed {
            shown.catalog.send_replace(Arc::new(self.catalog.clone()));
        }
        shown
            .applied
            .send_replace(self.applied.map_or(0, |id| id.index));
    }

    /// Brings the copy up to date. The catalog itself is stored; the copy is for the day on which it is
    /// damaged, and nothing fails for its sake.
    fn write_copy(&self, rows: &Rows) {
        if let Err(e) = catalog_copy::write(&self.file.path, rows) {
            tracing::warn!("the copy of the catalog is not up to date: {e}");
        }
    }

    /// Applies an entry in memory.
    fn take(&mut self, entry: Entry, change: &mut Change) -> Outcome {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                None
            }
            EntryPayload::Normal(proposal) => {
                Some(self.carry_out(entry.log_id.index, proposal, change))
            }
        }
    }

    fn carry_out(
        &mut self,
        index: u64,
        proposal: Proposal,
        change: &mut Change,
    ) -> Result<Event, Failure> {
        let id = proposal.id;
        let before = self.done.iter().find(|(_, other, _)| *other == id);
        if let Some((_, _, outcome)) = before.filter(|_| id != 0) {
            return outcome.clone();
        }
        let applied = self.catalog.apply(proposal.command);
        let outcome = applied.map(|(event, rows)| {
            change.rows.extend(rows);
            event
        });
        if id != 0 {
            self.done.push_back((index, id, outcome.clone()));
            change.done.push((index, id, outcome.clone()));
        }
        while self.done.len() > REMEMBERED {
            let (index, ..) = self.done.pop_front().expect("it is not empty");
            change.forgotten = index;
        }
        outcome
    }

    fn store(&self, change: &Change) -> Result<(), Error> {
        self.file.write(|tx| {
            put_rows(tx, &change.rows)?;
            let mut done = tx.open_table(DONE)?;
            for (index, id, outcome) in &change.done {
                done.insert(index, &encode(&(id, outcome))[..])?;
            }
            done.retain_in(..=change.forgotten, |_, _| false)?;
            put_place(tx, self.applied, &self.membership)
        })
    }

    fn meta(&self) -> SnapshotMeta<u64, openraft::EmptyNode> {
        let last = self
            .applied
            .map_or_else(|| "none".into(), |id| id.to_string());
        SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: last,
        }
    }

    fn snapshot(&self) -> Result<Snapshot<Types>, StorageError> {
        let content = Content {
            shards: self.catalog.shards(),
            rows: self
                .file
                .rows()
                .map_err(|e| StorageIOError::read_state_machine(&e))?,
            done: self.done.clone(),
        };
        Ok(Snapshot {
            meta: self.meta(),
            snapshot: Box::new(Cursor::new(encode(&content))),
        })
    }
}

/// Up to where everything is applied, and who the voters are as of there.
fn put_place(
    tx: &WriteTransaction,
    applied: Option<LogId>,
    membership: &Membership,
) -> Result<(), redb::Error> {
    if let Some(applied) = applied {
        put(tx, "applied", &applied)?;
    }
    put(tx, "membership", membership)
}

fn put_rows(tx: &WriteTransaction, rows: &[Row]) -> Result<(), redb::Error> {
    let mut table = tx.open_table(ROWS)?;
    for row in rows {
        match &row.value {
            Some(value) => drop(table.insert(&row.key[..], &value[..])?),
            None => drop(table.remove(&row.key[..])?),
        }
    }
    Ok(())
}

/// A snapshot that was taken when it was asked for: the rows are read while nothing is applied.
pub(super) struct Taken(Option<Result<Snapshot<Types>, StorageError>>);

impl RaftSnapshotBuilder<Types> for Taken {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let again = || Err(not_this_version("a snapshot is built once".into()));
        self.0.take().unwrap_or_else(again)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Taken;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut change = Change {
            rows: Vec::new(),
            done: Vec::new(),
            forgotten: 0,
        };
        let entries = entries.into_iter();
        let outcomes = entries.map(|e| self.take(e, &mut change)).collect();
        // What fails here ends this machine, and another one is loaded from the file.
        self.store(&change).map_err(writing)?;
        if !change.rows.is_empty()
            && let Ok(rows) = self.file.rows()
        {
            self.write_copy(&rows);
        }
        self.show();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Taken {
        Taken(Some(self.snapshot()))
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, openraft::EmptyNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let content: Content = postcard::from_bytes(snapshot.get_ref())
            .map_err(|e| not_this_version(format!("a snapshot is not of this version: {e}")))?;
        let shards = self.catalog.shards();
        if content.shards != shards {
            let what = format!(
                "the cluster has {} shards and this directory {shards}; join with an empty one",
                content.shards
            );
            return Err(not_this_version(what));
        }
        let pairs = content.rows.iter().map(|(k, v)| (&k[..], &v[..]));
        let catalog = Catalog::from_rows(shards, pairs).map_err(not_this_version)?;
        let (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
        let stored = self.file.write(|tx| {
            let mut rows = tx.open_table(ROWS)?;
            rows.retain(|_, _| false)?;
            for (key, value) in &content.rows {
                rows.insert(&key[..], &value[..])?;
            }
            let mut done = tx.open_table(DONE)?;
            done.retain(|_, _| false)?;
            for (index, id, outcome) in &content.done {
                done.insert(index, &encode(&(id, outcome))[..])?;
            }
            put_place(tx, applied, &membership)
        });
        stored.map_err(writing)?;
        (self.catalog, self.done) = (catalog, content.done);
        (self.applied, self.membership) = (applied, membership);
        self.write_copy(&content.rows);
        self.show();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        self.applied.map(|_| self.snapshot()).transpose()
    }
}
