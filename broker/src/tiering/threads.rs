//! The threads of the tier: its checksums, signatures and copies wait for whatever else there is to do.

use crate::low_priority;
use std::io;
use tokio::runtime::Runtime;

/// More would be awake at a time, each in the way of a thread that is woken for a producer.
const THREADS: usize = 1;
/// Reads that wait for the bucket, proofs of local files, and chunks on their way to the disk.
const BLOCKING_MAX: usize = 24;

/// Threads of their own, behind all others in line for a core: an upload that takes its time harms
/// nobody, an acknowledgement that waits for one does.
///
/// # Errors
/// What the operating system says.
pub(crate) fn threads() -> io::Result<Runtime> {
    low_priority::threads("tier", THREADS, BLOCKING_MAX, || {})
}
