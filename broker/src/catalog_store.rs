//! The catalog in redb: every command is durable before anybody is told.

use crate::catalog_copy;
use crate::reserve::Reserve;
use flowstone_core::Catalog;
use flowstone_core::catalog::{Command, Event, Row};
use flowstone_storage::redb_file::{error_of, open_checked};
use flowstone_storage::{Disk, Error, RealDisk};
use flowstone_wire::{ErrorCode, Failure};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const CACHE_BYTES: usize = 1 << 20;

/// The catalog of a node and where it is stored.
pub(crate) struct CatalogStore {
    path: PathBuf,
    reserve: Arc<Reserve>,
    /// Held while a command is stored: commands happen one after the other.
    /// `None` after an error that left it unusable: the next command opens it again.
    writer: Mutex<Option<Database>>,
    /// What the last stored command left. Readers never wait for the disk.
    current: RwLock<Arc<Catalog>>,
}

impl std::fmt::Debug for CatalogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl CatalogStore {
    /// Opens the catalog of a data directory with this many shards.
    ///
    /// # Errors
    /// What is wrong with it, as text for an operator.
    pub(crate) fn open(path: &Path, shards: u16, reserve: Arc<Reserve>) -> Result<Self, String> {
        let broken = |e: &dyn std::fmt::Display| format!("catalog '{}': {e}", path.display());
        let dir = path.parent().unwrap_or(Path::new("."));
        if !path.exists() {
            if dir.join("shards").exists() {
                return Err(broken(&GONE));
            }
            make(path, &[]).map_err(|e| broken(&e))?;
        }
        let db = open_database(path).map_err(|e| broken(&e))?;
        let rows = load(&db).map_err(|e| broken(&e))?;
        let pairs = rows.iter().map(|(k, v)| (&k[..], &v[..]));
        let catalog = Catalog::from_rows(shards, pairs).map_err(|e| broken(&e))?;
        // Written only where it differs: a start on a full disk needs no room.
        if !catalog_copy::read(path).is_ok_and(|old| old == rows) {
            write_copy(path, &rows);
        }
        Ok(Self {
            path: path.into(),
            reserve,
            writer: Mutex::new(Some(db)),
            current: RwLock::new(Arc::new(catalog)),
        })
    }

    /// The catalog as it is now.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.current
            .read()
            .expect("nothing panics while it is held")
            .clone()
    }

    /// Applies a command and stores it. Waits for the disk.
    ///
    /// # Errors
    /// What is wrong with the command, or [`ErrorCode::Internal`] where it could not be stored.
    pub(crate) fn apply(&self, command: Command) -> Result<Event, Failure> {
        let mut db = self.writer.lock().map_err(|_| {
            Failure::new(
                ErrorCode::Internal,
                "the catalog is not usable; restart the broker",
            )
        })?;
        let mut next = Catalog::clone(&self.current());
        let (event, rows) = next.apply(command)?;
        if !rows.is_empty() {
            self.store(&mut db, &rows)?;
            if let Some(Ok(rows)) = db.as_ref().map(load) {
                write_copy(&self.path, &rows);
            }
        }
        *self
            .current
            .write()
            .expect("nothing panics while it is held") = Arc::new(next);
        Ok(event)
    }
}

impl CatalogStore {
    /// Stores rows; where there is no room, with the help of the reserve.
    fn store(&self, db: &mut Option<Database>, rows: &[Row]) -> Result<(), Failure> {
        let stored = self.reserve.help(|| {
            let open = match db.take() {
                Some(open) => open,
                None => open_database(&self.path)?,
            };
            // After an error it stays closed: redb takes nothing more, and opening needs its lock back.
            put(&open, rows).map_err(|e| error_of(&self.path, &e))?;
            *db = Some(open);
            Ok(())
        });
        self.reserve.take();
        stored.map_err(|e| {
            let code = match e {
                Error::NoSpace { .. } => ErrorCode::DiskFull,
                _ => ErrorCode::Internal,
            };
            Failure::new(code, format!("the catalog could not be stored: {e}"))
        })
    }
}

fn put(db: &Database, rows: &[Row]) -> Result<(), redb::Error> {
    let tx = db.begin_write()?;
    {
        let mut table = tx.open_table(ROWS)?;
        for row in rows {
            match &row.value {
                Some(value) => drop(table.insert(&row.key[..], &value[..])?),
                None => drop(table.remove(&row.key[..])?),
            }
        }
    }
    Ok(tx.commit()?)
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

/// Brings the copy up to date. The catalog itself is stored; the copy is for the day on which it is
/// damaged, and nothing fails for its sake.
fn write_copy(path: &Path, rows: &[(String, Vec<u8>)]) {
    if let Err(e) = catalog_copy::write(path, rows) {
        tracing::warn!("the copy of the catalog is not up to date: {e}");
    }
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

const GONE: &str = "it is gone, and without it all data would count as deleted; restore it from a copy, \
                    or see what `flowstone repair` can save";

fn load(db: &Database) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let mut rows = Vec::new();
    for entry in db.begin_read()?.open_table(ROWS)?.iter()? {
        let (key, value) = entry?;
        rows.push((key.value().to_string(), value.value().to_vec()));
    }
    Ok(rows)
}
