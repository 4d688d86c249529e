//! Numbers that nobody else has drawn.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

/// A number that differs from process to process and from call to call. Not for secrets.
pub(crate) fn nonce() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}
