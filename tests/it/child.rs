//! Processes: finding the real binary, running its commands, and waiting no longer than allowed.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

/// No command of these tests takes longer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The binary: `FLOWSTONE_BIN`, or the one of this workspace, brought up to date once per process.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("FLOWSTONE_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// A test is named beside the binary; see [`cargo_build`].
fn build() -> PathBuf {
    cargo_build(&["--bin", "flowstone", "--test", "tidy"]).join("flowstone")
}

/// Builds targets of the workspace, and says where they are. Cargo names the binaries of other
/// packages to nobody, but it puts them two levels above this test's own: TARGET/debug/deps/it-0123
/// and TARGET/debug/flowstone. For the whole workspace and with a test or an example among the
/// targets, the crates of others get the features that `cargo test --workspace` built them with;
/// for a package alone, all of them would be built again. So they would where what cargo says to
/// this test about its package were handed on: the script that builds `ring` looks at it.
pub(crate) fn cargo_build(targets: &[&str]) -> &'static Path {
    let (profile_dir, profile) = profile_dir();
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let of_package = |n: &str| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(&name);
        }
    }
    let built = cargo
        .args(["build", "--quiet", "--locked", "--workspace"])
        .args(targets)
        .args(["--profile", profile, "--target-dir"])
        .arg(profile_dir.parent().unwrap())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{targets:?} do not build:\n{said}");
    profile_dir
}

/// The directory of this build, and the profile that makes it.
fn profile_dir() -> (&'static Path, &'static str) {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let exe = std::env::current_exe().unwrap();
        exe.parent().and_then(Path::parent).unwrap().to_path_buf()
    });
    match dir.file_name().and_then(|n| n.to_str()) {
        Some("debug") => (dir, "dev"),
        Some(other) => (dir, other),
        None => panic!("{} is in no target directory", dir.display()),
    }
}

/// Waits for a child's end; `None` if it takes longer.
pub(crate) fn wait(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    // A child that nobody has waited for keeps its number, also when it has ended.
    let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let time = Timespec::try_from(at_most).unwrap();
    match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&time)) {
        Ok(0) => None,
        _ => Some(child.wait().unwrap()),
    }
}

/// Reads a pipe to its end on a thread of its own.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        pipe.read_to_end(&mut all).unwrap();
        all
    })
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Finished {
    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Runs `flowstone` with these arguments and this standard input.
pub(crate) fn run(args: &[&str], input: &[u8]) -> Finished {
    let mut child = Command::new(binary())
        .args(args)
        .env_remove("FLOWSTONE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || {
        // A command that reads nothing may end first.
        let _ = stdin.write_all(&input);
    });
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    let status = wait(&mut child, COMMAND_TIMEOUT);
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    writer.join().unwrap();
    let err = String::from_utf8_lossy(&err.join().unwrap()).into_owned();
    let status = status.unwrap_or_else(|| panic!("`flowstone {args:?}` does not end: {err}"));
    Finished {
        code: status.code(),
        out: out.join().unwrap(),
        err,
    }
}

/// As [`run`], for a command that must succeed.
#[track_caller]
pub(crate) fn run_ok(args: &[&str], input: &[u8]) -> Finished {
    let finished = run(args, input);
    assert_eq!(finished.code, Some(0), "{args:?}: {}", finished.err);
    finished
}
