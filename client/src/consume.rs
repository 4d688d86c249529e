//! Consuming: one fetch per partition runs ahead, answers are checked, records are handed out.

mod builder;
mod consumer;
mod fetch;
mod fetcher;
mod records;

pub use builder::{ConsumerBuilder, ReadFrom};
pub use consumer::Consumer;
pub use records::{RecordIter, Records};

#[cfg(test)]
mod tests;
