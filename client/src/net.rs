//! The transport over sockets: to each node one connection per worker, opened when it is needed.

mod address;
mod connection;
mod nodes;
mod pool;
mod reader;
mod requests;
mod socket;
mod writer;

pub(crate) use nodes::Nodes;

#[cfg(test)]
mod tests;
