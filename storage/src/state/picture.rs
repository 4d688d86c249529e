//! What a store said at a moment: for those who read while others write.

use super::{APPLIED, META, Pair, SETTLED, SETTLED_UPTO, STATE, TIERED};
use crate::error::Error;
use crate::redb_file::error_of;
use crate::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::{Lsn, Offset, PartitionId};
use redb::{ReadTransaction, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use std::ops::Bound;
use std::path::PathBuf;

/// A partition and a first offset, and what is noted of it.
type Row<T> = ((u32, u64), T);

/// What a store said at a moment. While it is held the store grows by what is written.
pub struct StatePicture {
    pub(super) tx: ReadTransaction,
    pub(super) path: PathBuf,
}

impl std::fmt::Debug for StatePicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatePicture")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl StatePicture {
    fn read<T>(&self, of: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Error> {
        of().map_err(|e| error_of(&self.path, &e))
    }

    /// The applied LSN, and up to where the log is settled.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn reach(&self) -> Result<(Lsn, Lsn), Error> {
        self.read(|| {
            let meta = self.tx.open_table(META)?;
            let lsn = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |v| v.value()));
            Ok((Lsn(lsn(APPLIED)?), Lsn(lsn(SETTLED_UPTO)?)))
        })
    }

    /// The value of a key of the state.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.read(|| {
            let state = self.tx.open_table(STATE)?;
            Ok(state.get(key)?.map(|v| v.value().to_vec()))
        })
    }

    /// Keys and values of the state behind a key, in order, of about so many bytes.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn rows_behind(&self, last: Option<&[u8]>, bytes: usize) -> Result<Vec<Pair>, Error> {
        self.read(|| {
            let state = self.tx.open_table(STATE)?;
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let (mut rows, mut sum) = (Vec::new(), 0);
            for entry in state.range::<&[u8]>((from, Bound::Unbounded))? {
                let (key, value) = entry?;
                sum += key.value().len() + value.value().len();
                rows.push((key.value().to_vec(), value.value().to_vec()));
                if sum >= bytes {
                    break;
                }
            }
            Ok(rows)
        })
    }

    /// As [`super::StateStore::settled`].
    ///
    /// # Errors
    /// As there.
    pub fn settled(&self) -> Result<Vec<SettledMeta>, Error> {
        let rows = self.table(SETTLED)?;
        Ok(rows.into_iter().map(|(_, meta)| meta).collect())
    }

    /// As [`super::StateStore::tiered`].
    ///
    /// # Errors
    /// As there.
    pub fn tiered(&self) -> Result<Vec<(SegmentId, Tiered)>, Error> {
        let rows: Vec<Row<Tiered>> = self.table(TIERED)?;
        Ok(rows.into_iter().map(with_id).collect())
    }

    fn table<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, (u32, u64), &'static [u8]>,
    ) -> Result<Vec<Row<T>>, Error> {
        let rows = self.read(|| {
            let mut all: Vec<Row<Vec<u8>>> = Vec::new();
            for entry in self.tx.open_table(table)?.iter()? {
                let (key, value) = entry?;
                all.push((key.value(), value.value().to_vec()));
            }
            Ok(all)
        })?;
        let decode = |(key, value): Row<Vec<u8>>| {
            let value = postcard::from_bytes(&value).map_err(|e| Error::Format {
                path: self.path.clone(),
                what: format!("an entry of the settled manifest is not valid: {e}"),
            });
            Ok((key, value?))
        };
        rows.into_iter().map(decode).collect()
    }
}

fn with_id(((partition, first), tiered): Row<Tiered>) -> (SegmentId, Tiered) {
    let id = SegmentId {
        partition: PartitionId(partition),
        first_offset: Offset(first),
        generation: tiered.generation,
    };
    (id, tiered)
}
