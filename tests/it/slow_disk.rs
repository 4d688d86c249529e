//! A disk that takes few bytes a second, by the kernel's throttle of block devices.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// A group whose processes write slowly. Dropping it removes it; they must have been waited for.
pub(crate) struct SlowDisk {
    dir: PathBuf,
}

impl SlowDisk {
    /// The disk of a directory, at so many bytes a second.
    ///
    /// # Errors
    /// Why there can be none here.
    pub(crate) fn new(of: &Path, bytes_per_s: u64) -> Result<Self, String> {
        let device = device_of(of)?;
        let v1 = Path::new(ROOT).join("blkio");
        // Documentation/admin-guide/cgroup-v1/blkio-controller.rst and cgroup-v2.rst.
        let (parent, file, line) = if v1.join("blkio.throttle.write_bps_device").exists() {
            let line = format!("{device} {bytes_per_s}");
            (v1, "blkio.throttle.write_bps_device", line)
        } else {
            let root = PathBuf::from(ROOT);
            write(&root.join("cgroup.subtree_control"), "+io")?;
            (root, "io.max", format!("{device} wbps={bytes_per_s}"))
        };
        let dir = parent.join(format!("flowstone-slow-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let disk = Self { dir };
        write(&disk.dir.join(file), &line)?;
        Ok(disk)
    }

    /// What a process writes its number to in order to be in the group.
    pub(crate) fn door(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // The kernel may need a moment for a process that was just waited for.
        let gone = || fs::remove_dir(&self.dir).is_ok();
        (0..1000).any(|_| {
            std::thread::yield_now();
            gone()
        });
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Numbers of the whole disk that a directory lies on: partitions are not throttled.
fn device_of(dir: &Path) -> Result<String, String> {
    let number = fs::metadata(dir).map_err(|e| e.to_string())?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let device = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    let at = fs::canonicalize(&device).map_err(|e| format!("{}: {e}", device.display()))?;
    let disk = match at.parent() {
        Some(disk) if at.join("partition").exists() => disk.to_owned(),
        _ => at,
    };
    let text = fs::read_to_string(disk.join("dev")).map_err(|e| e.to_string())?;
    Ok(text.trim().to_owned())
}
