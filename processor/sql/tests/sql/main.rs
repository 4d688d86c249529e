//! Pipelines of SQL, from a text to the records that come out.

mod data;
mod docs;
mod golden;
mod oracle;
mod rig;
