//! Stages that come with the program; each function makes the factory of a stage.
//!
//! | stage | what it does |
//! | - | - |
//! | [`filter`], [`filter_field`] | passes on some records |
//! | [`map`], [`map_fields`] | changes the value |
//! | [`key_by`], [`key_by_field`] | changes the key |
//! | [`window`] | count, sum, min, max and average by key and time |
//! | [`zscore`] | alerts on values that are unlike the ones before |
//!
//! Those that look into values take them as JSON objects and look at their top level. Where a name
//! is repeated in an object, the last one counts. A value that is not a JSON object is rejected.

mod filter;
mod key_by;
mod map;
pub(crate) mod scalar;
mod window;
mod zscore;

pub use filter::{FieldFilter, FilterOp, filter, filter_field};
pub use key_by::{key_by, key_by_field};
pub use map::{FieldMap, map, map_fields};
pub use window::{Window, window};
pub use zscore::{ZSCORE_SAMPLES_MAX, Zscore, zscore};

use crate::processor::ProcessError;

fn reject(reason: impl Into<String>) -> ProcessError {
    ProcessError::Reject(reason.into())
}

/// A record key in a JSON text: what is not UTF-8 is shown with replacement characters.
fn key_text(key: Option<&[u8]>) -> Option<std::borrow::Cow<'_, str>> {
    key.map(String::from_utf8_lossy)
}

/// A record key as a part of a state key: no key is not the empty key.
fn push_key(out: &mut Vec<u8>, key: Option<&[u8]>) {
    out.push(u8::from(key.is_some()));
    out.extend_from_slice(key.unwrap_or_default());
}

/// What [`push_key`] wrote.
fn pushed_key(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.split_first() {
        Some((1, key)) => Some(key),
        _ => None,
    }
}
