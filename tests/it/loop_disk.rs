//! A file system of its own in a file: it can be filled, and its power can be cut on a real kernel.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Directories of disks carry the number of their process, so that what a killed one has left is
/// found and no other is touched.
const PREFIX: &str = "flowstone-disk-";
/// The kernel lets go of the files of a killed process, its rings included, within this.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

/// A mounted image. Dropping it unmounts it and removes the image.
pub(crate) struct LoopDisk {
    /// Goes last.
    dir: TempDir,
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

fn command(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {args:?}: {}", said.trim()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Says on standard error that a test did not run. The test runner does not swallow it.
pub(crate) fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED: {test} needs root, loop devices, e2fsprogs and xfsprogs: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Unmounts and removes what processes have left that are gone.
fn sweep() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next());
            let gone = owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
            if gone {
                // Not mounted is fine, and so is another process that sweeps as well.
                let _ = command("umount", &["-l", text(&entry.path().join("mount"))]);
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
}

impl LoopDisk {
    /// A new file system of so many bytes, of which only those are taken that are written.
    ///
    /// # Errors
    /// Why this machine cannot: this is not root, there are no loop devices, a program is missing.
    pub(crate) fn new(kind: Kind, size_bytes: u64) -> Result<Self, String> {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(size_bytes).unwrap();
        std::fs::create_dir(&mount).unwrap();
        match kind {
            Kind::Ext4 => command("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?,
            Kind::Xfs => command("mkfs.xfs", &["-q", text(&image)])?,
        };
        let mut disk = Self {
            dir,
            image,
            mount,
            mounted: false,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// As [`new`](Self::new), for a disk whose power is to be cut.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn with_power(kind: Kind, size_bytes: u64) -> Result<Self, String> {
        command("xfs_io", &["-V"])?;
        Self::new(kind, size_bytes)
    }

    fn mount(&mut self) -> Result<(), String> {
        let (image, mount) = (text(&self.image), text(&self.mount));
        command("mount", &["-o", "loop", image, mount])?;
        self.mounted = true;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// A file that takes up room.
    pub(crate) fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    /// Cuts the power: nothing reaches the disk any more, and what the file system had not yet put
    /// into its log by itself is gone. Without `-f` this is the ioctl with the flag NOLOGFLUSH, also
    /// on ext4 ("shut down requested (2)", says the kernel).
    pub(crate) fn cut_power(&self) {
        command("xfs_io", &["-x", "-c", "shutdown", text(&self.mount)]).unwrap();
        let mut probe = std::fs::File::create(self.mount.join("probe"));
        if let Ok(file) = &mut probe {
            probe = file.sync_all().map(|()| file.try_clone().unwrap());
        }
        assert!(probe.is_err(), "the file system lives on");
    }

    /// Mounts again what the disk has kept. Nobody may have a file open there.
    pub(crate) fn power_up(&mut self) {
        self.unmount().unwrap();
        self.mount().unwrap();
    }

    /// Never lazily: a second mount of an image that the kernel still writes to would damage it.
    fn unmount(&mut self) -> Result<(), String> {
        let since = Instant::now();
        // An ended process may still be let go of; nobody tells when that is over.
        while let Err(why) = command("umount", &[text(&self.mount)]) {
            if !why.contains("busy") || since.elapsed() > UNMOUNT_TIMEOUT {
                return Err(why);
            }
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        if let Err(why) = self.unmount() {
            let dir = self.dir.path().display();
            eprintln!("the image in {dir} is unmounted when it is no longer in use: {why}");
            // Whoever has a file open there keeps the device until it ends.
            let _ = command("umount", &["-l", text(&self.mount)]);
        }
    }
}
