//! A copy of the catalog beside it, written whole after every change: what it says is nowhere else.
//!
//! ```text
//! 0  magic  4  "FSC1"
//! 4  crc32  4  IEEE over the rest
//! 8  postcard of [(key, value)]
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"FSC1";

/// The rows of a catalog.
pub(crate) type Rows = Vec<(String, Vec<u8>)>;

/// The file of the copy of the catalog at this path.
pub(crate) fn path_of(catalog: &Path) -> PathBuf {
    catalog.with_extension("copy")
}

/// Replaces the copy; durable on return.
///
/// # Errors
/// What the disk says; the old copy is then still there.
pub(crate) fn write(catalog: &Path, rows: &[(String, Vec<u8>)]) -> io::Result<()> {
    let body = postcard::to_stdvec(rows).map_err(io::Error::other)?;
    let (path, unfinished) = (path_of(catalog), catalog.with_extension("copy.tmp"));
    let mut file = File::create(&unfinished)?;
    file.write_all(&MAGIC)?;
    file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// What the copy says.
///
/// # Errors
/// What the disk says; `InvalidData` where it is damaged.
pub(crate) fn read(catalog: &Path) -> io::Result<Rows> {
    let bytes = std::fs::read(path_of(catalog))?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the copy is damaged, too");
    let body = bytes.get(8..).ok_or_else(damaged)?;
    if bytes[..4] != MAGIC || bytes[4..8] != crc32fast::hash(body).to_le_bytes() {
        return Err(damaged());
    }
    postcard::from_bytes(body).map_err(|_| damaged())
}
