//! The data directory: who it belongs to, in which format, and that nobody else has it open.

use flowstone_storage::layout::FORMAT_VERSION;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const IDENTITY: &str = "flowstone.toml";
const LOCK: &str = "lock";

/// What a data directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the layout.
    pub format_version: u32,
    /// Number of the node, drawn when the directory was made.
    pub node_id: String,
    /// Number of the cluster.
    pub cluster_id: String,
    /// Number of shards; fixed.
    pub shards: u16,
}

/// An open data directory. It is locked until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub identity: Identity,
    _lock: File,
}

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says no.
    #[error("cannot open the data directory '{}': {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the data directory '{}' is in use by another process; stop that one first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is one already.
    #[error("'{}' is a data directory already; name an empty one, or one that is not there", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// It is not one, or not of this version.
    #[error("'{}' is not a data directory of this version: {what}", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl DataDir {
    /// Opens a data directory; makes it, with `shards` shards, where it is not there or empty.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(path: &Path, shards: u16) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.into(),
            source,
        };
        fs::create_dir_all(path).map_err(io)?;
        let lock = lock(path)?;
        if !path.join(IDENTITY).exists() {
            refuse_foreign(path, &[])?;
            let cluster_id = random_id().map_err(io)?;
            create(path, cluster_id, shards).map_err(io)?;
        }
        let identity = read(path)?;
        Ok(Self {
            path: path.into(),
            identity,
            _lock: lock,
        })
    }
}

/// A directory that is being filled from elsewhere: a data directory once [`Self::finish`] was called.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    _lock: File,
}

impl Unfinished {
    /// Takes an empty directory, making it where it is not there; what an earlier try may have left,
    /// `known`, may be in it.
    ///
    /// # Errors
    /// [`Error`]; one that is not empty is left alone.
    pub(crate) fn begin(path: &Path, known: &[&str]) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.into(),
            source,
        };
        fs::create_dir_all(path).map_err(io)?;
        let _lock = lock(path)?;
        if path.join(IDENTITY).exists() {
            return Err(Error::Taken { path: path.into() });
        }
        refuse_foreign(path, known)?;
        let path = path.into();
        Ok(Self { path, _lock })
    }

    /// Makes it a data directory, of a new node of this cluster.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn finish(self, cluster_id: String, shards: u16) -> Result<(), Error> {
        let io = |source| Error::Io {
            path: self.path.clone(),
            source,
        };
        create(&self.path, cluster_id, shards).map_err(io)
    }
}

/// Whether a directory is a data directory.
pub fn exists(path: &Path) -> bool {
    path.join(IDENTITY).exists()
}

/// What a data directory says of itself, without opening it.
///
/// # Errors
/// [`Error::Io`], [`Error::Format`].
pub fn read(path: &Path) -> Result<Identity, Error> {
    let format = |what: String| Error::Format {
        path: path.into(),
        what,
    };
    let text = fs::read_to_string(path.join(IDENTITY)).map_err(|source| Error::Io {
        path: path.into(),
        source,
    })?;
    let identity: Identity = toml::from_str(&text).map_err(|e| format(e.to_string()))?;
    if identity.format_version > FORMAT_VERSION {
        let what = format!(
            "its format is {}, this version knows up to {FORMAT_VERSION}; upgrade",
            identity.format_version
        );
        return Err(format(what));
    }
    if identity.shards == 0 {
        return Err(format("it has no shards".into()));
    }
    Ok(identity)
}

fn lock(path: &Path) -> Result<File, Error> {
    let io = |source| Error::Io {
        path: path.into(),
        source,
    };
    let options = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .to_owned();
    let file = options.open(path.join(LOCK)).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: path.into() }),
        Err(e) => Err(io(e.into())),
    }
}

/// A directory with somebody else's files is not made ours.
fn refuse_foreign(path: &Path, known: &[&str]) -> Result<(), Error> {
    let io = |source| Error::Io {
        path: path.into(),
        source,
    };
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        // What a start that was cut short may have left.
        let ours = [LOCK, "flowstone.toml.tmp", "lost+found"]
            .iter()
            .any(|n| name == *n)
            || known.iter().any(|n| name == *n);
        if !ours {
            let what = format!("it has no {IDENTITY} and is not empty ({})", name.display());
            return Err(Error::Format {
                path: path.into(),
                what,
            });
        }
    }
    Ok(())
}

/// Makes a directory that of a new node.
fn create(path: &Path, cluster_id: String, shards: u16) -> io::Result<()> {
    let identity = Identity {
        format_version: FORMAT_VERSION,
        node_id: random_id()?,
        cluster_id,
        shards,
    };
    let text = toml::to_string(&identity).map_err(io::Error::other)?;
    let unfinished = path.join("flowstone.toml.tmp");
    let mut out = File::create(&unfinished)?;
    out.write_all(b"# Made by flowstone; says whose directory this is. Not settings.\n")?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&unfinished, path.join(IDENTITY))?;
    File::open(path)?.sync_all()
}

/// 64 bits of the kernel's randomness.
pub(crate) fn random_number() -> io::Result<u64> {
    random().map(u64::from_le_bytes)
}

/// 128 bits of the kernel's randomness, in hexadecimal.
pub fn random_id() -> io::Result<String> {
    let bytes: [u8; 16] = random()?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_locked_and_foreign_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), 3).unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), 3),
            Err(Error::InUse { .. })
        ));
        let identity = first.identity.clone();
        drop(first);
        let again = DataDir::open(dir.path(), 9).unwrap();
        assert_eq!(again.identity, identity, "the number of shards is fixed");
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(
            DataDir::open(foreign.path(), 1),
            Err(Error::Format { .. })
        ));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), 1).unwrap());
        let file = dir.path().join(IDENTITY);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(
            &file,
            text.replace("format_version = 1", "format_version = 99"),
        )
        .unwrap();
        let text = DataDir::open(dir.path(), 1).unwrap_err().to_string();
        assert!(text.contains("its format is 99"), "{text}");
    }
}
