//! A broker that gets little: memory from a cgroup, few file descriptors.

use crate::cgroup::Cgroup;
use crate::child;
use crate::http::Http;
use crate::process::Process;
use crate::server::Site;
use crate::slow_disk::SlowDisk;
use flowstone_client::Client;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What a broker may have.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits<'a> {
    pub(crate) memory: Option<&'a Cgroup>,
    /// Writing.
    pub(crate) disk: Option<&'a SlowDisk>,
    /// File descriptors.
    pub(crate) files: Option<u64>,
}

/// A process on a site. Dropping it kills it.
pub(crate) struct Confined {
    process: Process,
    native: SocketAddr,
    http: SocketAddr,
}

/// The shell goes into the group and lowers its limit before it becomes the broker: nothing of the
/// broker's is ever counted elsewhere.
fn command(limits: Limits<'_>) -> Command {
    let mut script = String::from("set -e\n");
    if let Some(files) = limits.files {
        script += &format!("ulimit -n {files}\n");
    }
    let memory = limits.memory.map(Cgroup::door);
    let doors = memory.into_iter().chain(limits.disk.map(SlowDisk::door));
    let mut command = Command::new("sh");
    for (n, door) in doors.enumerate() {
        let name = format!("DOOR_{n}");
        script += &format!("echo $$ > \"${name}\"\n");
        command.env(name, door);
    }
    script += "exec \"$@\"";
    command.args(["-c", &script, "sh"]);
    command.arg(child::binary());
    command
}

impl Confined {
    /// Starts a broker and waits until it is ready.
    pub(crate) fn start(site: &Site, limits: Limits<'_>) -> Self {
        let doors = ["--native", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let mut process = Process::spawn(command(limits), site, &doors);
        let line = process.ready_line(READY_TIMEOUT);
        let word = |name: &str| {
            let found = line.split_whitespace().find_map(|w| w.strip_prefix(name));
            let address = found.map(|w| w.parse().unwrap());
            address.unwrap_or_else(|| panic!("not ready, it says '{line}'"))
        };
        Self {
            native: word("native="),
            http: word("http="),
            process,
        }
    }

    /// Address of the native door.
    pub(crate) fn native(&self) -> SocketAddr {
        self.native
    }

    /// The HTTP door.
    pub(crate) fn http(&self) -> Http {
        Http(self.http)
    }

    pub(crate) async fn client(&self) -> Client {
        let url = format!("tcp://{}", self.native);
        Client::connect(&url).await.unwrap()
    }

    /// Processor time that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// File descriptors that it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(self.process.proc_file("fd"))
            .unwrap()
            .count()
    }

    /// Looks at its memory from now on.
    pub(crate) fn watch_memory(&self) -> MemoryWatch {
        MemoryWatch::start(self.process.proc_file("status"))
    }

    /// It must not have ended by itself.
    #[track_caller]
    pub(crate) fn lives(&mut self) {
        self.process.lives_for(Duration::ZERO);
    }

    /// SIGKILL. That it had ended by itself before is an error.
    #[track_caller]
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// What all its processes so far have logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// Keeps the most memory that a broker had, without the pages of mapped files.
pub(crate) struct MemoryWatch {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    looking: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    fn start(status: PathBuf) -> Self {
        let (most, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, stopping) = (most.clone(), stop.clone());
        let looking = tokio::spawn(async move {
            let mut clock = tokio::time::interval(LOOK);
            while !stopping.load(Ordering::Relaxed)
                && let Some(bytes) = anonymous_bytes(&status)
            {
                seen.fetch_max(bytes, Ordering::Relaxed);
                clock.tick().await;
            }
        });
        Self {
            most,
            stop,
            looking: Some(looking),
        }
    }

    /// The most so far, in bytes.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Holds the most so far against a bound.
    #[track_caller]
    pub(crate) fn stayed_below(&self, bytes: u64) {
        let most = self.most();
        assert!(most < bytes, "{most} bytes of memory, {bytes} are allowed");
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
    }
}

/// `None` when the process is gone.
fn anonymous_bytes(status: &PathBuf) -> Option<u64> {
    use std::io::Read;
    let mut text = String::new();
    File::open(status).ok()?.read_to_string(&mut text).ok()?;
    let row = text.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kib: u64 = row.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// Lets so much time pass, to shape a load: nothing depends on what happens in it.
pub(crate) async fn pass(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// A number from the environment, or `default`: how long or how large a test is.
pub(crate) fn size_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |s| s.parse().unwrap())
}
