//! Pipelines of SQL, from a text to the records that come out.
#![allow(clippy::unwrap_used, reason = "tests may")]

mod data;
mod docs;
mod golden;
mod infer;
mod oracle;
mod rig;
