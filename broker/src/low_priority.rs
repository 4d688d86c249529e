//! Threads that give way to those that serve producers.

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use std::io;
use tokio::runtime::{Builder, Runtime};

/// How far these give way: as far as there is.
const NICE: i32 = 19;

/// A runtime of so many threads of this name, and of at most so many that may wait. Each calls `begin` first.
///
/// # Errors
/// What the operating system says.
pub(crate) fn threads(
    name: &'static str,
    count: usize,
    blocking_max: usize,
    begin: fn(),
) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(count)
        .max_blocking_threads(blocking_max)
        .thread_name(name)
        .on_thread_start(move || {
            give_way(name);
            begin();
        })
        .enable_all()
        .build()
}

/// Linux keeps priorities by thread. Everybody may lower their own.
fn give_way(name: &str) {
    if let Err(e) = setpriority_process(Some(gettid()), NICE) {
        tracing::debug!("a thread '{name}' keeps its priority: {e}");
    }
}
