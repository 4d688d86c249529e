//! Tests of tasks, by subject.

mod bulk;
mod failure;
mod input;
mod replay;
mod spill;
mod time;
