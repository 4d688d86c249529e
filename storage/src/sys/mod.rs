//! All the unsafe code there is: read-only mappings of files.
//!
//! | file | why | what upholds it |
//! | - | - | - |
//! | `map.rs` | zero-copy reads | files are only ever appended to; a byte is handed out after it was written and is not written again; a mapped file is not truncated |
#![allow(unsafe_code, reason = "the one place where it is allowed")]

mod map;

pub use map::MappedFile;
pub(crate) use map::map_read_only;
