//! `catalog.redb`: rows, log, vote and what was applied, in one file, in one order.
//!
//! ```text
//! rows   key   -> postcard of a row          what the commands up to `applied` have made
//! log    index -> postcard of an entry       above `purged`
//! done   index -> postcard of (id, outcome)  of the last proposals, to know them again
//! raft   me, vote, purged, applied, membership
//! ```
//! A file of before has rows only. It becomes that of a cluster of one: as if its rows were a snapshot of
//! the log's entry 0, so that another node gets them as a snapshot.

use super::{LogId, Membership, Vote};
use crate::reserve::Reserve;
use flowstone_storage::redb_file::{error_of, open_checked};
use flowstone_storage::{Disk, Error, RealDisk};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(super) const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const DONE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("done");
pub(super) const RAFT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("raft");
const CACHE_BYTES: usize = 1 << 20;

/// The number of the node that founds a cluster.
const FOUNDER: u64 = 1;

/// Rows of the catalog, by key.
pub(crate) type Rows = Vec<(String, Vec<u8>)>;

/// What a file is of, where it does not say so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The first node of a cluster.
    Founder,
    /// A node that was given this number, and knows nothing yet.
    Joiner(u32),
}

/// The open file.
pub(super) struct CatalogFile {
    pub(super) path: PathBuf,
    reserve: Arc<Reserve>,
    /// `None` after an error that left it unusable: the next use opens it again.
    db: Mutex<Open>,
}

enum Open {
    Yes(Database),
    No,
    /// For good: the node stops.
    Closed,
}

type Done<T> = Result<T, redb::Error>;

impl CatalogFile {
    /// Opens the file; one that is not of a log yet becomes that of this role.
    ///
    /// # Errors
    /// What the disk says, or that it is damaged.
    pub(super) fn open(path: &Path, reserve: Arc<Reserve>, role: Role) -> Result<Self, Error> {
        let file = Self {
            path: path.into(),
            reserve,
            db: Mutex::new(Open::Yes(open_database(path)?)),
        };
        let is_begun = file.read(|tx| match tx.open_table(RAFT) {
            Ok(table) => Ok(table.get("me")?.is_some()),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            Err(e) => Err(e.into()),
        })?;
        if !is_begun {
            file.refuse_lost_votes()?;
            file.write(|tx| begin(tx, role))?;
        }
        Ok(file)
    }

    /// Rows of several nodes without a log are a copy's: what this node has voted and stored for the
    /// others is lost, and it must not vote again as if it had not.
    fn refuse_lost_votes(&self) -> Result<(), Error> {
        let rows = self.rows()?;
        let nodes = rows.iter().filter(|(key, _)| key.starts_with("node/"));
        if nodes.count() < 2 {
            return Ok(());
        }
        Err(Error::State {
            path: self.path.clone(),
            what: "it is a copy, of one of several nodes, and what that one has voted is lost; remove it \
                   from the cluster, and join again with an empty directory"
                .into(),
        })
    }

