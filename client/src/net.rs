//! The transport over sockets: one connection per worker, opened when it is needed.

mod address;
mod connection;
mod pool;
mod reader;
mod requests;
mod socket;
mod writer;

pub(crate) use pool::Pool;

#[cfg(test)]
mod tests;
