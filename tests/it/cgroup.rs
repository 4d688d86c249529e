//! A memory cgroup of a test's own: the kernel's word for how much a broker uses, and its knife.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Groups carry the number of their process, so that what a killed one has left is found and no
/// other is touched.
const PREFIX: &str = "flowstone-test-";
const ROOT: &str = "/sys/fs/cgroup";
/// The kernel lets go of a group whose last process was waited for within this.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel itself goes over a limit where an allocation must not fail (`__GFP_NOFAIL`, under
/// "memory.max" in its documentation of cgroup v2): one page was seen. It does so for a few pages,
/// and whoever asks for memory next gives them back.
const FORCED_BYTES: u64 = 1 << 20;

/// The two interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// `Documentation/admin-guide/cgroup-v1/memory.rst`
    V1,
    /// `Documentation/admin-guide/cgroup-v2.rst`
    V2,
}

/// A group with a limit. Dropping it removes it; its processes must have been waited for.
pub(crate) struct Cgroup {
    dir: PathBuf,
    version: Version,
    limit_bytes: u64,
}

/// Says on standard error that a test did not run. The test runner does not swallow it.
pub(crate) fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED: {test} needs root and a memory cgroup: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn parent() -> Result<(PathBuf, Version), String> {
    let v1 = Path::new(ROOT).join("memory");
    if v1.join("memory.limit_in_bytes").exists() {
        return Ok((v1, Version::V1));
    }
    let offered = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"));
    let offered = offered.map_err(|e| format!("{ROOT}/cgroup.controllers: {e}"))?;
    if !offered.split_whitespace().any(|name| name == "memory") {
        return Err(format!("{ROOT} offers '{}'", offered.trim()));
    }
    let given = Path::new(ROOT).join("cgroup.subtree_control");
    fs::write(&given, "+memory").map_err(|e| format!("{}: {e}", given.display()))?;
    Ok((ROOT.into(), Version::V2))
}

/// Removes what processes have left that are gone.
fn sweep(parent: &Path) {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Another process may sweep as well.
                let _ = fs::remove_dir(entry.path());
            }
        }
    });
}

impl Cgroup {
    /// A group whose processes together, page cache included, use at most so many bytes.
    ///
    /// # Errors
    /// Why there can be none here.
    pub(crate) fn new(limit_bytes: u64) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (parent, version) = parent()?;
        sweep(&parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let group = Self {
            dir,
            version,
            limit_bytes,
        };
        let limit = group.file("memory.limit_in_bytes", "memory.max");
        fs::write(&limit, limit_bytes.to_string())
            .map_err(|e| format!("{}: {e}", limit.display()))?;
        Ok(group)
    }

    /// What a process writes its number to in order to be in the group.
    pub(crate) fn door(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    fn file(&self, v1: &str, v2: &str) -> PathBuf {
        self.dir.join(match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        })
    }

    /// A number of a file with a row for each, `name number`.
    fn row(&self, v1: (&str, &str), v2: (&str, &str)) -> u64 {
        let (file, name) = match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        };
        let text = fs::read_to_string(self.dir.join(file)).unwrap();
        let row = text.lines().find_map(|l| l.strip_prefix(name));
        let row = row.unwrap_or_else(|| panic!("no row '{name}' in {file}: {text}"));
        row.trim().parse().unwrap()
    }

    /// Memory that is no file's and so cannot be taken back.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        self.row(("memory.stat", "total_rss "), ("memory.stat", "anon "))
    }

    /// Processes that the kernel has killed because they wanted more.
    pub(crate) fn oom_kills(&self) -> u64 {
        let v1 = ("memory.oom_control", "oom_kill ");
        self.row(v1, ("memory.events", "oom_kill "))
    }

    /// The most that it ever used, page cache included.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let peak = self.file("memory.max_usage_in_bytes", "memory.peak");
        // Kernels before 5.19 do not know the second one; there the limit itself is what holds.
        fs::read_to_string(peak).map_or(self.limit_bytes, |n| n.trim().parse().unwrap())
    }

    /// Holds the group against its limit.
    #[track_caller]
    pub(crate) fn was_enough(&self) {
        assert_eq!(self.oom_kills(), 0, "the kernel has killed the broker");
        let (peak, most) = (self.peak_bytes(), self.limit_bytes + FORCED_BYTES);
        assert!(peak <= most, "{peak} > {most}");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + REMOVE_TIMEOUT;
        while let Err(e) = fs::remove_dir(&self.dir) {
            if e.kind() == ErrorKind::NotFound || Instant::now() > end {
                eprintln!("{}: {e}", self.dir.display());
                return;
            }
            std::thread::yield_now();
        }
    }
}
