//! The materialised view of a shard in redb: what the log said up to its applied LSN.
//!
//! Everything in here can be made again from the log; it exists so that the log need not be kept and
//! a start need not read it. It is written in the background, and only up to an LSN that is durable.

mod picture;
mod settled;

pub use picture::StatePicture;

use crate::disk::{Disk, DiskFile, list_or_nothing, remove_if_there};
use crate::error::Error;
use crate::layout;
use crate::redb_file::{error_of, open_checked};
use crate::settled::{SegmentId, SettledMeta, Tiered};
use flowstone_wire::Lsn;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::Serialize;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Key: `applied` or `settled`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Keys and values belong to the shard; storage does not look into them.
const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
/// Key: partition, first offset. Value: postcard of [`SettledMeta`].
const SETTLED: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("settled");
/// Key: as in `settled`. Value: postcard of [`Tiered`].
const TIERED: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("tiered");
const APPLIED: &str = "applied";
const SETTLED_UPTO: &str = "settled";
/// The view is read once and written in bulk; a small cache is enough.
const CACHE_BYTES: usize = 8 << 20;
const SUFFIX_UNFINISHED: &str = "tmp";

/// A key and its new value; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The state store of a shard.
pub struct StateStore {
    db: Database,
    path: PathBuf,
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Backend(Arc<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, &[IoSlice::new(data)])
    }
}

