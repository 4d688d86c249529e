//! A broker in a process of its own, on a temporary directory that outlives it.

use crate::child;
use flowstone_client::Client;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// Nothing that a test waits for takes longer on any machine, unless it never comes.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for an event that must come.
#[track_caller]
pub(crate) fn within<T>(what: &str, event: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(EVENT_TIMEOUT, event).await {
            Ok(value) => value,
            Err(_) => panic!("{place}: {what}: not within {} s", EVENT_TIMEOUT.as_secs()),
        }
    }
}

/// A place for a broker: settings, data and a socket. The processes on it come and go.
pub(crate) struct Site {
    dir: TempDir,
    data: PathBuf,
}

impl Site {
    /// A new place. `log` are further lines of the table `[log]`, `rest` further tables.
    pub(crate) fn new(log: &str, rest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let site = Self { dir, data };
        site.set(log, rest);
        site
    }

    /// A place with its data elsewhere.
    pub(crate) fn with_data(log: &str, rest: &str, data: &Path) -> Self {
        let mut site = Self::new(log, rest);
        site.data = data.into();
        site
    }

    /// Changes the settings for the next start. The segments are as small as they may be.
    pub(crate) fn set(&self, log: &str, rest: &str) {
        let text =
            format!("[log]\nsegment_bytes = 67108864\nmin_free_bytes = 1048576\n{log}\n{rest}\n");
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("flowstone.toml")
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A file for the test's own use.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The URL of the Unix socket: the same for every process.
    pub(crate) fn unix_url(&self) -> String {
        format!("unix://{}", self.file("native.sock").display())
    }

    /// Starts a broker and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Server {
        let mut child = Command::new(child::binary())
            .args(["serve", "--native", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .arg("--data")
            .arg(&self.data)
            .arg("--config")
            .arg(self.config())
            .arg("--native-unix")
            .arg(self.file("native.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = keep(child.stderr.take().unwrap());
        let lines = read_lines(child.stdout.take().unwrap());
        let mut server = Server {
            child,
            log,
            native: String::new(),
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let Ok(ready) = lines.recv_timeout(START_TIMEOUT) else {
            panic!("the broker did not get ready");
        };
        let word = |name: &str| {
            let found = ready.split(' ').find_map(|w| w.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in '{ready}'"))
        };
        server.native = word("native=").to_string();
        server.http = word("http=").parse().unwrap();
        server
    }
}

/// Keeps what is written to a pipe, for the case that the test fails.
fn keep(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeping = kept.clone();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n) = pipe.read(&mut chunk)
            && n > 0
        {
            keeping.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
    });
    kept
}

fn read_lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Only the first one is waited for, the others are drained.
            let _ = sender.send(line);
        }
    });
    lines
}

/// A running broker. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
    native: String,
    http: SocketAddr,
}

impl Server {
    /// Address of the native door.
    pub(crate) fn native(&self) -> SocketAddr {
        self.native.parse().unwrap()
    }

    /// URL of the native door.
    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.native)
    }

    /// Address of the HTTP door.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url()).await.unwrap()
    }

    /// Memory that the process has in use, in bytes, without the pages of mapped files.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        self.memory("RssAnon:")
    }

    fn memory(&self, row: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(row)).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib << 10
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM. Returns how the process ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        match child::wait(&mut self.child, STOP_TIMEOUT) {
            Some(status) => status,
            None => panic!("the broker does not stop"),
        }
    }

    /// SIGTERM, and the process must end well.
    #[track_caller]
    pub(crate) fn stop(self) {
        let log = self.log.clone();
        let status = self.terminate();
        assert_eq!(status.code(), Some(0), "{status}: {}", text(&log));
    }
}

fn text(log: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&log.lock().unwrap()).into_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the broker:\n{}---", text(&self.log));
        }
    }
}
