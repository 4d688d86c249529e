//! Whether anybody else has a file.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Whether `file`, which is open for writing, is the only one that is open of its inode; what is mapped is open.
/// `false` where that cannot be told.
///
/// A lease for writing is given to the only one who has a file (fcntl(2), `F_SETLEASE`). It is given back at once.
pub(crate) fn is_sole_owner(file: &File) -> bool {
    let lease = |kind: libc::c_int| {
        // SAFETY: this command takes a number and no pointer, and the descriptor is open while `file` is borrowed.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
    };
    lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::map_read_only;
    use std::fs::OpenOptions;

    #[test]
    fn a_file_that_is_open_or_mapped_elsewhere_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let file = open();
        file.set_len(8192).unwrap();
        assert!(is_sole_owner(&file));
        let other = open();
        assert!(!is_sole_owner(&file));
        let map = map_read_only(&other, 8192).unwrap();
        let slice = map.slice(0, 10);
        drop((other, map));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_sole_owner(&file), "a slice is left");
        drop(slice);
        assert!(is_sole_owner(&file));
    }
}
