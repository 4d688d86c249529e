//! Large files go in small steps.
//!
//! A file system frees all blocks of a file at once when the last who has it lets it go, and whoever syncs another
//! file meanwhile waits: 22 to 25 ms for 128 MiB on ext4 that discards what it frees. So a file that was removed is
//! kept open here until nobody else has it, is made shorter piece by piece with pauses in between, and closed. Its name
//! is gone from the beginning; what a crash leaves the file system frees when it is mounted.

use crate::sys::is_sole_owner;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Smaller files are freed at once.
pub(crate) const LARGE_BYTES: u64 = 8 << 20;
/// Bytes that are freed at a time.
const STEP_BYTES: u64 = 4 << 20;
/// Files that wait; what comes beyond is freed at once.
const WAITING_MAX: usize = 64;
/// Between two looks whether files that others have are free.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Whoever has a file for longer frees it.
const PATIENCE: Duration = Duration::from_secs(600);
/// Behind each step others have the file system for so many times as long as it took.
const PAUSE_FACTOR: u32 = 4;
/// And no longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Takes a file whose name is gone, open for writing.
pub(crate) fn take(file: File) {
    static QUEUE: OnceLock<Option<SyncSender<File>>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (sender, files) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("reaper".into());
        // Without a thread files are freed at once.
        thread.spawn(move || run(&files)).ok().map(|_| sender)
    });
    if let Some(queue) = queue {
        // One too many is closed here.
        drop(queue.try_send(file));
    }
}

fn run(files: &Receiver<File>) {
    let mut waiting = Waiting::default();
    let mut pause = None;
    loop {
        let come = match pause {
            None => files.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(pause) => files.recv_timeout(pause),
        };
        match come {
            Ok(file) => waiting.push(file),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        pause = waiting.step();
    }
}

/// Files whose names are gone, and since when they wait.
#[derive(Default)]
struct Waiting(VecDeque<(File, Instant)>);

impl Waiting {
    fn push(&mut self, file: File) {
        if self.0.len() < WAITING_MAX {
            self.0.push_back((file, Instant::now()));
        }
    }

    /// Makes one file shorter that nobody else has; says how long others have the file system then. `None` where
    /// nothing is left to do.
    fn step(&mut self) -> Option<Duration> {
        for _ in 0..self.0.len() {
            let (file, since) = self.0.pop_front()?;
            if !is_sole_owner(&file) {
                if since.elapsed() < PATIENCE {
                    self.0.push_back((file, since));
                }
                continue;
            }
            let begun = Instant::now();
            if shorten(&file) {
                self.0.push_front((file, since));
            }
            return Some((begun.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX));
        }
        (!self.0.is_empty()).then_some(LOOK_AGAIN)
    }
}

/// Takes a step off the end of a file; says whether there is another one. What cannot be is freed when it is closed.
fn shorten(file: &File) -> bool {
    let len = file.metadata().map_or(0, |m| m.len());
    len > STEP_BYTES && file.set_len(len - STEP_BYTES).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn a_file_that_others_have_waits_and_then_goes_step_by_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let open = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let (file, other) = (open(), open());
        file.set_len(2 * STEP_BYTES + 5).unwrap();
        let len = file.try_clone().unwrap();
        let len = || len.metadata().unwrap().len();
        let mut waiting = Waiting::default();
        waiting.push(file);
        assert_eq!(waiting.step(), Some(LOOK_AGAIN));
        assert_eq!(len(), 2 * STEP_BYTES + 5);
        drop(other);
        assert!(waiting.step().is_some());
        assert_eq!(len(), STEP_BYTES + 5);
        assert!(waiting.step().is_some());
        assert_eq!(len(), 5);
        assert!(waiting.step().is_some(), "it is closed");
        assert_eq!(waiting.step(), None);
    }
}
