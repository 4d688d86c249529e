//! A broker whose process is looked at from outside, also before it is ready and while it fails.

use crate::child;
use crate::http::Http;
use crate::server::Site;
use flowstone_client::Client;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A start behind a power cut takes no longer.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// So much of its log is shown when a test fails.
const LOG_LINES: usize = 60;

/// A process on a site. Dropping it kills it.
pub(crate) struct Launched {
    child: Child,
    out: Option<ChildStdout>,
    log: PathBuf,
    since: Instant,
    unix_url: String,
    http: Option<Http>,
}

impl Launched {
    /// Starts a broker and waits for nothing.
    pub(crate) fn spawn(site: &Site) -> Self {
        let log = site.file("broker.log");
        let err = OpenOptions::new().create(true).append(true).open(&log);
        let mut child = Command::new(child::binary())
            .args(["serve", "--native", "", "--http", "127.0.0.1:0"])
            .arg("--data")
            .arg(site.data())
            .arg("--config")
            .arg(site.file("flowstone.toml"))
            .arg("--native-unix")
            .arg(site.file("native.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err.unwrap())
            .spawn()
            .unwrap();
        Self {
            out: child.stdout.take(),
            child,
            log,
            since: Instant::now(),
            unix_url: site.unix_url(),
            http: None,
        }
    }

    /// Starts a broker and waits until it is ready.
    pub(crate) fn start(site: &Site) -> Self {
        let mut launched = Self::spawn(site);
        launched.ready();
        launched
    }

    /// Waits until it is ready, which it must be soon. Returns how long that took.
    pub(crate) fn ready(&mut self) -> Duration {
        let mut out = BufReader::new(self.out.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            // The rest is drained, so that it never waits for a reader.
            let _ = sender.send(line);
            let _ = std::io::copy(&mut out, &mut std::io::sink());
        });
        let left = READY_TIMEOUT.saturating_sub(self.since.elapsed());
        let line = lines.recv_timeout(left).unwrap_or_default();
        let took = self.since.elapsed();
        let address = line
            .split_whitespace()
            .find_map(|w| w.strip_prefix("http="));
        let Some(address) = address else {
            panic!("not ready after {took:?}, it says '{line}'");
        };
        self.http = Some(Http(address.parse().unwrap()));
        took
    }

    pub(crate) fn http(&self) -> Http {
        self.http.expect("it is ready")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.unix_url).await.unwrap()
    }

    /// Lets so much time pass, in which the process must not end by itself.
    #[track_caller]
    pub(crate) fn lives_for(&mut self, time: Duration) {
        let ended = child::wait(&mut self.child, time);
        assert_eq!(ended, None, "the broker ended by itself");
    }

    /// Processor time that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let behind_name = stat.rsplit_once(") ").unwrap().1;
        let fields: Vec<_> = behind_name.split(' ').collect();
        // Fields 14 and 15 of proc(5), in ticks of 10 ms everywhere.
        let ticks: u64 = [11, 12]
            .map(|at: usize| fields[at].parse::<u64>().unwrap())
            .iter()
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// SIGKILL. That it had ended by itself before is an error.
    #[track_caller]
    pub(crate) fn kill(mut self) {
        self.lives_for(Duration::ZERO);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP, and waits until no thread of it runs any more. What it has asked of the kernel goes on.
    pub(crate) fn freeze(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
    }

    /// SIGTERM. Returns how the process ended.
    #[track_caller]
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
        let status = self.terminate();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// What all its processes so far have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!(
                "--- end of the log of the broker:\n{}\n---",
                tail.join("\n")
            );
        }
    }
}
