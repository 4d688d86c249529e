//! SQL for pipelines: statements, plans, and the operators that run them inside a task.
//!
//! ```text
//! text --statement--> statements --plan--> operators --program--> the stage of a pipeline
//! ```
//!
//! Statements are parsed by sqlparser and planned by DataFusion; rows are computed by operators of
//! our own, which call DataFusion's expressions and accumulators on columns. See
//! `docs/decisions/0003-sql.md` for why, and `docs/SQL.md` for what can be said.
//!
//! Like the crate beneath it, this one is pure: no clock, no thread, no lock, no socket.
//!
//! | module | what it is |
//! | - | - |
//! | [`statement`] | what a text says |
//! | [`stream`] | a topic seen as rows |
//! | [`pipeline`] | from statements to pipelines |
//! | [`read`] | the records of a stream as columns |
//! | [`infer`] | which columns records may have |
//! | [`error`] | why a statement is refused, and where |
//! | `plan` | from a query to operators |
//! | `operator` | filter, project, windows, groups, joins, lists, sink |
//! | `program` | the operators as a stage |
//! | `signature` | what state depends on |
//! | `spread`, `exchanged` | a query in two parts, with an exchange between them |
//! | `format` | JSON, separated values, Avro and raw bytes |
//! | `rows`, `flow`, `cell` | what flows, where it flows, and how it is stored |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

mod cell;
mod contained;
pub mod error;

mod exchanged;
mod explain;
mod flow;
mod format;
pub mod infer;
mod operator;
pub mod pipeline;
mod plan;
mod program;
pub mod read;
mod rows;
mod signature;
mod spread;
pub mod statement;
pub mod stream;

pub use error::Error;
pub use format::avro::{Avro, Schema as AvroSchema};
pub use format::encode::Json as JsonRows;
pub use pipeline::{OutputFormat, Planned, Spread, Streams, back_name, front_name, plan_file};
pub use plan::{Lookup, over_history};
pub use statement::{Parsed, Statement};
pub use stream::Stream;
