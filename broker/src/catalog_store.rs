//! The catalog in redb: every command is durable before anybody is told.

use crate::catalog_copy;
use flowstone_core::Catalog;
use flowstone_core::catalog::{Command, Event};
use flowstone_storage::redb_file::open_checked;
use flowstone_storage::{Disk, RealDisk};
use flowstone_wire::{ErrorCode, Failure};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const CACHE_BYTES: usize = 1 << 20;

/// The catalog of a node and where it is stored.
pub(crate) struct CatalogStore {
    path: PathBuf,
    /// Held while a command is stored: commands happen one after the other.
    writer: Mutex<Database>,
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
    pub(crate) fn open(path: &Path, shards: u16) -> Result<Self, String> {
        let broken = |e: &dyn std::fmt::Display| format!("catalog '{}': {e}", path.display());
        let dir = path.parent().unwrap_or(Path::new("."));
        if !path.exists() {
            if dir.join("shards").exists() {
                return Err(broken(&GONE));
            }
            make(path, &[]).map_err(|e| broken(&e))?;
        }
        let name = Path::new(path.file_name().unwrap_or_default());
        RealDisk::new(dir)
            .and_then(|disk| disk.open(name)?.drop_cached())
            .map_err(|e| broken(&e))?;
        let db = open_checked(path, || {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES).open(path)
        })
        .map_err(|e| e.to_string())?;
        let rows = load(&db).map_err(|e| broken(&e))?;
        let rows = rows.iter().map(|(k, v)| (&k[..], &v[..]));
        let catalog = Catalog::from_rows(shards, rows).map_err(|e| broken(&e))?;
        let all = load(&db).map_err(|e| broken(&e))?;
        catalog_copy::write(path, &all).map_err(|e| broken(&e))?;
        Ok(Self {
            path: path.into(),
            writer: Mutex::new(db),
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
        let db = self.writer.lock().map_err(|_| {
            Failure::new(
                ErrorCode::Internal,
                "the catalog is not usable; restart the broker",
            )
        })?;
        let mut next = Catalog::clone(&self.current());
        let (event, rows) = next.apply(command)?;
        if !rows.is_empty() {
            let store = || -> Result<(), redb::Error> {
                let tx = db.begin_write()?;
                {
                    let mut table = tx.open_table(ROWS)?;
                    for row in &rows {
                        match &row.value {
                            Some(value) => drop(table.insert(&row.key[..], &value[..])?),
                            None => drop(table.remove(&row.key[..])?),
                        }
                    }
                }
                Ok(tx.commit()?)
            };
            store().map_err(|e| {
                let what = format!("the catalog could not be stored: {e}");
                Failure::new(ErrorCode::Internal, what)
            })?;
        }
        if let Err(e) = load(&db)
            .map_err(|e| e.to_string())
            .and_then(|rows| catalog_copy::write(&self.path, &rows).map_err(|e| e.to_string()))
        {
            // The catalog itself is stored; the copy is for the day on which it is damaged.
            tracing::warn!("the copy of the catalog is not up to date: {e}");
        }
        *self
            .current
            .write()
            .expect("nothing panics while it is held") = Arc::new(next);
        Ok(event)
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
