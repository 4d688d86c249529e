//! The log and the vote, as openraft wants them stored: durable when a call returns, in the order of calls.
#![allow(
    clippy::result_large_err,
    reason = "it is the error that openraft asks for"
)]

use super::file::{CatalogFile, LOG, RAFT, decode, encode, get, put};
use super::{Entry, LogId, StorageError, Types, Vote};
use flowstone_storage::Error;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::ReadableTable;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Bytes of entries that are read at once to be sent; one entry is always read.
pub(super) const READ_BYTES_MAX: usize = 2 << 20;

/// The log of the catalog's file.
#[derive(Clone)]
pub(super) struct Log(pub(super) Arc<CatalogFile>);

fn reading(e: Error) -> StorageError {
    StorageIOError::read_logs(&e).into()
}

fn writing(e: Error) -> StorageError {
    StorageIOError::write_logs(&e).into()
}

impl Log {
    fn read(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        let end = |bound: Bound<&u64>| bound.cloned();
        let range = (end(range.start_bound()), end(range.end_bound()));
        let entries = self.0.read(|tx| {
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for row in tx.open_table(LOG)?.range(range)? {
                let (_, value) = row?;
                bytes += value.value().len();
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(decode(value.value())?);
            }
            Ok(entries)
        });
        entries.map_err(reading)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(range, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start..end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = self.0.read(|tx| {
            let last_purged_log_id: Option<LogId> = get(&tx.open_table(RAFT)?, "purged")?;
            let log = tx.open_table(LOG)?;
            let last = log.last()?.map(|(_, value)| decode::<Entry>(value.value()));
            let last = last.transpose()?.map(|entry| entry.log_id);
            Ok(LogState {
                last_purged_log_id,
                last_log_id: last.or(last_purged_log_id),
            })
        });
        state.map_err(reading)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.0.write(|tx| put(tx, "vote", vote));
        saved.map_err(|e| StorageIOError::write_vote(&e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.0.read(|tx| get(&tx.open_table(RAFT)?, "vote"));
        vote.map_err(|e| StorageIOError::read_vote(&e).into())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter();
        let entries: Vec<(u64, Vec<u8>)> = entries.map(|e| (e.log_id.index, encode(&e))).collect();
        let written = self.0.write(|tx| {
            let mut log = tx.open_table(LOG)?;
            for (index, entry) in &entries {
                log.insert(index, &entry[..])?;
            }
            Ok(())
        });
        written.map_err(writing)?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let cut = self.0.write(|tx| {
            let mut log = tx.open_table(LOG)?;
            log.retain_in(from.index.., |_, _| false)?;
            Ok(())
        });
        cut.map_err(writing)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let purged = self.0.write(|tx| {
            put(tx, "purged", &upto)?;
            let mut log = tx.open_table(LOG)?;
            log.retain_in(..=upto.index, |_, _| false)?;
            Ok(())
        });
        purged.map_err(writing)
    }
}
