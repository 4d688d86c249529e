//! A broker whose process is looked at from outside, also before it is ready and while it fails.

use crate::child;
use crate::http::Http;
use crate::process::Process;
use crate::server::Site;
use flowstone_client::Client;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// A start behind a power cut takes no longer.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// A process on a site. Dropping it kills it.
pub(crate) struct Launched {
    process: Process,
    since: Instant,
    unix_url: String,
    http: Option<Http>,
}

impl Launched {
    /// Starts a broker and waits for nothing.
    pub(crate) fn spawn(site: &Site) -> Self {
        let mut doors = vec!["--native", "", "--http", "127.0.0.1:0"];
        let socket = site.file("native.sock");
        doors.extend(["--native-unix", socket.to_str().unwrap()]);
        Self {
            process: Process::spawn(Command::new(child::binary()), site, &doors),
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
        let left = READY_TIMEOUT.saturating_sub(self.since.elapsed());
        let line = self.process.ready_line(left);
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
        self.process.lives_for(time);
    }

    /// Processor time that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// SIGKILL. That it had ended by itself before is an error.
    #[track_caller]
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// SIGSTOP, as [`Process::freeze`].
    pub(crate) fn freeze(&self) {
        self.process.freeze();
    }

    /// SIGTERM. Returns how the process ended.
    #[track_caller]
    pub(crate) fn terminate(self) -> ExitStatus {
        self.process.terminate()
    }

    /// SIGTERM, and the process must end well.
    #[track_caller]
    pub(crate) fn stop(self) {
        let status = self.terminate();
        assert_eq!(status.code(), Some(0), "{status}");
    }
}
