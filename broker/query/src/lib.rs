//! Ad-hoc SQL: queries over what topics hold, and over what comes.
//!
//! ```text
//! text --question--> streams and one query
//!   SELECT                --history--> DataFusion's engine over bounded reads --> batches of columns
//!   SELECT ... EMIT ...   --live-----> a task of the processor, fed as records come --> lines of JSON
//!   INFER SCHEMA FOR topic --inferred--> a CREATE STREAM
//! ```
//!
//! Nothing here starts a thread or opens a socket: records come through a [`Source`], and whoever
//! asks polls the rows, on threads of its own. Dropping an [`Answer`] ends its work.
//!
//! | module | what it is |
//! | - | - |
//! | `question` | what a text asks |
//! | [`source`] | where topics and their records come from |
//! | `fetching` | the batches of a part of a partition |
//! | `restriction` | what the filters of a query say about where to read |
//! | `table`, `scan` | a stream as a table of DataFusion |
//! | [`engine`] | planning and running, within a bound of memory |
//! | `physical` | what DataFusion's own operators lack here |
//! | `live` | queries that follow what comes |
//! | `trial` | what a pipeline would make of the last records |
//! | [`output`] | rows as JSON, Arrow or events |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

mod counters;
pub mod engine;
mod fetching;
mod history;
mod inferred;
mod live;
pub mod output;
mod outputs;
mod physical;
mod question;
mod restriction;
mod scan;
pub mod source;
mod table;
mod trial;
mod unfolded;

pub use counters::Counters;
pub use engine::{Answer, Engine, Limits, Options, Rows};
pub use output::{Encoder, Format};
pub use source::{BoxFuture, Source};