impl StateStore {
    /// Opens the store, creating it where it is not there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::State`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        match disk.open(path) {
            Ok(file) => {
                file.drop_cached().map_err(Error::io("read", path))?;
                Self::on(file, path)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(disk, path),
            Err(e) => Err(Error::io("open", path)(e)),
        }
    }

    /// Opens the store of a shard. It is made only where it is not missed: where it is gone and the log
    /// does not start at LSN 1, what it said is nowhere else.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::State`] where it is gone.
    pub fn open_of_shard(disk: &dyn Disk, shard_dir: &Path) -> Result<Self, Error> {
        let path = layout::state(shard_dir);
        if Self::is_missed(disk, shard_dir)? {
            let what =
                "it is gone; restore it from a copy, or see what `flowstone repair` can save";
            return Err(state_error(&path, &what));
        }
        Self::open(disk, &path)
    }

    /// Whether the store of a shard is not there and should be.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_missed(disk: &dyn Disk, shard_dir: &Path) -> Result<bool, Error> {
        let found = disk.open(&layout::state(shard_dir));
        let missing = found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        let names = list_or_nothing(disk, &layout::log_dir(shard_dir))?;
        let first = names.iter().filter_map(|n| layout::parse_segment_name(n));
        Ok(missing && first.min().is_some_and(|first| first > Lsn(1)))
    }

    /// Makes the store under another name first: a crash in the middle leaves no half of one.
    fn create(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        let unfinished = path.with_extension(SUFFIX_UNFINISHED);
        remove_if_there(disk, &unfinished)?;
        let file = disk
            .create(&unfinished, 0)
            .map_err(Error::io("create", &unfinished))?;
        let store = Self::on(file, path)?;
        disk.rename(&unfinished, path)
            .map_err(Error::io("rename", &unfinished))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(store)
    }

    fn on(file: Arc<dyn DiskFile>, path: &Path) -> Result<Self, Error> {
        let db = open_checked(path, || {
            let mut builder = Database::builder();
            let builder = builder.set_cache_size(CACHE_BYTES);
            builder.create_with_backend(Backend(file))
        })?;
        let store = Self {
            db,
            path: path.into(),
        };
        let made = store.read(|tx| Ok(tx.list_tables()?.count() >= 4))?;
        if !made {
            store.write(|tx| {
                tx.open_table(META)?;
                tx.open_table(STATE)?;
                tx.open_table(SETTLED)?;
                tx.open_table(TIERED)?;
                Ok(())
            })?;
        }
        Ok(store)
    }

    /// Opens the store again: after an error of the disk redb takes nothing more.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reopen(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        *self = Self::open(disk, &self.path)?;
        Ok(())
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        let run = || -> Result<(), redb::Error> {
            let tx = self.db.begin_write()?;
            change(&tx)?;
            tx.commit()?;
            Ok(())
        };
        run().map_err(|e| error_of(&self.path, &e))
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let run = || -> Result<T, redb::Error> { read(&self.db.begin_read()?) };
        run().map_err(|e| state_error(&self.path, &e))
    }

    fn lsn(&self, key: &str) -> Result<Lsn, Error> {
        self.read(|tx| Ok(Lsn(tx.open_table(META)?.get(key)?.map_or(0, |v| v.value()))))
    }

    /// The LSN up to which the state is applied.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn applied(&self) -> Result<Lsn, Error> {
        self.lsn(APPLIED)
    }

    /// The LSN up to which user records are settled, expired or dropped.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn settled_upto(&self) -> Result<Lsn, Error> {
        self.lsn(SETTLED_UPTO)
    }

    /// What the store says now, whatever is written afterwards.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn picture(&self) -> Result<StatePicture, Error> {
        let begun = self.db.begin_read();
        Ok(StatePicture {
            tx: begun.map_err(|e| error_of(&self.path, &e.into()))?,
            path: self.path.clone(),
        })
    }

    /// Puts in what [`StatePicture`] gave of another store, in one durable transaction.
    ///
    /// # Errors
    /// [`Error::State`].
    pub(crate) fn fill(
        &self,
        rows: &[Pair],
        settled: &[SettledMeta],
        tiered: &[(SegmentId, Tiered)],
        (applied, settled_upto): (Lsn, Lsn),
    ) -> Result<(), Error> {
        self.write(|tx| {
            let mut table = tx.open_table(STATE)?;
            for (key, value) in rows {
                table.insert(&key[..], &value[..])?;
            }
            let mut table = tx.open_table(SETTLED)?;
            for meta in settled {
                table.insert(key_of(meta.id()), &encoded(meta)?[..])?;
            }
            let mut table = tx.open_table(TIERED)?;
            for (id, note) in tiered {
                table.insert(key_of(*id), &encoded(note)?[..])?;
            }
            let mut meta = tx.open_table(META)?;
            meta.insert(APPLIED, applied.0)?;
            meta.insert(SETTLED_UPTO, settled_upto.0)?;
            Ok(())
        })
    }

    /// Applies changes and moves the applied LSN, in one durable transaction.
    ///
    /// # Errors
    /// [`Error::State`]; the store is then as before or as after.
    pub fn apply(&self, applied: Lsn, changes: &[Change]) -> Result<(), Error> {
        self.write(|tx| {
            let mut state = tx.open_table(STATE)?;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(state.insert(&key[..], &value[..])?),
                    None => drop(state.remove(&key[..])?),
                }
            }
            tx.open_table(META)?.insert(APPLIED, applied.0)?;
            Ok(())
        })
    }

    /// The first entries of a range of the state, in the order of their keys: at most so many, and so many bytes
    /// and one entry. Says whether these are all.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn entries(
        &self,
        range: Range<Vec<u8>>,
        most: usize,
        most_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), Error> {
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        self.read(|tx| {
            let table = tx.open_table(STATE)?;
            for entry in table.range::<&[u8]>(&range.start[..]..&range.end[..])? {
                if found.len() >= most || bytes >= most_bytes {
                    return Ok((std::mem::take(&mut found), false));
                }
                let (key, value) = entry?;
                bytes += key.value().len() + value.value().len();
                found.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok((std::mem::take(&mut found), true))
        })
    }

    /// Gives every key and value of the state, in the order of the keys.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn load(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Error> {
        self.read(|tx| {
            for entry in tx.open_table(STATE)?.iter()? {
                let (key, value) = entry?;
                visit(key.value(), value.value());
            }
            Ok(())
        })
    }
}

