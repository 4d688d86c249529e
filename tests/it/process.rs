//! The process of a broker on a site, its log in a file: started, waited for, looked at and ended.

use crate::child;
use crate::server::Site;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// So much of its log is shown when a test fails.
const LOG_LINES: usize = 60;

/// A process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    out: Option<ChildStdout>,
    log: PathBuf,
}

impl Process {
    /// Has a command serve a site, and waits for nothing.
    pub(crate) fn spawn(mut command: Command, site: &Site, doors: &[&str]) -> Self {
        let log = site.file("broker.log");
        let err = OpenOptions::new().create(true).append(true).open(&log);
        let mut child = command
            .arg("serve")
            .args(doors)
            .arg("--data")
            .arg(site.data())
            .arg("--config")
            .arg(site.file("flowstone.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err.unwrap())
            .spawn()
            .unwrap();
        Self {
            out: child.stdout.take(),
            child,
            log,
        }
    }

    /// The line that says that it is ready; empty where it does not come in time.
    pub(crate) fn ready_line(&mut self, at_most: Duration) -> String {
        let mut out = BufReader::new(self.out.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            let _ = sender.send(line);
            // The rest is drained, so that it never waits for a reader.
            let _ = std::io::copy(&mut out, &mut std::io::sink());
        });
        lines.recv_timeout(at_most).unwrap_or_default()
    }

    /// A file of proc(5) about it.
    pub(crate) fn proc_file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    /// Processor time that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(self.proc_file("stat")).unwrap();
        let behind_name = stat.rsplit_once(") ").unwrap().1;
        let fields: Vec<_> = behind_name.split(' ').collect();
        // Fields 14 and 15 of proc(5), in ticks of 10 ms everywhere.
        let ticks = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap());
        Duration::from_millis(ticks.iter().sum::<u64>() * 10)
    }

    /// Lets so much time pass, in which it must not end by itself.
    #[track_caller]
    pub(crate) fn lives_for(&mut self, time: Duration) {
        let ended = child::wait(&mut self.child, time);
        assert_eq!(ended, None, "the broker ended by itself");
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

    /// SIGCONT: it goes on after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// SIGTERM. Returns how it ended.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        match child::wait(&mut self.child, STOP_TIMEOUT) {
            Some(status) => status,
            None => panic!("the broker does not stop"),
        }
    }

    /// What it logged last.
    pub(crate) fn last_line(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{:?}", log.lines().last().unwrap_or_default())
    }

    /// What all processes of the site so far have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // The place may be gone before it.
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!(
                "--- end of the log of the broker:\n{}\n---",
                tail.join("\n")
            );
        }
    }
}
