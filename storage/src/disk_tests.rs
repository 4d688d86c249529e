//! The conformance suite that every [`Disk`] passes.

use crate::disk::Disk;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

/// Checks the promises of the seam on an empty disk.
///
/// # Panics
/// Where a promise is not kept.
#[allow(clippy::unwrap_used, reason = "a conformance suite fails by panicking")]
pub fn conforms(disk: &dyn Disk) {
    let dir = Path::new("a/b");
    disk.create_dir(dir).unwrap();
    disk.create_dir(dir).unwrap();
    names(disk, dir);
    bytes(disk, dir);
    mapping(disk, dir);
    assert!(disk.free_bytes().unwrap() > 0);
}

#[allow(clippy::unwrap_used, reason = "a conformance suite fails by panicking")]
fn names(disk: &dyn Disk, dir: &Path) {
    let (one, two) = (dir.join("one"), dir.join("two"));
    assert_eq!(disk.open(&one).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove(&one).unwrap_err().kind(), ErrorKind::NotFound);
    disk.create(&one, 0).unwrap();
    assert_eq!(
        disk.create(&one, 0).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    disk.create(&two, 0).unwrap();
    assert_eq!(disk.list(dir).unwrap(), ["one", "two"]);
    disk.rename(&one, &two).unwrap();
    disk.sync_dir(dir).unwrap();
    assert_eq!(disk.list(dir).unwrap(), ["two"]);
    disk.remove(&two).unwrap();
    assert_eq!(disk.list(dir).unwrap(), Vec::<String>::new());
}

#[allow(clippy::unwrap_used, reason = "a conformance suite fails by panicking")]
fn bytes(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("bytes");
    let file = disk.create(&path, 10_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_000);
    let mut out = vec![1; 10_000];
    file.read_at(0, &mut out).unwrap();
    assert!(out.iter().all(|b| *b == 0), "allocated bytes read as zero");
    // More parts than one system call takes.
    let parts: Vec<[u8; 3]> = (0..3000u32).map(|i| [i as u8, 1, 2]).collect();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
    file.write_at(500, &slices).unwrap();
    file.sync().unwrap();
    let mut out = vec![0; 9000];
    disk.open(&path).unwrap().read_at(500, &mut out).unwrap();
    assert_eq!(out, parts.concat());
    assert_eq!(
        file.read_at(9_999, &mut [0; 2]).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    file.set_len(501).unwrap();
    file.set_len(600).unwrap();
    let mut out = [9; 100];
    file.read_at(500, &mut out).unwrap();
    assert_eq!(
        (out[0], &out[1..]),
        (0, &[0; 99][..]),
        "what was cut off does not come back"
    );
    disk.remove(&path).unwrap();
}

#[allow(clippy::unwrap_used, reason = "a conformance suite fails by panicking")]
fn mapping(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("mapped");
    let file = disk.create(&path, 8192).unwrap();
    let map = file.map().unwrap();
    file.write_at(100, &[IoSlice::new(b"later")]).unwrap();
    let slice = map.slice(100, 5);
    assert_eq!(
        &slice[..],
        b"later",
        "a mapping shows what is written later"
    );
    assert!(
        map.slice(8190, 5).is_empty(),
        "nothing is served behind the end"
    );
    disk.remove(&path).unwrap();
    assert_eq!(
        &slice[..],
        b"later",
        "a slice outlives the name of its file"
    );
}

#[cfg(test)]
mod tests {
    use super::conforms;
    use crate::{RealDisk, SimDisk};

    #[test]
    fn the_real_disk_conforms() {
        let dir = tempfile::tempdir().unwrap();
        conforms(&RealDisk::new(dir.path()).unwrap());
    }

    #[test]
    fn the_simulated_disk_conforms() {
        conforms(&SimDisk::default());
    }
}