fn key_of(id: SegmentId) -> (u32, u64) {
    (id.partition.0, id.first_offset.0)
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    postcard::to_stdvec(value).map_err(|e| redb::Error::Io(io::Error::other(e)))
}

fn state_error(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::State {
        path: path.into(),
        what: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::{Fate, SimDisk};

    fn entries(store: &StateStore) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        store
            .load(&mut |k, v| all.push((k.to_vec(), v.to_vec())))
            .unwrap();
        all
    }

    #[test]
    fn a_store_that_was_being_made_is_made_again() {
        let path = Path::new("state.redb");
        let whole = SimDisk::default();
        drop(StateStore::open(&whole, path).unwrap());
        for stop in 0..whole.operations() {
            let disk = SimDisk::default();
            disk.stop_after(stop);
            let _ = StateStore::open(&disk, path);
            for (fate, names) in [
                (Fate::Lost, 0),
                (Fate::Lost, 9),
                (Fate::Kept, 0),
                (Fate::Kept, 9),
            ] {
                let store = StateStore::open(&disk.crash(|_| fate, names), path).unwrap();
                assert_eq!(store.applied().unwrap(), Lsn(0), "stop {stop}");
            }
        }
    }

    /// Wherever a bit is wrong: the store says so, or it does not matter.
    #[test]
    fn damage_is_noticed_when_it_is_opened() {
        let (disk, path) = (SimDisk::default(), Path::new("state.redb"));
        let store = StateStore::open(&disk, path).unwrap();
        for n in 0..200u32 {
            let row = |k: &str| format!("{k}{n}").into_bytes();
            let changes = [
                (row("key"), Some(row("value"))),
                (row("gone"), Some(vec![1; 50])),
            ];
            store.apply(Lsn(u64::from(n)), &changes).unwrap();
        }
        let is = (store.applied().unwrap(), entries(&store));
        drop(store);
        let bytes = disk.bytes_of(path).unwrap().len();
        let (mut noticed, mut harmless) = (0, 0);
        for at in (0..bytes).step_by(37) {
            let damaged = disk.kill();
            damaged.flip_bit(path, at, (at % 8) as u8);
            match StateStore::open(&damaged, path) {
                Err(_) => noticed += 1,
                Ok(store) => {
                    assert_eq!((store.applied().unwrap(), entries(&store)), is, "byte {at}");
                    harmless += 1;
                }
            }
        }
        assert!(
            noticed > 100 && harmless > 100,
            "{noticed} {harmless} of {bytes}"
        );
    }

    #[test]
    fn a_power_cut_leaves_one_of_the_two_states() {
        let disk = SimDisk::default();
        let path = Path::new("state.redb");
        let store = StateStore::open(&disk, path).unwrap();
        store
            .apply(Lsn(5), &[(b"a".to_vec(), Some(b"1".to_vec()))])
            .unwrap();
        let before = disk.operations();
        let change = [(b"a".to_vec(), None), (b"b".to_vec(), Some(b"2".to_vec()))];
        store.apply(Lsn(9), &change).unwrap();
        let steps = disk.operations() - before;
        drop(store);
        for stop in 0..steps {
            let disk = SimDisk::default();
            let store = StateStore::open(&disk, path).unwrap();
            store
                .apply(Lsn(5), &[(b"a".to_vec(), Some(b"1".to_vec()))])
                .unwrap();
            disk.stop_after(stop);
            let _ = store.apply(Lsn(9), &change);
            for fate in [Fate::Lost, Fate::Kept, Fate::Torn(700)] {
                let cut = disk.crash(|n| if n % 3 == 0 { fate } else { Fate::Kept }, 99);
                let store = StateStore::open(&cut, path).unwrap();
                let old = (Lsn(5), vec![(b"a".to_vec(), b"1".to_vec())]);
                let new = (Lsn(9), vec![(b"b".to_vec(), b"2".to_vec())]);
                let is = (store.applied().unwrap(), entries(&store));
                assert!(is == old || is == new, "stop {stop} {fate:?}: {is:?}");
            }
        }
    }
}
