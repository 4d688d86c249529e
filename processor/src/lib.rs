//! What is computed: pipelines of stages, and the tasks that run them in exact, replayable steps.
//!
//! A *pipeline* is a tree of stages from source topics to sink topics. A *task* is a pipeline on
//! one shard. A *step* of a task reads some input records and gives out one [`Delta`]: outputs,
//! state changes, consumed positions, timers and watermark, to be appended as one group. A fresh
//! task that applies the deltas in order is in the state of the task that produced them, whatever
//! the code of the stages does: nothing is visible except through deltas.
//!
//! This crate is pure: it reads no clock, opens no socket, starts no thread and holds no lock.
//!
//! | module | what it is |
//! | - | - |
//! | [`processor`] | the code of a stage: the trait, its errors, its timers |
//! | [`record`] | a record as a stage sees it |
//! | [`bulk`] | a first stage that takes many records at once |
//! | [`context`] | what a stage can do: emit, state, timers, time |
//! | [`pipeline`] | the tree of stages, its names and its options |
//! | [`chain`] | a pipeline without branches, written as one expression |
//! | [`spec`] | a pipeline as data, from TOML or JSON |
//! | [`task`] | a pipeline at work: steps, replay, deadlines |
//! | [`delta`] | what a step changed, and its bytes |
//! | [`output`] | the records a step gave out |
//! | [`parts`] | what the parts of a stage have done |
//! | [`builtin`] | filter, map, key_by, window, zscore |
//! | [`rfc3339`] | times in text |
//! | `unit`, `store`, `timers`, `inputs` | the parts of a task: one undoable turn, state, timers, positions and watermarks |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]

pub mod builtin;
pub mod bulk;
pub mod chain;
pub mod contained;
pub mod context;
pub mod delta;
mod inputs;
pub mod output;
pub mod parts;
pub mod pipeline;
pub mod processor;
pub mod record;
pub mod rfc3339;
#[cfg(test)]
#[path = "tests/rig.rs"]
mod rig;
mod sizes;
pub mod spec;
mod spilled;
mod store;
pub mod task;
mod timers;
mod unit;

pub use bulk::{Bulk, BulkProcessor, BulkRecord, Cause, Reading, TaskTime};
pub use chain::Chain;
pub use context::Context;
pub use delta::{Delta, DeltaState};
pub use output::{Output, Outputs};
pub use parts::{Part, PartStats, PartStatus};
pub use pipeline::{NodeRef, Pipeline, PipelineBuilder, PipelineOptions, SinkRef, SourceOptions};
pub use processor::{ProcessError, Processor, TimeKind, Timer};
pub use record::{Headers, Record};
pub use spec::{PipelineSpec, StageSpec};
pub use task::{Found, Input, LeftOut, StepLimits, Task, TaskStats, Wanted};
