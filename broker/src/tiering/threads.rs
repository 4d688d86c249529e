//! The threads of the tier: its checksums, signatures and copies wait for whatever else there is to do.

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use std::io;
use tokio::runtime::{Builder, Runtime};

/// More would be awake at a time, each in the way of a thread that is woken for a producer.
const THREADS: usize = 1;
/// Reads that wait for the bucket, proofs of local files, and chunks on their way to the disk.
const BLOCKING_MAX: usize = 24;
/// How far these give way to the threads that serve producers: as far as there is.
const NICE: i32 = 19;

/// Threads of their own, behind all others in line for a core: an upload that takes its time harms
/// nobody, an acknowledgement that waits for one does.
///
/// # Errors
/// What the operating system says.
pub(crate) fn threads() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("tier")
        .on_thread_start(give_way)
        .enable_all()
        .build()
}

/// Linux keeps priorities by thread. Everybody may lower their own.
fn give_way() {
    if let Err(e) = setpriority_process(Some(gettid()), NICE) {
        tracing::debug!("a thread of the tier keeps its priority: {e}");
    }
}
