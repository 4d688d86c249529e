//! What storage answers when it cannot do what it was asked.

use flowstone_wire::Lsn;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why storage could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk answered with an error.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried, as in "cannot ...".
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// There is no space for another segment.
    #[error(
        "disk is full: {free_bytes} bytes are free, {needed_bytes} are needed; free some space"
    )]
    DiskFull {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes needed, the reserve included.
        needed_bytes: u64,
    },
    /// There is no space for a little more of a file.
    #[error("no space is left for '{}'; free some", path.display())]
    NoSpace {
        /// Which file.
        path: PathBuf,
    },
    /// Bytes that were durable are damaged.
    #[error("'{}' is damaged at byte {position}: LSN {first_lsn} to {last_lsn} were durable and are lost: {what}; restore the file from a copy, or see what `flowstone repair` can save", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The first batch that should be there.
        first_lsn: Lsn,
        /// The last one.
        last_lsn: Lsn,
        /// What is there instead.
        what: String,
    },
    /// A file is not in a format that this version reads.
    #[error("'{}' cannot be read: {what}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The state store answered with an error.
    #[error("state store '{}': {what}", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// What redb said.
        what: String,
    },
    /// A group is larger than a segment.
    #[error("a group of {bytes} bytes does not fit a segment of {segment_bytes} bytes")]
    GroupTooLarge {
        /// Bytes of the group.
        bytes: u64,
        /// Bytes of a segment.
        segment_bytes: u64,
    },
}

impl Error {
    /// Whether there is no such file or object.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::NotFound)
    }

    /// Whether the bytes could not be asked for, so that nothing is known of them: what is wrong with
    /// the way to them passes, or is mended elsewhere.
    pub fn is_unreachable(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            ErrorKind::TimedOut
                | ErrorKind::NotConnected
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::NetworkDown
                | ErrorKind::NetworkUnreachable
                | ErrorKind::HostUnreachable
        )
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
