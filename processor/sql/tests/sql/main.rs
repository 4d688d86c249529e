//! Pipelines of SQL, from a text to the records that come out.
#![allow(clippy::unwrap_used, reason = "tests may")]

mod asof;
mod avro;
mod bounded;
mod counted;
mod data;
mod dedup;
mod docs;
mod every;
mod golden;
mod infer;
mod lookup;
mod nexmark;
mod operators;
mod oracle;
mod regroup;
mod rig;
mod spread;
mod top;
mod ttl;
mod unnest;