    /// Reads. What it sees is what was stored last.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn read<T>(
        &self,
        run: impl FnOnce(&ReadTransaction) -> Done<T>,
    ) -> Result<T, Error> {
        self.with(|db| {
            let tx = db.begin_read()?;
            run(&tx)
        })
    }

    /// Writes, durably; where there is no room, with the help of the reserve.
    ///
    /// # Errors
    /// What the file says; nothing is changed then.
    pub(super) fn write<T>(
        &self,
        mut run: impl FnMut(&WriteTransaction) -> Done<T>,
    ) -> Result<T, Error> {
        let written = self.reserve.help(|| {
            self.with(|db| {
                let tx = db.begin_write()?;
                let result = run(&tx)?;
                tx.commit()?;
                Ok(result)
            })
        });
        self.reserve.take();
        written
    }

    /// Whether there is room for a command or two.
    pub(super) fn has_room(&self) -> bool {
        self.reserve.has_room()
    }

    fn with<T>(&self, run: impl FnOnce(&Database) -> Done<T>) -> Result<T, Error> {
        let unusable = |what: &str| Error::State {
            path: self.path.clone(),
            what: what.into(),
        };
        let mut open = self.db.lock().map_err(|_| unusable("restart the broker"))?;
        let db = match std::mem::replace(&mut *open, Open::No) {
            Open::Yes(db) => db,
            Open::No => open_database(&self.path)?,
            Open::Closed => {
                *open = Open::Closed;
                return Err(unusable("the broker is shutting down"));
            }
        };
        // After an error it stays closed: redb takes nothing more, and opening needs its lock back.
        let result = run(&db).map_err(|e| error_of(&self.path, &e))?;
        *open = Open::Yes(db);
        Ok(result)
    }

    /// Closes it for good, so that another process may open it.
    pub(super) fn close(&self) {
        if let Ok(mut open) = self.db.lock() {
            *open = Open::Closed;
        }
    }

    /// The number of this node.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn me(&self) -> Result<u64, Error> {
        let me = self.read(|tx| get(&tx.open_table(RAFT)?, "me"))?;
        me.ok_or_else(|| Error::State {
            path: self.path.clone(),
            what: "it does not say which node it is of".into(),
        })
    }

    /// All rows.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn rows(&self) -> Result<Rows, Error> {
        self.read(|tx| match tx.open_table(ROWS) {
            Ok(table) => {
                let mut rows = Rows::new();
                for entry in table.iter()? {
                    let (key, value) = entry?;
                    rows.push((key.value().to_string(), value.value().to_vec()));
                }
                Ok(rows)
            }
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Rows::new()),
            Err(e) => Err(e.into()),
        })
    }
}

/// What stands under a name, if anything does.
pub(super) fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Done<Option<T>> {
    let stored = table.get(name)?;
    stored.map(|bytes| decode(bytes.value())).transpose()
}

/// Puts something under a name.
pub(super) fn put<T: Serialize>(tx: &WriteTransaction, name: &str, value: &T) -> Done<()> {
    tx.open_table(RAFT)?.insert(name, &encode(value)[..])?;
    Ok(())
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("it is plain data, which postcard encodes")
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Done<T> {
    postcard::from_bytes(bytes)
        .map_err(|e| redb::Error::Corrupted(format!("it is not of this version: {e}")))
}

fn begin(tx: &WriteTransaction, role: Role) -> Done<()> {
    tx.open_table(ROWS)?;
    tx.open_table(LOG)?;
    tx.open_table(DONE)?;
    match role {
        Role::Joiner(id) => put(tx, "me", &u64::from(id)),
        Role::Founder => {
            let leader = openraft::CommittedLeaderId::new(1, FOUNDER);
            let first = LogId::new(leader, 0);
            let voters = vec![BTreeSet::from([FOUNDER])];
            let membership = openraft::Membership::new(voters, None);
            put(tx, "me", &FOUNDER)?;
            put(tx, "vote", &Vote::new_committed(1, FOUNDER))?;
            put(tx, "purged", &first)?;
            put(tx, "applied", &first)?;
            put(tx, "membership", &Membership::new(Some(first), membership))
        }
    }
}

fn open_database(path: &Path) -> Result<Database, Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = Path::new(path.file_name().unwrap_or_default());
    RealDisk::new(dir)
        .and_then(|disk| disk.open(name)?.drop_cached())
        .map_err(|source| Error::Io {
            action: "open",
            path: path.into(),
            source,
        })?;
    open_checked(path, || {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).open(path)
    })
}

/// Makes a catalog file of these rows, under another name first: a crash leaves no half of one.
///
/// # Errors
/// What redb or the disk says.
pub(crate) fn make(path: &Path, rows: &[(String, Vec<u8>)]) -> Result<(), redb::Error> {
    let unfinished = path.with_extension("tmp");
    match std::fs::remove_file(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let db = Database::create(&unfinished)?;
    let tx = db.begin_write()?;
    {
        let mut table = tx.open_table(ROWS)?;
        for (key, value) in rows {
            table.insert(&key[..], &value[..])?;
        }
    }
    tx.commit()?;
    drop(db);
    std::fs::rename(&unfinished, path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    Ok(std::fs::File::open(dir)?.sync_all()?)
}
