//! The conformance suite that every [`Disk`] passes.

use crate::disk::{Disk, create_dir_durably};
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;

/// Checks the promises of the seam on an empty disk.
///
/// # Errors
/// What the disk says where it should not.
///
/// # Panics
/// Where a promise is not kept.
pub fn conforms(disk: &dyn Disk) -> io::Result<()> {
    let dir = Path::new("a/b");
    create_dir_durably(disk, dir)?;
    assert!(!disk.create_dir(dir)?, "it is there");
    names(disk, dir)?;
    bytes(disk, dir)?;
    mapping(disk, dir)?;
    if let Some(point) = disk.sync_point(dir)? {
        disk.create(&dir.join("together"), 10)?;
        point.sync()?;
    }
    assert!(disk.free_bytes()? > 0);
    Ok(())
}

fn names(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let (one, two) = (dir.join("one"), dir.join("two"));
    assert_eq!(
        disk.open(&one).err().map(|e| e.kind()),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(
        disk.remove(&one).err().map(|e| e.kind()),
        Some(ErrorKind::NotFound)
    );
    disk.create(&one, 0)?;
    assert_eq!(
        disk.create(&one, 0).err().map(|e| e.kind()),
        Some(ErrorKind::AlreadyExists)
    );
    disk.create(&two, 0)?;
    assert_eq!(disk.list(dir)?, ["one", "two"]);
    disk.rename(&one, &two)?;
    disk.sync_dir(dir)?;
    assert_eq!(disk.list(dir)?, ["two"]);
    disk.remove(&two)?;
    assert_eq!(disk.list(dir)?, Vec::<String>::new());
    Ok(())
}

fn bytes(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let path = dir.join("bytes");
    let file = disk.create(&path, 10_000)?;
    assert_eq!(file.len()?, 10_000);
    let mut out = vec![1; 10_000];
    file.read_at(0, &mut out)?;
    assert!(out.iter().all(|b| *b == 0), "allocated bytes read as zero");
    // More parts than one system call takes.
    let parts: Vec<[u8; 3]> = (0..3000u32).map(|i| [i as u8, 1, 2]).collect();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
    file.write_at(500, &slices)?;
    // What is not written back yet is not dropped.
    file.drop_cached()?;
    file.sync()?;
    file.drop_cached()?;
    let mut out = vec![0; 9000];
    disk.open(&path)?.read_at(500, &mut out)?;
    assert_eq!(out, parts.concat());
    assert_eq!(
        file.read_at(9_999, &mut [0; 2]).err().map(|e| e.kind()),
        Some(ErrorKind::UnexpectedEof)
    );
    file.set_len(501)?;
    file.set_len(600)?;
    let mut out = [9; 100];
    file.read_at(500, &mut out)?;
    assert_eq!(
        (out[0], &out[1..]),
        (0, &[0; 99][..]),
        "what was cut off does not come back"
    );
    disk.remove(&path)?;
    Ok(())
}

fn mapping(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let path = dir.join("mapped");
    let file = disk.create(&path, 8192)?;
    let map = file.map()?;
    file.write_at(100, &[IoSlice::new(b"later")])?;
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
    disk.remove(&path)?;
    assert_eq!(
        &slice[..],
        b"later",
        "a slice outlives the name of its file"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::conforms;
    use crate::{RealDisk, SimDisk};

    #[test]
    fn the_real_disk_conforms() {
        let dir = tempfile::tempdir().unwrap();
        conforms(&RealDisk::new(dir.path()).unwrap()).unwrap();
    }

    #[test]
    fn the_simulated_disk_conforms() {
        conforms(&SimDisk::default()).unwrap();
    }
}
