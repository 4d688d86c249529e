//! All the unsafe code there is: read-only mappings of files, and who has them.
//!
//! | file | why | what upholds it |
//! | - | - | - |
//! | `map.rs` | zero-copy reads | files are only ever appended to; a byte is handed out after it was written and is not written again; a mapped file is not truncated |
//! | `lease.rs` | to free large files in steps, once nobody has them mapped | the command takes no pointers |
#![allow(unsafe_code, reason = "the one place where it is allowed")]

mod lease;
mod map;

pub(crate) use lease::is_sole_owner;
pub use map::MappedFile;
pub(crate) use map::map_read_only;
