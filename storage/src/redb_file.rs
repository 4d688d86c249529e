//! Opening a redb file that may be damaged: every page is held against its checksum, and what redb
//! does not expect in a damaged file becomes an error.

use crate::error::Error;
use redb::{Database, DatabaseError};
use std::cell::Cell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

thread_local! {
    static OPENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is opening a redb file: a panic then comes from damage and is caught, so a panic
/// hook should neither print it nor end the process.
pub fn is_opening() -> bool {
    OPENING.get()
}

/// Opens a database by `open` and checks all of it. The whole file is read.
///
/// # Errors
/// [`Error::State`] with what redb says, or that it is damaged.
pub fn open_checked(
    path: &Path,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<Database, Error> {
    let failed = |what: String| Error::State {
        path: path.into(),
        what,
    };
    let run = || {
        let mut db = open()?;
        let whole = db.check_integrity()?;
        Ok((db, whole))
    };
    OPENING.set(true);
    // Nothing of a database that panicked is used again.
    let result = catch_unwind(AssertUnwindSafe(run));
    OPENING.set(false);
    match result {
        Ok(Ok((db, true))) => Ok(db),
        Ok(Err(e)) => {
            let e: DatabaseError = e;
            Err(failed(format!("{e}; {HINT}")))
        }
        Ok(Ok((_, false))) | Err(_) => Err(failed(format!("it is damaged; {HINT}"))),
    }
}

/// What an error of redb means: that there is no room, or something else.
pub fn error_of(path: &Path, error: &redb::Error) -> Error {
    let path = path.to_path_buf();
    match error {
        redb::Error::Io(e) if e.kind() == ErrorKind::StorageFull => Error::NoSpace { path },
        e => Error::State {
            path,
            what: e.to_string(),
        },
    }
}

const HINT: &str = "restore it from a copy, or see what `flowstone repair` can save";
