//! Tests of tasks, by subject.

mod failure;
mod input;
mod replay;
mod time;
