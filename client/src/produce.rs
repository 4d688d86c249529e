//! Producing: records are gathered into batches, numbered, sent and, where that is safe, sent again.
//!
//! ```text
//!  enqueue --> accumulator (per partition) --> window --> lane (per partition) --> transport
//!     |          open batch, full batches       whose      numbers, order,
//!     v                                         turn       retries
//!   ticket <---------- outcome of the batch -----------------+
//! ```
//! The accumulators are the only thing that callers and the one sender task share.

mod accumulator;
mod budget;
mod builder;
mod lane;
mod options;
mod producer;
mod renumber;
mod sender;
mod shared;
mod ticket;
mod window;

pub use builder::ProducerBuilder;
pub use producer::Producer;
pub use ticket::{Receipt, Ticket};

#[cfg(test)]
mod tests;
